"""Random context models and codes, for which every implementation must give the oracle's integers.

    python -m tests.codec.entropy.exactness --models 1000

The tests check a few of them. This checks as many as are asked for, and is run once after a change
of the arithmetic: the core, the reference in NumPy, and the page, whose core runs in Node here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape, Integers
from codec.entropy.context_file import CONTEXT_FILE, save_context
from tests.codec.entropy.oracle import Tensors, intervals, random_context
from tests.codec.entropy.reference import ReferenceModel, write_intervals
from tests.codec.web.node import in_node

ORACLE_ROWS = 8
"""Sequences of a batch that are compared with the oracle, which is slow."""
TOGETHER = 25
"""Models that are given to one process of Node."""


class Case(NamedTuple):
    """A random model and sequences of codes.

    Attributes:
        model: the model.
        tensors: its integers.
        codes: ``[N, K, T]``, `NO_CODE` where one is absent.
        variable: whether frames have different numbers of codes.
    """

    model: ContextModel
    tensors: Tensors
    codes: Integers
    variable: bool

    @property
    def rows(self) -> range:
        """Sequences that are compared with the oracle, evenly spaced."""
        step = -(-len(self.codes) // ORACLE_ROWS)
        return range(0, len(self.codes), step)


def random_case(seed: int) -> Case:
    """A model of random sizes, and 1 to 64 sequences."""
    rng = np.random.default_rng(seed)
    shape = ContextShape(
        num_codebooks=int(rng.integers(1, 7)),
        codebook_size=int(2 ** rng.integers(1, 8)),
        entry_dim=int(rng.integers(1, 13)),
        width=int(rng.integers(2, 97)),
        hidden=int(rng.integers(2, 49)),
        dilations=((1,), (1, 2), (2, 1, 4), (1, 2, 4, 8))[rng.integers(4)],
    )
    tensors = random_context(rng, shape, largest=int(rng.choice([4, 20, 127])))
    rows, frames = int(rng.integers(1, 65)), int(rng.integers(1, 13))
    books = int(rng.integers(1, shape.num_codebooks + 1))
    codes = rng.integers(shape.codebook_size, size=(rows, books, frames))
    variable = bool(rng.integers(2))
    if variable:
        counts = rng.integers(1, books + 1, (rows, 1, frames))
        codes = np.where(np.arange(books)[:, None] < counts, codes, NO_CODE)
    return Case(ContextModel(shape, tensors), tensors, codes, variable)


def of_oracle(case: Case) -> Integers:
    """Starts and frequencies ``[n, T, 1 + 2 * K, 2]`` of `Case.rows`."""
    shape, (_, books, frames) = case.model.shape, case.codes.shape
    found = [
        intervals(shape, case.tensors, case.codes[row], variable=case.variable) for row in case.rows
    ]
    return np.array(found).reshape(len(found), frames, 1 + 2 * books, 2)


def of_reference(case: Case, seed: int) -> Integers:
    """The same from the reference: all sequences in one batch, split at random places."""
    frames, model = case.codes.shape[2], ReferenceModel(case.model.shape, case.tensors)
    splits = np.sort(np.random.default_rng(seed).integers(0, frames + 1, 2))
    state, pieces = model.init_state(len(case.codes)), []
    for piece in np.split(case.codes, splits, axis=2):
        *found, state = model.code_intervals(piece, state, variable=case.variable)
        pieces.append(np.stack(found, axis=-1))
    return np.concatenate(pieces, axis=1)[case.rows]


def of_page(cases: Sequence[Case]) -> list[list[bytes]]:
    """What the page gives for `Case.rows`: payloads, each of its own."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for number, case in enumerate(cases):
            path = Path(folder, str(number))
            path.mkdir()
            save_context(path, case.model.shape, case.tensors, bytes(16))
            codes = case.codes[case.rows]
            tasks.append(
                {
                    "kind": "payloads",
                    "context": str(path / CONTEXT_FILE),
                    "rows": codes.reshape(len(codes), -1).tolist(),
                    "codebooks": codes.shape[1],
                    "variable": case.variable,
                }
            )
        answers = in_node(tasks, "core.mjs")
    return [[bytes.fromhex(each) for each in answer] for answer in answers]


def of_core(case: Case) -> list[bytes]:
    """Payloads of `Case.rows`, each of its own."""
    codes = case.codes[case.rows][:, None]
    return encode_packets(case.model, codes, variable=case.variable)[0]


def round_trip(case: Case, seed: int) -> Integers:
    """Codes after encoding and decoding of all sequences side by side, in segments."""
    segments = int(np.random.default_rng(seed).integers(1, 4))
    _, books, frames = case.codes.shape
    payloads, _ = encode_packets(
        case.model, case.codes[:, None], segments=segments, variable=case.variable
    )
    decoded, _ = decode_packets(
        case.model,
        [(each, frames) for each in payloads],
        1,
        books,
        segments=segments,
        variable=case.variable,
    )
    return np.stack(decoded)[:, 0]


def check(seeds: Sequence[int], *, page: bool = True) -> int:
    """Assert that all implementations agree on the cases of these seeds; the number of integers."""
    cases = [random_case(seed) for seed in seeds]
    expected = [of_oracle(case) for case in cases]
    for seed, case, oracle in zip(seeds, cases, expected, strict=True):
        assert np.array_equal(of_reference(case, seed), oracle), f"seed {seed}: reference"
        starts, frequencies = np.moveaxis(oracle, 3, 0)
        payloads = write_intervals(starts, frequencies, len(oracle))
        assert of_core(case) == payloads, f"seed {seed}: core"
        assert np.array_equal(round_trip(case, seed), case.codes), f"seed {seed}: round trip"
    if page:
        for seed, case, answer in zip(seeds, cases, of_page(cases), strict=True):
            assert answer == of_core(case), f"seed {seed}: page"
    return sum(oracle.size for oracle in expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    arguments = parser.parse_args()
    seeds, checked = range(arguments.seed, arguments.seed + arguments.models), 0
    for start in range(0, len(seeds), TOGETHER):
        checked += check(seeds[start : start + TOGETHER])
        print(f"{min(start + TOGETHER, len(seeds))} models, {checked} integers equal", flush=True)


if __name__ == "__main__":
    main()
