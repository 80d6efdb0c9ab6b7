"""Random streams: fixed seeds, no collisions."""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import LAPPED
from train.randomness import Stream, generator, seed_torch
from train.recipe.sections import TrainConfig
from train.run.loop import fit


def test_no_two_streams_collide() -> None:
    places = list(itertools.product((0, 1, 7), Stream, (0, 1, 5), (0, 1, 2, 3, 4, 1000)))
    drawn = {
        int(generator(seed, stream, rank=rank, number=number).integers(2**62))
        for seed, stream, rank, number in places
    }
    assert len(drawn) == len(places)
    assert len(set(map(int, Stream))) == len(Stream) == len(Stream.__members__)


def test_streams_keep_the_seeds_that_published_models_were_trained_with() -> None:
    for stream, seed in (
        (Stream.BATCH, (5, 2, 9)),
        (Stream.READ, (5, 2, 9, 1)),
        (Stream.CODEBOOKS, (5, 2, 9, 2)),
        (Stream.STEP, (5, 2, 9, 3)),
    ):
        expected = np.random.default_rng(seed).random(4)
        assert np.array_equal(generator(5, stream, rank=2, number=9).random(4), expected)


def test_torch_is_seeded_by_a_draw_of_the_stream() -> None:
    seed_torch(generator(0, Stream.STEP, number=3))
    first = torch.rand(3)
    seed_torch(generator(0, Stream.STEP, number=3))
    assert torch.equal(torch.rand(3), first)
    seed_torch(generator(0, Stream.STEP, number=4))
    assert not torch.equal(torch.rand(3), first)


def test_a_run_draws_for_each_purpose_from_a_seed_of_its_own(
    training_recipe: TrainConfig,
    training_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recorded where numpy makes generators, so that no module can derive one by itself."""
    assert training_recipe.model.num_codebooks == LAPPED.num_codebooks
    purposes: dict[tuple[int, ...], set[str]] = defaultdict(set)
    default_rng = np.random.default_rng

    def recorded(seed: Any = None) -> np.random.Generator:
        frame = sys._getframe(1)
        while frame.f_code.co_filename.endswith("randomness.py"):
            assert frame.f_back is not None
            frame = frame.f_back
        if isinstance(seed, tuple):
            padded = (*seed, 0, 0, 0, 0)[:4]  # numpy pads seeds with zeros
            purposes[padded].add(f"{frame.f_code.co_filename}: {frame.f_code.co_name}")
        return default_rng(seed)

    monkeypatch.setattr(np.random, "default_rng", recorded)
    fit(training_recipe, training_folder, tmp_path / "run")
    assert len(purposes) > 3 * 3
    for seed, callers in purposes.items():
        assert len(callers) == 1, f"{seed} is used by {sorted(callers)}"
