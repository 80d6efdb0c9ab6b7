"""The network in the core: the same bits with every kernel, step and row, and PyTorch's network."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import multiprocessing
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codec.config import CodecConfig
from codec.core.library import Config, call, core
from codec.core.network import Network
from codec.core.quantize import BLOCK, _matrices, quantize
from codec.engines.core import CoreEngine
from codec.entropy.coding import encode_packets
from codec.entropy.context import ContextModel, ContextShape
from codec.errors import ModelError
from codec.network.model import Codec
from tests.codec.core.fuzz_network import random_weights
from tests.codec.core.kernels import KERNELS
from tests.codec.entropy.oracle import random_context
from tests.conftest import FINE, sound


def arrays_of(codec: Codec) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in codec.state_dict().items()}


def make_network(codec: Codec) -> Network:
    return Network(codec.config, quantize(arrays_of(codec), codec.config))


@pytest.fixture(params=["lapped", "ladder", "stereo", "fsq", "fine"])
def model(request: pytest.FixtureRequest) -> Codec:
    """A model of every shape that the core computes."""
    codec: Codec = request.getfixturevalue(request.param)
    return codec


def with_eight_bits(codec: Codec) -> Codec:
    """A copy in which PyTorch rounds weights and activations as the core does."""
    codec = copy.deepcopy(codec)
    layers = dict(codec.named_modules())

    def rounded(values: Tensor, parts: list[int]) -> Tensor:
        blocks = [
            block for part in values.split(parts, dim=-1) for block in part.split(BLOCK, dim=-1)
        ]
        scales = [block.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127 for block in blocks]
        pairs = zip(blocks, scales, strict=True)
        return torch.cat([(block / scale).round() * scale for block, scale in pairs], dim=-1)

    for name, inputs, _, _ in _matrices(codec.config):
        layer = layers[name]
        assert isinstance(layer, nn.Linear)
        parts = list(inputs)
        layer.weight.copy_(rounded(layer.weight, parts))
        layer.register_forward_pre_hook(lambda _, inputs, parts=parts: (rounded(inputs[0], parts),))
    return codec


@torch.no_grad()
def test_the_core_computes_what_pytorch_does_with_the_same_rounding(model: Codec) -> None:
    """But for activations near a half, which the last bit of a sum rounds up or down."""
    made, like = make_network(model), with_eight_bits(model)
    channels, hop = model.config.channels, model.config.hop_length
    audio = torch.from_numpy(sound(200 * hop, channels))[None]
    latent = like.encode_latent(audio)
    codes, errors, found, _ = made.analyze(
        audio[0].numpy(), made.init_encoder(1), model.config.num_codebooks
    )
    assert (
        np.sqrt(((found - latent.numpy()) ** 2).mean())
        < 0.01 * float(latent.square().mean()) ** 0.5
    )
    # From the same latent the search finds the same codes.
    same, left = like.require_codes().encode_with_errors(torch.from_numpy(found))
    assert (same.numpy() == codes).mean() > 0.999
    np.testing.assert_allclose(errors, left.numpy(), rtol=1e-3, atol=1e-6)
    expected, _ = like.decode_step(torch.from_numpy(codes), like.decoder.init_state(1))
    heard, _ = made.decode(codes, made.init_decoder(1))
    difference = heard - expected[0].numpy()
    assert np.sqrt((difference**2).mean()) < 0.02 * float(expected.square().mean()) ** 0.5


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_every_kernel_gives_the_same_bits(
    model: Codec, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels, hop = model.config.channels, model.config.hop_length
    audio = sound(70 * hop, 3 * channels)
    results = []
    for name in ("portable", kernel):
        monkeypatch.setenv("AECODEC_KERNEL", name)
        if core().aec_kernel() is None:
            pytest.skip(f"this processor has no {name}")
        made = make_network(model)
        found = made.analyze(audio, made.init_encoder(3), model.config.num_codebooks)
        results.append((*found, *made.decode(found[0], made.init_decoder(3))))
    for expected, result in zip(*results, strict=True):
        assert result.tobytes() == expected.tobytes()


def test_steps_and_rows_do_not_change_a_bit(model: Codec) -> None:
    """Nor do more rows or frames than the core takes at once."""
    made, count, hop = make_network(model), model.config.num_codebooks, model.config.hop_length
    rows, channels, frames = 35, model.config.channels, 40
    audio = sound(frames * hop, rows * channels)
    codes, errors, latent, encoder = made.analyze(audio, made.init_encoder(rows), count)
    heard, decoder = made.decode(codes, made.init_decoder(rows))
    for row in (0, 1, 32, 34):
        states = made.init_encoder(1), made.init_decoder(1)
        parts: list[tuple[np.ndarray, ...]] = []
        own = audio[row * channels : (row + 1) * channels]
        for step in np.split(own, np.cumsum([1, 1, 0, 5, 32]) * hop, axis=1):
            found, left, inner, after = made.analyze(step, states[0], count)
            samples, last = made.decode(found, states[1])
            states = after, last
            parts.append((found, left, inner.mT, samples))
        whole = heard[row * channels : (row + 1) * channels]
        joined = [np.concatenate([part[i] for part in parts], axis=-1) for i in range(4)]
        expected: list[np.ndarray] = [codes[row : row + 1], errors[row : row + 1]]
        expected += latent[row : row + 1].mT, whole
        for mine, alone in zip(joined, expected, strict=True):
            assert np.array_equal(mine, alone)
        assert np.array_equal(states[0][0], encoder[row])
        assert np.array_equal(states[1][0], decoder[row])


def test_a_sound_of_less_than_two_samples_ago_does_not_depend_on_steps() -> None:
    """Pitches are far lower; but a state may hold anything."""
    config = dataclasses.replace(
        FINE,
        strides=(40,),
        encoder_channels=(8,),
        decoder_channels=(8,),
        encoder_dilations=((),),
        decoder_dilations=((),),
        decoder_fine_stride=10,
    )
    rng = np.random.default_rng(0)
    made = Network(config, quantize(random_weights(config, rng), config))
    codes, state = rng.integers(0, config.codebook_size, (1, 2, 6)), made.init_decoder(1)
    floats = state.view(np.float32)[0]
    floats[floats == 60] = 2 * config.sample_rate / 1.5  # the pitch before, and so a mean period
    whole, _ = made.decode(codes, state)
    parts = []
    for frame in range(6):
        audio, state = made.decode(codes[:, :, frame : frame + 1], state)
        parts.append(audio)
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}
DOWNWARD = {"x86_64": 0x400, "aarch64": 0x800000}
"""``FE_UPWARD`` and ``FE_DOWNWARD`` of C."""


has_modes = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in UPWARD, reason="other modes of floats"
)


@has_modes
def test_how_the_process_computes_with_floats_does_not_matter(model: Codec) -> None:
    """Libraries change it for all of a process, mostly to treat very small numbers as zero."""
    made, count = make_network(model), model.config.num_codebooks
    audio = sound(30 * model.config.hop_length, model.config.channels)
    libm, results = ctypes.CDLL("libm.so.6"), []
    for mode in (0, UPWARD[platform.machine()], DOWNWARD[platform.machine()]):
        try:
            assert libm.fesetround(mode) == 0
            states = made.init_encoder(1), made.init_decoder(1)
            found = made.analyze(audio, states[0], count)
            heard = made.decode(found[0], states[1])
            assert libm.fegetround() == mode
        finally:
            libm.fesetround(0)
        results.append([each.tobytes() for each in (*states, *found, *heard)])
    assert results[0] == results[1] == results[2]


@has_modes
def test_nor_does_it_for_the_bits_of_frames() -> None:
    rng, shape = np.random.default_rng(0), ContextShape(4, 64, 3, 8, 5, (1, 2))
    tensors, codes = random_context(rng, shape, largest=25), rng.integers(64, size=(1, 1, 4, 50))
    libm, results = ctypes.CDLL("libm.so.6"), []
    for mode in (0, UPWARD[platform.machine()]):
        try:
            assert libm.fesetround(mode) == 0
            bits = np.empty((1, 50))
            encode_packets(ContextModel(shape, tensors), codes, bits=bits)
            assert libm.fegetround() == mode
        finally:
            libm.fesetround(0)
        results.append(bits)
    assert np.array_equal(results[0], results[1])


def test_absent_codes_are_those_of_fewer_codebooks(fine: Codec) -> None:
    made = make_network(fine)
    codes, *_ = made.encode(sound(20 * fine.config.hop_length), made.init_encoder(1), 2)
    padded = np.full((1, fine.config.num_codebooks, 20), -1)
    padded[:, :2] = codes
    few, _ = made.decode(codes, made.init_decoder(1))
    assert np.array_equal(made.decode(padded, made.init_decoder(1))[0], few)


def test_samples_that_are_no_numbers_are_silence(model: Codec) -> None:
    """Of any sign and bits, which differ among processors."""
    made, count = make_network(model), model.config.num_codebooks
    audio = sound(12 * model.config.hop_length, model.config.channels)
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7F812345, 0xFF800001, 0x7F800000, 0xFF800000])
    places = slice(5, 5 + 7 * len(bits), 7)
    audio[:, places] = bits.astype(np.uint32).view(np.float32)
    audio[:, 80] = -2e15
    found = [each.tobytes() for each in made.analyze(audio, made.init_encoder(1), count)]
    audio[:, places] = audio[:, 80] = 0
    expected = [each.tobytes() for each in made.analyze(audio, made.init_encoder(1), count)]
    assert found == expected


@pytest.mark.parametrize("loud", [1.0, 1e20, 1e37])
def test_the_loudest_weights_give_the_same_samples_with_every_kernel(
    fine: Codec, loud: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are numbers, although inside some become infinite, and then NaN."""
    rng, config = np.random.default_rng(0), fine.config
    audio = np.float32(9e14) * sound(40 * config.hop_length)
    tensors = quantize(random_weights(config, rng), config)
    for name, value in tensors.items():
        if name.endswith((".scale", ".bias")):
            tensors[name] = value * np.float32(loud)
    results = []
    for kernel in KERNELS:
        monkeypatch.setenv("AECODEC_KERNEL", kernel)
        if core().aec_kernel() is None:
            continue
        made = Network(config, tensors)
        found = made.analyze(audio, made.init_encoder(1), config.num_codebooks)
        heard = made.decode(found[0], made.init_decoder(1))
        assert np.isfinite(heard[0]).all() and np.isfinite(found[2]).all()
        assert not np.isnan(found[1]).any()
        results.append(b"".join(each.tobytes() for each in (*found, *heard)))
    assert len(set(results)) == 1


def test_what_is_no_audio_harms_nobody(fine: Codec) -> None:
    """Neither the rows beside it, nor by what a state holds."""
    made, count = make_network(fine), fine.config.num_codebooks
    audio = sound(12 * fine.config.hop_length, 2)
    expected, *_ = made.encode(audio[1:], made.init_encoder(1), count)
    audio[0, ::7], audio[0, 3::50], audio[0, 5::60] = np.nan, np.inf, 1e-40
    codes, _ = made.encode(audio, made.init_encoder(2), count)
    assert np.array_equal(codes[1:], expected)
    states = np.random.default_rng(0).integers(-(2**62), 2**62, made.init_decoder(1).shape)
    made.decode(codes[:1], states)


def test_sizes_that_do_not_fit_are_refused(lapped: Codec) -> None:
    made = make_network(lapped)
    hop, codes = lapped.config.hop_length, np.zeros((1, 2, 3), np.int64)
    audio, states = np.zeros((1, 3 * hop), np.float32), made.init_encoder(1)
    for wrong in (
        lambda: made.encode(audio[:, 1:], states, 2),
        lambda: made.encode(audio, states[:, 1:], 2),
        lambda: made.encode(audio, states, lapped.config.num_codebooks + 1),
        lambda: made.decode(codes, states),
        lambda: made.decode(codes + lapped.config.codebook_size, made.init_decoder(1)),
        lambda: made.decode(np.repeat(codes, 9, axis=1), made.init_decoder(1)),
    ):
        with pytest.raises(ModelError, match=r"sizes of arrays do not fit|beyond its codebook"):
            wrong()


def damaged(codec: Codec) -> Iterator[dict[str, np.ndarray]]:
    tensors = quantize(arrays_of(codec), codec.config)
    for name in tensors:
        yield {other: value for other, value in tensors.items() if other != name}
        yield tensors | {name: tensors[name].ravel()[1:]}
        yield tensors | {name: tensors[name].astype(np.int16)}


def test_tensors_that_do_not_fit_are_refused(fine: Codec) -> None:
    for tensors in damaged(fine):
        with pytest.raises(ModelError, match=r"the weights do not fit config\.json"):
            Network(fine.config, tensors)


def test_weights_that_are_no_numbers_are_refused(fine: Codec) -> None:
    tensors = quantize(arrays_of(fine), fine.config)
    for name, value in tensors.items():
        if value.dtype == np.float32:
            wrong = value.copy()
            wrong.flat[-1] = np.nan if wrong.ndim > 1 else np.inf
            with pytest.raises(ModelError, match=r"the weights do not fit config\.json"):
                Network(fine.config, tensors | {name: wrong})


def test_weights_and_states_may_lie_anywhere_in_python_but_not_in_c(lapped: Codec) -> None:
    def moved(array: np.ndarray) -> np.ndarray:
        data = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:]
        return data.view(array.dtype).reshape(array.shape)

    tensors = quantize(arrays_of(lapped), lapped.config)
    made = Network(lapped.config, {name: moved(value) for name, value in tensors.items()})
    states, audio = made.init_encoder(1), sound(lapped.config.hop_length)
    expected, _ = make_network(lapped).encode(audio, states, 1)
    assert np.array_equal(made.encode(audio, moved(states), 1)[0], expected)
    with pytest.raises(ModelError, match="the sizes of arrays do not fit"), made._coder() as coder:
        at, size = states.ctypes.data, states.nbytes
        nothing = np.empty(0, np.float32)
        places = ctypes.c_void_p(at + 4), ctypes.c_void_p(at)
        call("aec_encode", coder, 1, 1, 1, audio, *places, size, expected, None, nothing)


def test_impossible_configurations_are_refused() -> None:
    """By the core itself: whatever the numbers are, it reads nothing beyond its structures."""
    library, model = core(), ctypes.c_void_p()
    for value in (-1, 0, 9, 2**31 - 1):
        config = Config()
        for name, kind in config._fields_:  # type: ignore[misc]
            if kind is ctypes.c_int32:
                setattr(config, name, value)
        assert library.aec_model_create(config, None, 0, model) == -1
        assert not model


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"recurrent": "gru"}, r"recurrent layers \(gru\): use --backend torch"),
        ({"bottleneck": "vae"}, r"continuous latents: use Codec.embed\(\) of PyTorch"),
        ({"strides": (5, 2)}, r"odd first stride \(5\): use --backend torch"),
    ],
)
def test_what_the_core_lacks_names_the_remedy(
    lapped: Codec, change: dict[str, Any], what: str
) -> None:
    config: CodecConfig = dataclasses.replace(lapped.config, **change)
    with pytest.raises(ModelError, match=f"the core has no {what}"):
        Network(config, {})


@pytest.mark.filterwarnings("ignore:.*is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")
def test_forked_processes_go_on_with_a_model(fine: Codec) -> None:
    made, count = make_network(fine), fine.config.num_codebooks
    audio = sound(5 * fine.config.hop_length)
    _, after = made.encode(audio, made.init_encoder(1), count)
    expected, _ = made.encode(audio, after, count)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: exit(not np.array_equal(made.encode(audio, after, count)[0], expected))
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_spawned_process_loads_the_model_again() -> None:
    """And goes on with the state of this one."""
    engine = CoreEngine("speech24k")
    audio = sound(960)
    _, after = engine.encode_step(audio, engine.init_encoder(1), 3)
    expected, _ = engine.encode_step(audio, after, 3)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found, _ = pool.submit(engine.encode_step, audio, after, 3).result(60)
    assert np.array_equal(found, expected)
