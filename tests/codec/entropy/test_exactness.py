"""Random context models give the oracle's integers, in batches of any size."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from codec.entropy.context import NO_CODE, ContextShape
from tests.codec.entropy.exactness import check
from tests.codec.entropy.oracle import intervals, random_context
from tests.codec.entropy.reference import ReferenceModel


def random_case(seed: int) -> tuple[ReferenceModel, dict[str, np.ndarray], np.ndarray]:
    """A model with wide layers, its integers, and codes ``[64, K, T]`` of which some are absent."""
    rng = np.random.default_rng(seed)
    shape = ContextShape(3, 64, 6, width=96, hidden=48, dilations=(1, 2, 4))
    tensors = random_context(rng, shape, largest=int(rng.choice([4, 20, 127])))
    codes = rng.integers(64, size=(64, 3, 9))
    counts = rng.integers(1, 4, (64, 1, 9))
    codes = np.where(np.arange(3)[:, None] < counts, codes, NO_CODE)
    return ReferenceModel(shape, tensors), tensors, codes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_any_batch_and_split_gives_the_oracles_integers(seed: int, batch: int) -> None:
    model, tensors, codes = random_case(seed)
    expected = [intervals(model.shape, tensors, each, variable=True) for each in codes[:8]]
    rng = np.random.default_rng(batch)
    for start in range(0, 64, batch):
        part = codes[start : start + batch]
        state, pieces = model.init_state(len(part)), []
        splits = np.sort(rng.integers(0, 10, 2))
        for piece in np.split(part, splits, axis=2):
            *found, state = model.code_intervals(piece, state, variable=True)
            pieces.append(np.stack(found, axis=-1))
        joined = np.concatenate(pieces, axis=1)
        for row in range(start, min(8, start + batch)):
            of_row = joined[row - start].reshape(-1, 2).tolist()
            assert list(map(tuple, of_row)) == expected[row]


@pytest.mark.parametrize("seed", range(10))
def test_models_of_any_size_give_the_oracles_integers(seed: int) -> None:
    assert check([seed], page=False) > 0


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_page_gives_the_oracles_integers() -> None:
    assert check(range(10, 25)) > 0
