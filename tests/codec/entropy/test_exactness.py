"""Random context models give the oracle's integers, in batches of any size and with any threads."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from tests.codec.entropy.exactness import check
from tests.codec.entropy.oracle import intervals, random_context


def random_case(seed: int) -> tuple[ContextModel, dict[str, np.ndarray], np.ndarray]:
    """A model with wide layers, its integers, and codes ``[64, K, T]`` of which some are absent."""
    rng = np.random.default_rng(seed)
    shape = ContextShape(3, 64, 6, width=96, hidden=48, dilations=(1, 2, 4))
    tensors = random_context(rng, shape, largest=int(rng.choice([4, 20, 127])))
    codes = rng.integers(64, size=(64, 3, 9))
    counts = rng.integers(1, 4, (64, 1, 9))
    codes = np.where(np.arange(3)[:, None] < counts, codes, NO_CODE)
    return ContextModel(shape, tensors), tensors, codes


def digest(seeds: range) -> str:
    """Of all intervals and payloads of some cases."""
    found = hashlib.sha256()
    for seed in seeds:
        model, _, codes = random_case(seed)
        for each in model.code_intervals(codes, model.init_state(64), variable=True)[:2]:
            found.update(each.tobytes())
        payloads, _ = encode_packets(model, codes[:, None], segments=2, variable=True)
        found.update(b"".join(payloads))
        decoded, _ = decode_packets(model, payloads, [9] * 64, 1, 3, segments=2, variable=True)
        assert np.array_equal(np.stack(decoded)[:, 0], codes)
    return found.hexdigest()


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


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_threads_gives_the_same_bytes(threads: int) -> None:
    program = "from tests.codec.entropy.test_exactness import digest; print(digest(range(3)))"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | dict.fromkeys(names, str(threads)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == digest(range(3))


@pytest.mark.parametrize("seed", range(10))
def test_models_of_any_size_give_the_oracles_integers(seed: int) -> None:
    assert check([seed], page=False) > 0


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_page_gives_the_oracles_integers() -> None:
    assert check(range(10, 25)) > 0
