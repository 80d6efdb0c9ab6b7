"""Speed of training on this machine, and where its time goes.

    pip install -e ".[train]"
    python benchmarks/training.py --data DIR [--recipes tiny speech24k] [--threads 2] [--steps 30]

For every recipe: audio-seconds trained on per second, and the milliseconds of a step that the parts
take on their own: preparing a batch, forward, the losses with their gradient at the audio, backward
from there to the weights. What is left of the step is the optimizer, the codebooks' upkeep and the
averaging. Medians over the steps; the data pipeline is also run alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec.corpus.index import scan
from train.data.batches import Corpus
from train.objective.losses import waveform_loss
from train.recipe.sections import load_recipe
from train.run.devices import make_fabric
from train.run.state import start
from train.run.step import HOPS, Trainer, set_up, train_step, weigh


def milliseconds(work: Callable[[], Any], count: int) -> float:
    """Median over ``count`` calls, after some that warm up."""
    times = []
    for number in range(count + 3):
        began = time.perf_counter()
        work()
        if number >= 3:
            times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


def parts(trainer: Trainer, count: int) -> dict[str, float]:
    """Milliseconds of a step, and of its parts run on their own."""
    batches = trainer.corpus.batches(0)
    batch = next(batches)
    autoencoder, spectral = trainer.autoencoder, trainer.spectral
    windows = spectral.windows[-trainer.recipe.loss.windows_per_step :]
    rng = np.random.default_rng(0)

    def losses(decoded: torch.Tensor) -> torch.Tensor:
        chosen = rng.choice(spectral.windows, len(windows), replace=False)
        terms = spectral(decoded, batch.clean, tuple(map(int, chosen)), HOPS)
        terms["waveform"] = waveform_loss(decoded, batch.clean)
        return weigh(trainer, terms, decoded, with_shares=False)[0]

    def forward_and_backward(gradient: torch.Tensor) -> None:
        decoded = autoencoder(batch.degraded).decoded
        trainer.fabric.backward((decoded * gradient).sum())

    train_step(trainer, batch, 0.0)  # which starts the codebooks
    decoded = autoencoder(batch.degraded).decoded.detach().requires_grad_()
    gradient = losses(decoded)
    figures = {
        "data": milliseconds(lambda: next(batches), count),
        "forward": milliseconds(lambda: autoencoder(batch.degraded), count),
        "losses": milliseconds(lambda: losses(decoded), count),
    }
    both = milliseconds(lambda: forward_and_backward(gradient), count)
    figures["backward"] = both - figures["forward"]
    figures["step"] = milliseconds(lambda: train_step(trainer, next(batches), 0.0), count)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["tiny", "speech24k"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        index = scan(arguments.data, cache=Path(folder) / "index.json")
    print(f"{platform.machine()}, torch {torch.__version__}, {arguments.threads} threads\n")
    columns = ("data", "forward", "losses", "backward", "step")
    print("| recipe | audio-s/s | data alone | " + " | ".join(f"{c} ms" for c in columns) + " |")
    print("|" + "---|" * (3 + len(columns)))
    found = {}
    for name in arguments.recipes:
        recipe = load_recipe(name, tuple(arguments.overrides))
        fabric = make_fabric(recipe, arguments.device)
        trainer = set_up(recipe, fabric, start(recipe), Corpus(index, recipe))
        figures = parts(trainer, arguments.steps)
        seconds = recipe.data.batch_size * recipe.crop_samples / recipe.model.sample_rate
        figures["audio_seconds_per_second"] = 1000 * seconds / figures["step"]
        figures["data_audio_seconds_per_second"] = 1000 * seconds / figures["data"]
        found[name] = figures
        cells = [f"{figures['audio_seconds_per_second']:.1f}"]
        cells += [f"{figures['data_audio_seconds_per_second']:.0f}"]
        cells += [f"{figures[column]:.1f}" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
