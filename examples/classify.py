"""Classify recordings by the latents of a codec that was trained without class labels.

    python examples/classify.py TRAIN VALID [--model MODEL] [--seconds 5] [--every 1]

The class of a recording is the subfolder that contains it or, at the top level, its name up to
the first underscore. The codec is not changed: each recording is described by the mean and the
standard deviation of its latents over time, and a network with one hidden layer is trained to
predict the class from this description.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from codec.arrays import Samples
from codec.corpus.workers import Recordings
from codec.engines.base import Engine
from codec.engines.torch import tensor_model
from codec.model_folder import DEFAULT_MODEL
from codec.registry import load_model

HIDDEN = 128
EPOCHS = 200


def describe(engine: Engine, audio: Samples) -> Tensor:
    """Describe a recording by its latents.

    Args:
        engine: the model.
        audio: samples ``[N]`` at the model's sampling rate.

    Returns:
        Mean and standard deviation of the latents over time, ``[2 * E]``.
    """
    latents = tensor_model(engine).embed(torch.from_numpy(audio)[None, None])[0]  # [E, T]
    return torch.cat((latents.mean(1), latents.std(1, correction=0)))


def describe_all(engine: Engine, recordings: Recordings) -> tuple[Tensor, list[str]]:
    """Descriptions ``[files, 2 * E]`` of all recordings, and their classes."""
    classes, rows = [], []
    for clip, row in recordings.each(engine, describe, title="embedding"):
        classes.append(clip.sound_class)
        rows.append(row)
    return torch.stack(rows), classes


def learn(features: Tensor, labels: Tensor, num_classes: int) -> nn.Module:
    """Train a classifier.

    Args:
        features: descriptions ``[files, F]``.
        labels: index of the class of each file, ``[files]``.
        num_classes: number of classes.

    Returns:
        A network from features ``[n, F]`` to class scores ``[n, num_classes]``.
    """
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.BatchNorm1d(features.shape[1], affine=False, momentum=None),
        nn.Dropout(0.3),
        nn.Linear(features.shape[1], HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(HIDDEN, num_classes),
    )
    # Weighted by inverse frequency, so that rare classes count as much as frequent ones.
    counts = labels.bincount(minlength=num_classes).clamp(min=1)
    loss = nn.CrossEntropyLoss(weight=len(labels) / (num_classes * counts))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss(network(features), labels).backward()
        optimizer.step()
    return network.eval()


def main() -> None:
    """Train on one folder and print the accuracy on another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per file")
    parser.add_argument("--every", type=int, default=1, help="use only every n-th file of TRAIN")
    arguments = parser.parse_args()

    engine = load_model(arguments.model, backend="torch").engine
    recordings = Recordings(arguments.train, seconds=arguments.seconds, every=arguments.every)
    features, labels = describe_all(engine, recordings)
    classes = sorted(set(labels))
    network = learn(features, torch.tensor([classes.index(name) for name in labels]), len(classes))

    recordings = Recordings(arguments.valid, seconds=arguments.seconds)
    features, actual = describe_all(engine, recordings)
    with torch.inference_mode():
        predicted = [classes[index] for index in network(features).argmax(1)]
    correct = Counter(name for name, guess in zip(actual, predicted, strict=True) if name == guess)
    majority = Counter(labels).most_common(1)[0][0]
    for name, count in sorted(Counter(actual).items()):
        print(f"{name}: {correct[name]} of {count}")
    print(f"accuracy: {correct.total() / len(actual):.3f}")
    print(f"always {majority!r}: {actual.count(majority) / len(actual):.3f}")


if __name__ == "__main__":
    main()
