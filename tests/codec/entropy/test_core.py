"""The core gives the bytes of the reference in NumPy, with every kernel, in threads and copies."""

from __future__ import annotations

import copy
import ctypes
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from codec.core.library import ContextSizes, Packets, call, core
from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, ContextModel, ContextShape, Integers
from codec.errors import ConfigError, ModelError
from codec.rate.search import rate_distortion_search
from tests.codec.core.kernels import KERNELS
from tests.codec.entropy import reference
from tests.codec.entropy.oracle import Tensors, random_context
from tests.codec.entropy.reference import ReferenceModel

SMALL = ContextShape(3, 32, 4, width=10, hidden=6, dilations=(1, 3))


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AECODEC_KERNEL", request.param)
    if core().aec_kernel() is None:
        pytest.skip(f"this processor has no {request.param}")
    yield request.param


def random_shape(rng: np.random.Generator) -> ContextShape:
    dilations = ((), (1,), (1, 2), (2, 1, 4), (1, 2, 4, 8), (70,))
    return ContextShape(
        num_codebooks=int(rng.integers(1, 7)),
        codebook_size=int(2 ** rng.integers(1, 9)),
        entry_dim=int(rng.integers(1, 13)),
        width=int(rng.integers(1, 97)),
        hidden=int(rng.integers(1, 70)),
        dilations=dilations[rng.integers(len(dilations))],
    )


def random_tensors(rng: np.random.Generator, shape: ContextShape) -> Tensors:
    tensors = random_context(rng, shape, largest=int(rng.choice([4, 20, 127])))
    for name in shape.products:  # the only weight without a counterpart
        tensors[name].flat[rng.integers(tensors[name].size)] = -128
    inner = tensors["inner"].reshape(shape.num_codebooks, shape.entry_dim, -1, shape.hidden)
    for k in range(shape.num_codebooks):
        inner[k, :, : k + 1] = 0
    return tensors


def random_codes(
    rng: np.random.Generator, shape: ContextShape, size: tuple[int, ...], least: int
) -> Integers:
    """Codes ``[..., K, T]``, at least so many in every frame."""
    codes = rng.integers(shape.codebook_size, size=size)
    counts = rng.integers(least, size[-2] + 1, (*size[:-2], 1, size[-1]))
    return np.where(np.arange(size[-2])[:, None] < counts, codes, NO_CODE)


@pytest.mark.parametrize("seed", range(25))
def test_payloads_codes_and_states_are_those_of_the_reference(seed: int, kernel: str) -> None:
    rng = np.random.default_rng(seed)
    shape = random_shape(rng)
    tensors = random_tensors(rng, shape)
    model, slow = ContextModel(shape, tensors), ReferenceModel(shape, tensors)
    packets, channels = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    frames = int(rng.choice([0, 1, 2, 5, 17, 70, 150]))
    books, segments = int(rng.integers(1, shape.num_codebooks + 1)), int(rng.integers(1, 5))
    variable = bool(rng.integers(2))
    pauses = variable and bool(rng.integers(2))
    least = books if not variable else 0 if pauses else 1
    codes = random_codes(rng, shape, (packets, channels, books, frames), least)
    how: dict[str, Any] = {"segments": segments, "variable": variable, "pauses": pauses}
    state = expected_state = received_state = None
    for _ in range(2):  # the second time after the frames of the first
        bits = np.full((packets, frames), np.nan)
        payloads, state = encode_packets(model, codes, state, bits=bits, **how)
        expected, expected_state = reference.encode_packets(slow, codes, expected_state, **how)
        assert payloads == expected
        assert np.isclose(bits.sum(axis=1), [8 * len(each) for each in expected], atol=9).all()
        if segments * channels == 1 or not frames % segments:
            received, received_state = decode_packets(
                model, [(each, frames) for each in payloads], channels, books, received_state, **how
            )
            assert np.array_equal(np.stack(received), codes)
            assert np.array_equal(received_state, state)
    lengths = rng.integers(0, frames + 1, packets).tolist()
    damaged = [rng.bytes(int(rng.integers(0, 60))) for _ in range(packets)]
    pairs = [*zip(damaged, lengths, strict=True)]
    received, _ = decode_packets(model, pairs, channels, books, **how)
    found, _ = reference.decode_packets(slow, damaged, lengths, channels, books, **how)
    for ours, theirs in zip(received, found, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_other_numbers_of_codebooks_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = random_tensors(rng, SMALL)
    model, slow = ContextModel(SMALL, tensors), ReferenceModel(SMALL, tensors)
    counts = [1, 1, 2, 3]
    codes = random_codes(rng, SMALL, (1, 2, 3, 4), 3)
    codes = np.where(np.arange(3)[:, None] < counts, codes, NO_CODE)
    payloads, _ = encode_packets(model, codes)
    assert payloads == reference.encode_packets(slow, codes)[0]
    (found,), _ = decode_packets(model, [(payloads[0], 4)], 2, counts)
    assert np.array_equal(found, codes[0])


@pytest.mark.parametrize("seed", range(15))
def test_the_search_chooses_what_the_reference_chooses(seed: int, kernel: str) -> None:
    rng = np.random.default_rng(seed)
    shape = random_shape(rng)
    tensors = random_tensors(rng, shape)
    model, slow = ContextModel(shape, tensors), ReferenceModel(shape, tensors)
    channels, frames, count = (int(rng.integers(1, high)) for high in (4, 12, 17))
    books = int(rng.integers(1, shape.num_codebooks + 1))
    # Few codes: many candidates begin with the same ones.
    codes = rng.integers(min(3, shape.codebook_size), size=(channels, frames, count, books))
    counts = rng.integers(0, books + 1, (channels, frames, 1, 1))
    candidates = np.where(np.arange(books) < counts, codes, NO_CODE)
    errors = rng.random((channels, frames, count)).astype(np.float32)
    errors[rng.random(errors.shape) < 0.1] = np.inf
    for lambda_ in (0.0, 0.01, 1.0):
        arguments = (candidates, errors, lambda_, int(rng.integers(1, 4)))
        expected = reference.rate_distortion_search(slow, *arguments)
        assert np.array_equal(rate_distortion_search(model, *arguments), expected)


def test_bits_are_those_of_the_frequencies() -> None:
    rng = np.random.default_rng(3)
    tensors = random_tensors(rng, SMALL)
    codes = random_codes(rng, SMALL, (1, 2, 3, 40), 1)
    bits = np.empty((1, 40))
    encode_packets(ContextModel(SMALL, tensors), codes, variable=True, bits=bits)
    slow = ReferenceModel(SMALL, tensors)
    _, frequencies, _ = slow.code_intervals(codes[0], slow.init_state(2), variable=True)
    assert np.allclose(
        bits[0], (16 - np.log2(frequencies)).sum(axis=(0, 2)), rtol=1e-13, atol=1e-12
    )


def test_every_step_of_the_table_is_that_of_the_reference() -> None:
    """The likeliest value and one that is less likely by any number of steps, beyond the table."""
    shape = ContextShape(2200, 2, 1, width=1, hidden=1, dilations=())
    tensors = {name: np.zeros(size, np.int32) for name, size in shape.tensors.items()}
    tensors["order"][:] = [0, 1]
    tensors["first_bias"][:, 1] = -16 * np.arange(2200) - 15
    codes = np.random.default_rng(0).integers(2, size=(1, 1, 2200, 3))
    expected, _ = reference.encode_packets(ReferenceModel(shape, tensors), codes)
    assert encode_packets(ContextModel(shape, tensors), codes)[0] == expected


def test_models_and_states_can_be_copied_and_sent() -> None:
    rng = np.random.default_rng(0)
    model = ContextModel(SMALL, random_tensors(rng, SMALL), b"identity")
    codes = random_codes(rng, SMALL, (1, 2, 3, 5), 3)
    _, state = encode_packets(model, codes)
    expected = encode_packets(model, codes, state)[0]
    sent = pickle.loads(pickle.dumps((model, state)))
    for other, other_state in (sent, copy.deepcopy((model, state)), (copy.copy(model), state)):
        assert other.shape == SMALL and other.identity == b"identity"
        assert encode_packets(other, codes, other_state)[0] == expected
        assert other.handle.value != model.handle.value
    assert encode_packets(model, codes, state)[0] == expected


def test_states_of_some_rows_are_taken_out() -> None:
    rng = np.random.default_rng(1)
    model = ContextModel(SMALL, random_tensors(rng, SMALL))
    codes = random_codes(rng, SMALL, (4, 1, 3, 6), 3)
    _, state = encode_packets(model, codes[..., :4])
    assert np.array_equal(model.state_after(codes[:, 0, :, :4]), state)
    together, _ = encode_packets(model, codes[..., 4:], state)
    alone, _ = encode_packets(model, codes[[1, 3], ..., 4:], state[[1, 3]])
    assert alone == together[1::2]


def round_trips(model: ContextModel, codes: Integers) -> bool:
    payloads, _ = encode_packets(model, codes)
    found, _ = decode_packets(model, [(each, codes.shape[3]) for each in payloads], 1, 3)
    return np.array_equal(np.stack(found), codes)


@pytest.mark.filterwarnings("ignore:.*is multi-threaded:DeprecationWarning")
def test_threads_share_a_model_and_forked_processes_go_on_with_it() -> None:
    rng = np.random.default_rng(2)
    model = ContextModel(SMALL, random_tensors(rng, SMALL))
    codes = [random_codes(rng, SMALL, (3, 1, 3, 50), 3) for _ in range(40)]
    assert round_trips(model, codes[0])
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda each: round_trips(model, each), codes))
    process = multiprocessing.get_context("fork").Process(
        target=lambda: exit(not round_trips(model, codes[1]))
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_model_that_is_refused_leaves_nothing_to_destroy() -> None:
    nothing = [np.zeros(0, kind) for kind in ("u4", "i1", "i4", "u2", "i8")]
    handle = ctypes.c_void_p(1)
    with pytest.raises(ModelError, match="the sizes of arrays do not fit"):
        call("aec_context_create", ContextSizes(1, 2, 1, 1, 1), *nothing, handle)
    assert not handle


def test_arrays_that_are_nowhere_are_refused() -> None:
    """As after an allocation that failed; in a browser, something else lies there."""
    rng, shape = np.random.default_rng(0), Packets(1, 1, 3, 5, 1)
    model, library = ContextModel(SMALL, random_tensors(rng, SMALL)), core()
    scratch, size = model.scratch(4), library.aec_packet_capacity(shape)
    state, codes = model.init_state(1), random_codes(rng, SMALL, (1, 1, 3, 5), 3)
    data, lengths, bits = np.zeros(size, np.uint8), np.zeros(1, np.uint32), np.zeros(5)
    given, decoded = codes.astype(np.int32), np.zeros(codes.shape, np.int32)
    arrays = [given, state, data, lengths, bits, scratch]
    frames, books = np.full(1, 5, np.uint32), np.full(5, 3, np.uint32)
    other = [data, np.array([size], np.uint32), frames, books, state, decoded, scratch]
    errors, chosen = np.zeros(5, np.float32), np.zeros(5, np.uint32)
    calls: dict[str, list[Any]] = {
        "aec_encode_packets": [model.handle, shape, *arrays],
        "aec_decode_packets": [model.handle, shape, *other],
        "aec_context_advance": [model.handle, 1, 3, 5, given, state, scratch],
        "aec_search_codes": [model.handle, shape, 1, given, errors, 0.1, chosen, scratch],
    }
    for name, arguments in calls.items():
        flat: list[Any] = []
        for each in arguments:
            flat += (each.ctypes.data, each.size) if isinstance(each, np.ndarray) else (each,)
        function = getattr(library, name)
        assert function(*flat) == 0
        for place, kind in enumerate(function.argtypes):
            if kind in (ctypes.c_void_p, ctypes.POINTER(Packets)):
                assert function(*flat[:place], None, *flat[place + 1 :]) == -1, (name, place)
    assert library.aec_packet_capacity(None) == library.aec_context_state_size(None) == 0
    assert library.aec_encoder_state_size(None) == library.aec_decoder_state_size(None) == 0


def test_what_does_not_fit_the_model_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    tensors = random_tensors(rng, SMALL)
    model = ContextModel(SMALL, tensors)
    codes = random_codes(rng, SMALL, (1, 2, 3, 5), 3)
    beyond = codes.copy()
    beyond[0, 1, 2, 4] = 32
    with pytest.raises(ModelError, match="a code is beyond its codebook"):
        encode_packets(model, beyond)
    with pytest.raises(ModelError, match="a code is beyond its codebook"):
        model.state_after(beyond[0])
    with pytest.raises(ModelError, match="sizes of arrays do not fit the model"):
        encode_packets(model, codes, model.init_state(1))
    with pytest.raises(ModelError, match="sizes of arrays do not fit the model"):
        decode_packets(model, [(b"", 5)], 1, 4)
    with pytest.raises(ModelError, match="sizes of arrays do not fit the model"):
        decode_packets(model, [(b"", 5)], 1, [1, 2])
    monkeypatch.setenv("AECODEC_KERNEL", "abacus")
    with pytest.raises(ConfigError, match=r"AECODEC_KERNEL is 'abacus', .*: unset it"):
        ContextModel(SMALL, tensors)
