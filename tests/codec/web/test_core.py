"""The core as WebAssembly gives what the library gives, to the bit."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from codec import Redundancy, StreamEncoder, cut_file, encode_file
from codec.activity.pauses import PauseDetector
from codec.cli.web import MODELS, PAGE, copy_page, page_files
from codec.config import CodecConfig
from codec.core import wasm
from codec.core.quantize import quantize
from codec.engines.core import CoreEngine
from codec.entropy.context import NO_CODE, ContextModel, ContextShape
from codec.entropy.context_file import CONTEXT_FILE, save_context
from codec.files.decode import FileDecoder
from codec.files.encode import encode
from codec.format.container import Packet, PacketWriter
from codec.model_folder import DEFAULT_MODEL, as_stored
from codec.rate.modes import Average, Constant, Quality, Rate, RateLike
from codec.rate.search import rate_distortion_search
from codec.registry import Model, load_model
from codec.session.packing import Packing
from tests.codec.core.fuzz_network import random_weights
from tests.codec.entropy.oracle import random_context
from tests.codec.web.node import in_node
from tests.conftest import RECORDING, sound
from tests.engines import saved_folder

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")

SECONDS = 2


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(DEFAULT_MODEL, backend="core")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a folder."""
    folder = tmp_path_factory.mktemp("page") / "site"
    copy_page(page_files([DEFAULT_MODEL]), folder)
    return folder


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """``[1, n]``, a number of samples that is no multiple of anything."""
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    return np.ascontiguousarray(samples[None, : SECONDS * rate + 7])


def in_core(site: Path, *tasks: dict[str, Any]) -> list[Any]:
    """Answers of ``core.mjs`` to tasks with the first model of a page."""
    first = json.loads((site / MODELS).read_text())[0]
    named = {"folder": str(site), "model": first}
    return in_node([named | task for task in tasks], "core.mjs")


def digest(arrays: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()


def test_the_file_is_of_the_present_sources() -> None:
    data = (PAGE / "aecodec.wasm").read_bytes()
    assert data.endswith(wasm.digest_section()), "run: python -m codec.core.wasm"
    assert len(data) < 300_000


def stepped(engine: CoreEngine, audio: np.ndarray, frames: Sequence[int], rows: int) -> Any:
    """What ``core.mjs`` answers to the task "steps", and the bytes of the audio of its steps.

    Args:
        engine: the model.
        audio: ``[rows * channels, n]``.
        frames: number of frames of each step.
        rows: number of signals.
    """
    network, spec = engine._network, engine.spec
    encoder, decoder = network.init_encoder(rows), network.init_decoder(rows)
    given, found, start = [], [], 0
    for length in (count * spec.hop_length for count in frames):
        given.append(np.ascontiguousarray(audio[:, start : start + length]))
        start += length
        codes, errors, latent, encoder = network.analyze(given[-1], encoder, spec.num_codebooks)
        decoded, decoder = network.decode(codes, decoder)
        found.append((codes.astype(np.int32), errors, latent, decoded))
    names = ("codes", "errors", "latent", "audio")
    digests = {name: digest(arrays) for name, *arrays in zip(names, *found, strict=True)}
    return digests | {"states": digest([encoder, decoder])}, b"".join(x.tobytes() for x in given)


@needs_node
@pytest.mark.parametrize("rows", [1, 2])
def test_steps_of_any_length_give_the_same_codes_errors_latents_and_samples(
    site: Path, model: Model, recording: np.ndarray, tmp_path: Path, rows: int
) -> None:
    frames, audio = [1, 1, 1, 20, 0, 3], np.stack([recording[0], recording[0, ::-1]])[:rows]
    assert isinstance(model.engine, CoreEngine)
    expected, given = stepped(model.engine, audio, frames, rows)
    (tmp_path / "audio").write_bytes(given)
    task = {"kind": "steps", "audio": str(tmp_path / "audio"), "frames": frames, "rows": rows}
    answers = in_core(site, *(task | {"kernel": kernel} for kernel in ("", "portable")))
    assert answers == [expected, expected]


@needs_node
@pytest.mark.parametrize("name", ["lapped", "ladder", "fsq", "stereo", "fine"])
def test_models_of_other_shapes_give_the_same(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder, frames = saved_folder(request.getfixturevalue(name)), [1, 4, 1]
    copy_page(page_files([str(folder)]), tmp_path / "site")
    engine = CoreEngine(folder)
    audio = sound(6 * engine.spec.hop_length, engine.spec.channels_coded_together)
    expected, given = stepped(engine, audio, frames, 1)
    (tmp_path / "audio").write_bytes(given)
    task = {"kind": "steps", "audio": str(tmp_path / "audio"), "frames": frames, "rows": 1}
    assert in_core(tmp_path / "site", task) == [expected]


@needs_node
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_gives_the_same_file_at_every_rate(
    site: Path, model: Model, recording: np.ndarray, tmp_path: Path, channels: int
) -> None:
    rates: list[tuple[Rate, dict[str, Any]]] = [
        (Constant(9), {"mode": "constant", "codebooks": 9}),
        (Average(3_000), {"mode": "average", "bitrate": 3_000}),
        (Average(10_000), {"mode": "average", "bitrate": 10_000}),
        (Quality(4.3), {"mode": "quality", "quality": 4.3}),
        (Quality(10), {"mode": "quality", "quality": 10}),
    ]
    # Packets that wait for one another, and a pause.
    long = np.concatenate([recording, *[with_silence(recording)] * 3, recording], axis=1)
    frames = np.ascontiguousarray(long[:, : long.shape[1] // 480 * 480])
    assert PauseDetector(24_000, 480).find(frames)[0].sum() > 50
    tasks, expected = [], []
    for length in (0, 1, 480, 48_000 - model.spec.delay, recording.shape[1], long.shape[1]):
        audio = np.stack([long[0, :length], 0.1 * long[0, :length][::-1]])[:channels]
        audio, path = audio.astype(np.float32), tmp_path / str(length)
        path.write_bytes(audio.tobytes())
        for rate, named in rates:
            data = encode(audio, model.spec.sample_rate, model=model, rate=rate)
            task = {"kind": "encode", "audio": str(path), "channels": channels, "rate": named}
            tasks.append(task)
            expected.append(hashlib.sha256(data).hexdigest())
    assert in_core(site, *tasks) == expected
    assert len(set(expected)) > len(expected) // 2


@needs_node
@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"mode": "average", "bitrate": 400}, "codes 0.5 kbit/s to 10 kbit/s per channel"),
        ({"mode": "average", "bitrate": 1e30}, "codes 0.5 kbit/s to 10 kbit/s per channel"),
        ({"mode": "average", "bitrate": "much"}, "bitrate is much"),
        ({"mode": "average"}, "bitrate is undefined"),
        ({"mode": "quality", "quality": 10.1}, "quality is 10.1: give 0 to 10"),
        ({"mode": "quality", "quality": -1}, "quality is -1: give 0 to 10"),
        ({"mode": "quality", "quality": 0.05}, "in steps of a tenth"),
        ({"mode": "constant", "codebooks": 21}, "codebooks is 21: this model has 1 to 20"),
        ({"mode": "constant", "codebooks": 0.5}, "codebooks is 0.5: this model has 1 to 20"),
        ({"mode": "best"}, "mode is best: give constant, average or quality"),
        ({}, "mode is undefined"),
    ],
)
def test_a_rate_that_there_is_not_gives_one_line(
    site: Path, tmp_path: Path, rate: dict[str, Any], message: str
) -> None:
    (tmp_path / "audio").write_bytes(np.zeros(999, np.float32).tobytes())
    task = {"kind": "encode", "audio": str(tmp_path / "audio"), "rate": rate}
    ((name, found),) = in_core(site, task)
    assert name == "CodecError" and message in found and "\n" not in found


def call(model: Model, audio: np.ndarray, lost: Sequence[int], **options: Any) -> bytes:
    """The stream of a call with packets of one frame, of which some do not arrive."""
    packing = Packing.live(**options)
    encoder = StreamEncoder(model, rate=6_000, packing=packing)
    packets: list[Packet] = encoder.push(audio) + encoder.finish()
    file = io.BytesIO()
    writer = PacketWriter(file, encoder.header)
    for packet in packets:
        if packet.sequence not in lost:
            writer.write(packet)
    return file.getvalue()


def with_silence(audio: np.ndarray) -> np.ndarray:
    """Audio whose second half is steady noise that nobody hears."""
    noise = np.random.default_rng(0).standard_normal(audio.shape) * 1e-4
    found = audio.copy()
    found[:, audio.shape[1] // 2 :] = noise[:, audio.shape[1] // 2 :]
    return found


def streams(model: Model, audio: np.ndarray, folder: Path) -> dict[str, bytes]:
    """Streams of all kinds."""
    quiet, rate = with_silence(audio), model.spec.sample_rate
    soundfile.write(folder / "quiet.wav", quiet.T, rate, subtype="FLOAT")

    def file(rate: RateLike, **options: Any) -> bytes:
        encode_file(folder / "quiet.wav", folder / "a.codes", model=model, rate=rate, **options)
        return (folder / "a.codes").read_bytes()

    found = {
        "constant": file(Constant(7), force=True),
        "variable": file(3_000, force=True),
    }
    cut_file(folder / "a.codes", folder / "cut.codes", span=(0.3, 1.2))
    found["cut"] = (folder / "cut.codes").read_bytes()
    damaged = bytearray(found["variable"])
    damaged[400] ^= 1
    found["damaged"] = bytes(damaged)
    found["call"] = call(model, audio, lost=[5, 6, 7, 20, 40, 41, 42, 43, 44, 45])
    found["redundancy"] = call(model, audio, lost=[9, 10], redundancy=Redundancy(3, 3_000))
    found["dtx"] = call(model, quiet, lost=[70], dtx=True)
    found["all"] = call(model, quiet, lost=[30], dtx=True, redundancy=Redundancy(2, 2_000))
    return found


@needs_node
def test_streams_of_all_kinds_give_the_same_samples(
    site: Path, model: Model, recording: np.ndarray, tmp_path: Path
) -> None:
    """With losses, pauses, silence that was not sent, and packets that carry earlier frames."""
    tasks, expected = [], []
    for name, data in streams(model, recording, tmp_path).items():
        path = tmp_path / name
        path.write_bytes(data)
        for limit in (None, 2):
            decoding = FileDecoder(io.BytesIO(data), name, model, limit, "model")
            audio = np.concatenate(list(decoding.blocks()), axis=1)
            assert audio.std() > 1e-3
            facts = {"audio": digest([audio]), "samples": audio.shape[1]}
            expected.append({"name": name, **facts, "damage": decoding.summary.damage() is None})
            tasks.append({"kind": "decode", "stream": str(path), "limit": limit, "name": name})
    found = [
        {"name": task["name"], **answer, "damage": answer["damage"] is None}
        for task, (answer,) in zip(tasks, in_core(site, *tasks), strict=True)
    ]
    assert found == expected
    assert [each["damage"] for each in expected[::2]].count(False) >= 4


def test_streams_of_all_kinds_are_of_all_kinds(
    model: Model, recording: np.ndarray, tmp_path: Path
) -> None:
    found = streams(model, recording, tmp_path)
    decoders = {name: FileDecoder(io.BytesIO(data), name, model) for name, data in found.items()}
    assert decoders["variable"].header.pauses and decoders["cut"].header.skip
    assert decoders["dtx"].header.dtx and not decoders["call"].header.dtx
    assert len(found["dtx"]) < 0.8 * len(found["call"]) < len(found["redundancy"])


@needs_node
def test_the_search_chooses_the_same_candidates(tmp_path: Path) -> None:
    shape = ContextShape(4, 64, 3, width=8, hidden=5, dilations=(1, 2))
    rng = np.random.default_rng(0)
    tensors = random_context(rng, shape, largest=25)
    save_context(tmp_path, shape, tensors, bytes(16))
    candidates = rng.integers(64, size=(2, 9, 5, 3))
    candidates[:, :, 2:, 2] = NO_CODE
    errors = rng.random((2, 9, 5), np.float32)
    expected = rate_distortion_search(ContextModel(shape, tensors), candidates, errors, 0.03)
    sizes = {"channels": 2, "frames": 9, "each": 5, "lambda": 0.03}
    values = {"candidates": candidates.reshape(-1).tolist(), "errors": errors.reshape(-1).tolist()}
    task = {"kind": "search", "context": str(tmp_path / CONTEXT_FILE), **sizes, **values}
    (chosen,) = in_node([task], "core.mjs")
    places = np.array(chosen).reshape(2, 9, 1, 1)
    assert np.array_equal(
        np.take_along_axis(candidates, places, axis=2)[:, :, 0].transpose(0, 2, 1), expected
    )
    assert len(set(chosen)) > 2


@needs_node
def test_what_the_core_refuses_is_an_error_of_one_line(site: Path) -> None:
    (error,) = in_core(site, {"kind": "error", "codes": [1, 1024]})
    assert error == ["CodecError", "a code is beyond its codebook (aec_decode)"]


@needs_node
def test_sizes_beyond_the_memory_of_a_page_are_refused(tmp_path: Path) -> None:
    """Where an address has 32 bits: products of sizes must not become small numbers."""
    config = CodecConfig(
        sample_rate=8_000,
        strides=(1, 32, 32, 32),
        encoder_channels=(1,) * 4,
        decoder_channels=(4096, 1, 1, 1),
        encoder_dilations=((),) * 4,
        decoder_dilations=((),) * 4,
        kernel_size=1,
        lapped_transform=False,
        latent_dim=8,
        num_codebooks=1,
        codebook_size=4,
        codebook_dim=2,
    )
    weights = tmp_path / "weights"
    tensors = quantize(random_weights(config, np.random.default_rng(0)), config)
    weights.write_bytes(as_stored(tensors))
    task = {"kind": "sizes", "codec": config.to_dict(), "weights": str(weights)}
    (answer,) = in_node([task], "core.mjs")
    memory = "not enough memory for the model: close other pages"
    sizes = "sizes of arrays that do not fit the model"
    assert answer[:2] == [-2, -1]
    assert answer[2:4] == [f"{memory} (aec_context_create)", f"{memory} (aec_coder_create)"]
    assert answer[4] == f"{sizes} (aec_model_create)"


@needs_node
def test_memory_that_was_given_back_is_not_used_again() -> None:
    assert in_node([{"kind": "room"}], "core.mjs") == [["no memory", True]]
