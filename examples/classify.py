"""Tell classes of sound apart by the latents of a codec that was never told of classes.

    python examples/classify.py TRAIN VALID [--model MODEL] [--seconds 5] [--every 1]

The class of a recording is the folder that it lies in, or else its name up to the first
underscore. The codec stays as it is: each recording becomes the mean and the deviation of its
latents over time, and a network with one hidden layer learns to tell classes from those.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from codec.corpus.workers import Recordings
from codec.engines.base import Engine
from codec.engines.torch import tensor_model
from codec.io.audio import Samples
from codec.model_folder import DEFAULT_MODEL
from codec.registry import load_engine

HIDDEN = 128
EPOCHS = 200


def describe(engine: Engine, audio: Samples) -> Tensor:
    """Mean and deviation over time of the latents of audio ``[N]``: ``[2 * E]``."""
    latents = tensor_model(engine).embed(torch.from_numpy(audio)[None, None])[0]  # [E, T]
    return torch.cat((latents.mean(1), latents.std(1, correction=0)))


def describe_all(engine: Engine, recordings: Recordings) -> tuple[Tensor, list[str]]:
    """Descriptions ``[files, 2 * E]`` of all recordings, and their classes."""
    kinds, rows = [], []
    for clip, row in recordings.each(engine, describe, title="embedding"):
        kinds.append(clip.kind)
        rows.append(row)
    return torch.stack(rows), kinds


def learn(features: Tensor, labels: Tensor, num_classes: int) -> nn.Module:
    """A classifier of features ``[files, F]``, trained on all of them at once."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm1d(features.shape[1], affine=False, momentum=None),
        nn.Dropout(0.3),
        nn.Linear(features.shape[1], HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(HIDDEN, num_classes),
    )
    # Rare classes count as much as frequent ones.
    counts = labels.bincount(minlength=num_classes).clamp(min=1)
    loss = nn.CrossEntropyLoss(weight=len(labels) / (num_classes * counts))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss(network(features), labels).backward()
        optimizer.step()
    return network.eval()


def main() -> None:
    """Learn from one folder, and say how well it goes on the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=5.0, help="take so much of each file")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of TRAIN only")
    arguments = parser.parse_args()

    engine = load_engine(arguments.model)
    known = Recordings(arguments.train, seconds=arguments.seconds, every=arguments.every)
    features, kinds = describe_all(engine, known)
    classes = sorted(set(kinds))
    network = learn(features, torch.tensor([classes.index(kind) for kind in kinds]), len(classes))

    unknown = Recordings(arguments.valid, seconds=arguments.seconds)
    features, actual = describe_all(engine, unknown)
    with torch.inference_mode():
        guessed = [classes[index] for index in network(features).argmax(1)]
    right = Counter(kind for kind, guess in zip(actual, guessed, strict=True) if kind == guess)
    majority = Counter(kinds).most_common(1)[0][0]
    for kind, count in sorted(Counter(actual).items()):
        print(f"{kind}: {right[kind]} of {count}")
    print(f"accuracy: {right.total() / len(actual):.3f}")
    print(f"always {majority!r}: {actual.count(majority) / len(actual):.3f}")


if __name__ == "__main__":
    main()
