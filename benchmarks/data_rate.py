"""Speed of the data pipeline alone: seconds of crops per second, without training.

    python benchmarks/data_rate.py --data DIR [--recipe speech24k] [--seconds 10]

From memory, from files, with worker processes, with all of [augment]; and the time of each kind of
augmentation per crop. What workers prepare before the measurement begins is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from codec.corpus.index import Index, scan
from train.data.augment import Augmenter
from train.data.batches import Corpus
from train.recipe.loading import load_recipe
from train.recipe.sections import AugmentConfig, TrainConfig
from train.run.loop import make_corpus

NOTHING = AugmentConfig(polarity=False)


@contextmanager
def everything(sample_rate: int) -> Iterator[AugmentConfig]:
    """All of [augment] on every crop, except mixing, which is on every second crop."""
    with tempfile.TemporaryDirectory() as folder:
        noise = 0.1 * np.random.default_rng(0).standard_normal(60 * sample_rate)
        soundfile.write(Path(folder) / "noise.wav", noise, sample_rate)
        yield AugmentConfig(
            gain_db=(-12.0, 4.0),
            resample=0.05,
            mix=0.5,
            noise=folder,
            noise_share=1.0,
            reverb_share=1.0,
            clip_share=1.0,
            band_limit_share=1.0,
        )


def data_rate(corpus: Corpus, recipe: TrainConfig, seconds: float) -> float:
    """Audio-seconds per second that ``corpus`` prepares."""
    batches = corpus.batches(0)
    # Batches that workers have prepared ahead are used up first.
    for _ in range(1 + recipe.data.workers * 3 * corpus.steps_per_run):
        next(batches)
    samples, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        # Whole runs, because the first batch of a run has most of the work.
        samples += sum(next(batches).clean.numel() for _ in range(corpus.steps_per_run))
    rate = samples / recipe.model.sample_rate / (time.perf_counter() - began)
    batches.close()
    return rate


def data_rates(index: Index, recipe: TrainConfig, seconds: float = 10.0) -> dict[str, float]:
    """Audio-seconds per second from memory and files, plain and with all of [augment]."""
    rates = {}
    with everything(recipe.model.sample_rate) as augment:
        for source, memory_gb in (("memory", 1e6), ("files", 0.0)):
            for how, config in (("as in the recipe", recipe.augment), ("all of augment", augment)):
                data = dataclasses.replace(recipe.data, memory_gb=memory_gb)
                changed = dataclasses.replace(recipe, data=data, augment=config)
                for workers in (0, 2):
                    data = dataclasses.replace(data, workers=workers)
                    changed = dataclasses.replace(changed, data=data)
                    corpus = make_corpus(index, changed)
                    name = f"{source}, {how}, {workers} workers"
                    rates[name] = data_rate(corpus, changed, seconds)
    return rates


def augmentation_costs(recipe: TrainConfig, rounds: int = 200) -> dict[str, float]:
    """Milliseconds of each kind of augmentation per crop of the recipe."""
    size, rate = recipe.crop_samples, recipe.model.sample_rate
    rng = np.random.default_rng(0)
    costs = {}
    with everything(rate) as augment:
        parts = {
            "level": ("gain_db",),
            "resample": ("resample",),
            "noise": ("noise", "noise_share"),
            "reverb": ("reverb_share",),
            "clip": ("clip_share",),
            "band limit": ("band_limit_share",),
        }
        for name, keys in parts.items():
            config = dataclasses.replace(NOTHING, **{key: getattr(augment, key) for key in keys})
            augmenter = Augmenter(config, rate, size, memory_gb=1.0)
            source = 0.1 * rng.standard_normal(augmenter.num_source_samples, dtype=np.float32)
            began = time.perf_counter()
            for _ in range(rounds):
                augmenter(source, rng, lambda: source)  # noqa: B023
            costs[name] = 1000 * (time.perf_counter() - began) / rounds
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="speech24k")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    costs = augmentation_costs(recipe)
    rates = data_rates(scan(arguments.data), recipe, arguments.seconds)
    for name, cost in costs.items():
        print(f"{name}: {cost:.2f} ms per crop")
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} audio-seconds per second", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rates": rates, "costs": costs}, indent=1))


if __name__ == "__main__":
    main()
