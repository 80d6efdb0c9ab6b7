"""Speed of training on this machine, and the time of each part of a step.

    pip install -e ".[train]"
    python benchmarks/training.py --data DIR [--recipes tiny speech24k] [--threads 2] [--steps 30]

For every recipe: seconds of audio per second of training, the rate of the data pipeline alone, and
the milliseconds of a step by part. The parts are the functions that `train.run.step.train_step`
calls, timed within real steps:

- data: the next batch of the data pipeline
- forward: encoder, quantizer and decoder
- losses: the objective, the codec's adversarial losses, and their gradient at the audio
- discriminators: a step of the discriminators, for recipes that have them from step 0
- backward: the gradient from the audio to the weights
- optimiser: clipping, AdamW, upkeep of the codebooks, average of the weights

Medians over the steps.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codec.corpus.index import scan
from train.recipe.loading import load_recipe
from train.run import step
from train.run.devices import Devices, make_fabric
from train.run.loop import audio_seconds_per_step, make_corpus
from train.run.state import new_state

PARTS = {
    "forward": ("reconstruct",),
    "losses": (
        "reconstruction_losses",
        "generator_losses",
        "weight_gradients",
        "clip_item_gradients",
    ),
    "discriminators": ("train_discriminators",),
    "backward": ("backpropagate",),
    "optimiser": ("update_weights", "finish_step"),
}
"""Functions of `train.run.step` by part of a step."""

WARM_UP_STEPS = 3


@contextmanager
def timed_parts(synchronize: Callable[[], None]) -> Iterator[dict[str, float]]:
    """Time the parts of steps: milliseconds since the counter was cleared.

    Args:
        synchronize: waits for the device, so that times are those of the work itself.
    """
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            synchronize()
            began = time.perf_counter()
            result = function(*arguments, **options)
            synchronize()
            spent[part] += 1000 * (time.perf_counter() - began)
            return result

        return run

    originals = {name: getattr(step, name) for names in PARTS.values() for name in names}
    try:
        for part, names in PARTS.items():
            for name in names:
                setattr(step, name, timed(part, originals[name]))
        yield spent
    finally:
        for name, function in originals.items():
            setattr(step, name, function)


def parts_of_a_step(trainer: step.Trainer, count: int) -> dict[str, float]:
    """Median milliseconds of a step and of its parts, over ``count`` steps."""

    def synchronize() -> None:
        if trainer.fabric.device.type == "cuda":
            torch.cuda.synchronize()

    found: list[dict[str, float]] = []
    batches = trainer.corpus.batches(0)
    with timed_parts(synchronize) as spent:
        for _ in range(WARM_UP_STEPS + count):
            spent.clear()
            began = time.perf_counter()
            batch = next(batches)
            ready = time.perf_counter()
            step.train_step(trainer, batch, progress=0.0)
            synchronize()
            done = time.perf_counter()
            found.append(
                {
                    "data": 1000 * (ready - began),
                    **{part: spent[part] for part in PARTS},
                    "step": 1000 * (done - began),
                }
            )
    measured = found[WARM_UP_STEPS:]
    return {name: float(np.median([each[name] for each in measured])) for name in measured[0]}


def measure(
    recipe_name: str, overrides: list[str], data: Path, device: str, steps: int
) -> dict[str, float]:
    """Figures of one recipe."""
    recipe = load_recipe(recipe_name, tuple(overrides))
    with tempfile.TemporaryDirectory() as folder:
        index = scan(data, cache=Path(folder) / "index.json")
    fabric = make_fabric(recipe.run.precision, Devices(device))
    trainer = step.set_up(recipe, fabric, new_state(recipe), make_corpus(index, recipe))
    figures = parts_of_a_step(trainer, steps)
    seconds = audio_seconds_per_step(trainer)
    figures["audio_seconds_per_second"] = 1000 * seconds / figures["step"]
    figures["data_audio_seconds_per_second"] = 1000 * seconds / figures["data"]
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
    print(f"{platform.machine()}, torch {torch.__version__}, {arguments.threads} threads\n")
    columns = ("data", *PARTS, "step")
    print("| recipe | audio-s/s | data alone | " + " | ".join(f"{c} ms" for c in columns) + " |")
    print("|" + "---|" * (3 + len(columns)))
    found = {}
    for name in arguments.recipes:
        figures = measure(
            name, arguments.overrides, arguments.data, arguments.device, arguments.steps
        )
        found[name] = figures
        cells = [f"{figures['audio_seconds_per_second']:.1f}"]
        cells += [f"{figures['data_audio_seconds_per_second']:.0f}"]
        cells += [f"{figures[column]:.1f}" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
