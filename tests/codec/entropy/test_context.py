"""The context model is exact: the same integers as a slow model, for any library and division."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from codec.entropy.coding import encode_packets
from codec.entropy.context import LARGEST_SUM, NO_CODE, ContextModel, ContextShape
from codec.entropy.context_file import CONTEXT_FILE, load_context, save_context
from codec.errors import ModelError
from tests.codec.entropy import reference
from tests.codec.entropy.oracle import intervals, random_context
from tests.codec.entropy.reference import ReferenceModel

SMALL = ContextShape(3, 32, 4, width=10, hidden=6, dilations=(1, 3))
FINGERPRINT = bytes(range(16))


def codes_for(rng: np.random.Generator, shape: ContextShape, rows: int, frames: int) -> np.ndarray:
    return rng.integers(shape.codebook_size, size=(rows, shape.num_codebooks, frames))


def without_some(rng: np.random.Generator, codes: np.ndarray) -> np.ndarray:
    """A random number of codes in every frame, at least one."""
    counts = rng.integers(1, codes.shape[1] + 1, (len(codes), 1, codes.shape[2]))
    return np.where(np.arange(codes.shape[1])[:, None] < counts, codes, NO_CODE)


@pytest.mark.parametrize("seed", range(30))
def test_intervals_are_those_of_the_slow_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = ContextShape(
        num_codebooks=int(rng.integers(1, 5)),
        codebook_size=2 ** int(rng.integers(1, 8)),
        entry_dim=int(rng.integers(1, 9)),
        width=int(rng.integers(1, 40)),
        hidden=int(rng.integers(1, 20)),
        dilations=tuple(int(each) for each in rng.integers(1, 9, rng.integers(0, 4))),
    )
    # Small weights give sums within the table, large ones beyond.
    tensors = random_context(rng, shape, largest=int(rng.choice([3, 20, 127])))
    model = ReferenceModel(shape, tensors)
    rows, frames = int(rng.integers(1, 9)), int(rng.integers(1, 20))
    count = int(rng.integers(1, shape.num_codebooks + 1))
    codes = codes_for(rng, shape, rows, frames)[:, :count]
    variable = bool(rng.integers(2))
    if variable:
        codes = without_some(rng, codes)
    split = int(rng.integers(0, frames + 1))
    state, pieces = model.init_state(rows), []
    for piece in (codes[..., :split], codes[..., split:]):
        starts, frequencies, state = model.code_intervals(piece, state, variable=variable)
        pieces.append(np.stack((starts, frequencies), axis=-1))
    found = np.concatenate(pieces, axis=1)
    for row, sequence in zip(found, codes, strict=True):
        expected = intervals(shape, tensors, sequence, variable=variable)
        assert list(map(tuple, row.reshape(-1, 2).tolist())) == expected


def test_products_are_exact_in_any_library_and_order() -> None:
    """The largest sums that a model may have, in torch's float32 and in NumPy's integers."""
    rng = np.random.default_rng(1)
    inputs = rng.integers(0, 128, (50, 500))
    matrix = rng.integers(-127, 128, (500, 30))
    matrix[:, 0] = 127
    expected = inputs @ matrix
    assert 2**22 < expected.max() < LARGEST_SUM
    for order in (np.arange(500), rng.permutation(500)):
        a, b = (torch.from_numpy(each).float() for each in (inputs[:, order], matrix[order]))
        assert np.array_equal((a @ b).numpy(), expected)


def test_a_sum_that_could_be_inexact_is_refused() -> None:
    tensors = random_context(np.random.default_rng(0), SMALL)
    tensors["context_bias"][3] = LARGEST_SUM
    with pytest.raises(ModelError, match="context of the context model could add up to"):
        ContextModel(SMALL, tensors)
    # Each for itself is small enough, but they are added up.
    tensors["context_bias"][3] = (
        LARGEST_SUM - 127 * int(np.abs(tensors["context"].astype(int)[:, 3]).sum()) - 1
    )
    tensors["inner"][:, 3] = 127
    with pytest.raises(ModelError, match="context of the context model could add up to"):
        ContextModel(SMALL, tensors)


@pytest.mark.parametrize("name", SMALL.products)
def test_the_largest_sum_is_just_below_the_limit(name: str, tmp_path: Path) -> None:
    """Sums up to 2^23 - 1: so their differences are below 2^24, up to which float32 is exact."""
    assert 2 * (LARGEST_SUM - 1) < 2**24
    tensors = random_context(np.random.default_rng(0), SMALL)
    column = np.abs(tensors[name].astype(np.int64)).sum(axis=-2).flat[0]
    if name in ("context", "inner"):  # added up before they are shifted
        column = sum(
            np.abs(tensors[each].astype(np.int64)).sum(axis=-2).flat[0]
            for each in ("context", "inner")
        )
        tensors["context_bias"].flat[0] = tensors["inner_bias"].flat[0] = 0
    room = LARGEST_SUM - 127 * int(column)
    tensors[f"{name}_bias"].flat[0] = 1 - room
    save_context(tmp_path, SMALL, tensors, bytes(16))
    whole = (tmp_path / CONTEXT_FILE).read_bytes()
    tensors[f"{name}_bias"].flat[0] = -room
    with pytest.raises(ModelError, match=f"could add up to {LARGEST_SUM}: sums are exact below"):
        ContextModel(SMALL, tensors)
    # A file that says so is refused when it is loaded.
    stored = np.array([1 - room, -room], "<i4")
    assert whole.count(stored[0].tobytes()) == 1
    (tmp_path / CONTEXT_FILE).write_bytes(whole.replace(stored[0].tobytes(), stored[1].tobytes()))
    with pytest.raises(ModelError, match=f"could add up to {LARGEST_SUM}"):
        load_context(tmp_path, bytes(16))


def test_the_table_is_the_same_on_every_machine() -> None:
    table = [round(2 ** (16 - step / 128)) for step in range(2048)]
    assert reference._TABLE.tolist() == table
    assert (table[0], table[128], table[-1]) == (65536, 32768, 1)
    # No value is so close to a half that another rounding of the power could change it.
    exact = 2.0 ** (16 - np.arange(2048) / 128)
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-6


def test_a_file_gives_the_model_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tensors = random_context(rng, SMALL)
    tensors["entries"] = np.asfortranarray(tensors["entries"])
    saved = save_context(tmp_path, SMALL, tensors, FINGERPRINT)
    loaded = load_context(tmp_path, FINGERPRINT)
    assert loaded is not None and loaded.identity == saved.identity and len(saved.identity) == 8
    assert loaded.shape == SMALL
    codes = codes_for(rng, SMALL, 2, 5)
    expected = encode_packets(ContextModel(SMALL, tensors), codes[None])[0]
    assert encode_packets(loaded, codes[None])[0] == expected
    tensors["first"][0, 0, 0] ^= 1
    assert save_context(tmp_path, SMALL, tensors, FINGERPRINT).identity != saved.identity


def test_what_is_no_context_model_is_refused(tmp_path: Path) -> None:
    assert load_context(tmp_path, FINGERPRINT) is None
    tensors = random_context(np.random.default_rng(0), SMALL)
    save_context(tmp_path, SMALL, tensors, FINGERPRINT)
    with pytest.raises(ModelError, match="about the codes of model 0001"):
        load_context(tmp_path, bytes(16))
    path = tmp_path / CONTEXT_FILE
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-1], data.replace(b'"format"', b'"farmot"')):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="is not a context model"):
            load_context(tmp_path, FINGERPRINT)
    path.write_bytes(data.replace(b'"format": 1', b'"format": 7'))
    with pytest.raises(ModelError, match="upgrade aecodec"):
        load_context(tmp_path, FINGERPRINT)
    path.write_bytes(data.replace(b'"width": 10', b'"width": 11'))
    with pytest.raises(ModelError, match="has no past of shape"):
        load_context(tmp_path, FINGERPRINT)
    for name, change in (("order", 0), ("entries", -128)):
        changed = {**tensors, name: np.full_like(tensors[name], change)}
        with pytest.raises(ModelError, match=name[:4]):
            save_context(tmp_path, SMALL, changed, FINGERPRINT)
    floats = {**tensors, "first": tensors["first"].astype(np.float32)}
    with pytest.raises(ModelError, match="not integers"):
        ContextModel(SMALL, floats)
    wide = {**tensors, "first": tensors["first"].astype(np.int16)}
    wide["first"][0, 0, 0] = 128
    with pytest.raises(ModelError, match="first of the context model has numbers beyond -128"):
        ContextModel(SMALL, wide)
    assert dataclasses.replace(SMALL, codebook_size=64).digits == (8, 8)
