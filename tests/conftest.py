"""Shared fixtures: tiny seeded models, sounds of awkward lengths, folders of them."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from codec.config import CodecConfig
from codec.files.encode import write_stream
from codec.format.summary import StreamSummary
from codec.io.audio import open_audio
from codec.io.outputs import atomic_output
from codec.model_folder import DEFAULT_MODEL
from codec.network.model import Codec
from codec.network.weights import load_codec, save_codec
from codec.rate.modes import RateLike
from codec.registry import ModelLike, as_model
from codec.session.packing import Packing
from train.recipe.loading import load_recipe
from train.recipe.sections import TrainConfig

# Tests run in as many processes as there are processors, so each process and what it starts has one
# thread. The processes of pytest-xdist inherit these variables from the one that starts them.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: at the end they would keep one process busy while the others wait."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


REPOSITORY = Path(__file__).parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"
RECORDING = REPOSITORY / "examples" / "speech.flac"

LAPPED = CodecConfig(
    sample_rate=8000,
    strides=(20, 2),
    encoder_channels=(12, 16),
    decoder_channels=(12, 16),
    encoder_dilations=((1, 2), (1,)),
    decoder_dilations=((3,), (1, 2)),
    kernel_size=3,
    lapped_transform=True,
    latent_dim=10,
    num_codebooks=4,
    codebook_size=32,
    codebook_dim=4,
)
"""A hop of 40 samples: small enough to push sample by sample."""

LADDER = CodecConfig(
    sample_rate=11025,
    strides=(4, 3, 3),
    encoder_channels=(4, 6, 8),
    decoder_channels=(6, 8, 10),
    encoder_dilations=((1,), (), (1, 3)),
    decoder_dilations=((1, 3), (1,), ()),
    kernel_size=5,
    lapped_transform=False,
    lookahead=7,
    latent_dim=8,
    num_codebooks=3,
    codebook_size=8,
    codebook_dim=8,
)
"""A ladder of small strides at a rate whose frames are no whole number per second."""


PRETRAINED: dict[str, dict[str, Any]] = {
    "encodec": {"num_filters": 2, "hidden_size": 8, "num_lstm_layers": 1},
    "dac": {"encoder_hidden_size": 2, "decoder_hidden_size": 16, "codebook_dim": 2},
    "mimi": {
        "num_filters": 2,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "upsample_groups": 16,
    },
    "snac": {"encoder_dim": 4, "decoder_dim": 32, "codebook_dim": 4},
}
"""Settings of small networks of other projects with the published codebooks and bits."""


def make_codec(config: CodecConfig, folder: Path, seed: int = 0) -> Codec:
    """A random model that has been saved and loaded, so that it has a fingerprint.

    Every weight is random, also those that start at zero: a zero would hide its layer's faults.
    """
    torch.manual_seed(seed)
    codec = Codec(config)
    with torch.no_grad():
        for parameter in codec.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        latent = codec.encode_latent(torch.randn(8, config.channels, 100 * config.hop_length) * 0.1)
        codec.quantizer.initialize(latent.flatten(0, 1))
    save_codec(codec, folder, name="test")
    return load_codec(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "lapped"
    make_codec(LAPPED, folder)
    return folder


@pytest.fixture(scope="session")
def lapped(model_folder: Path) -> Codec:
    return load_codec(model_folder)


@pytest.fixture(scope="session")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(LADDER, tmp_path_factory.mktemp("models") / "ladder")


# The other kinds of code and memory, each on one of the two ladders.
FSQ = dataclasses.replace(LADDER, bottleneck="fsq", codebook_dim=2)
GRU = dataclasses.replace(LADDER, recurrent="gru")
LSTM = dataclasses.replace(LAPPED, bottleneck="fsq", recurrent="lstm")
VAE = dataclasses.replace(LAPPED, bottleneck="vae")
STEREO = dataclasses.replace(LADDER, channels=2)
FINE = dataclasses.replace(
    LAPPED, decoder_fine_stride=5, decoder_fine_channels=8, decoder_fine_dilations=(1, 2)
)


@pytest.fixture(scope="session")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(STEREO, tmp_path_factory.mktemp("models") / "stereo")


@pytest.fixture(scope="session")
def fsq(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(FSQ, tmp_path_factory.mktemp("models") / "fsq")


@pytest.fixture(scope="session")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(GRU, tmp_path_factory.mktemp("models") / "gru")


@pytest.fixture(scope="session")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(LSTM, tmp_path_factory.mktemp("models") / "lstm")


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(VAE, tmp_path_factory.mktemp("models") / "vae")


@pytest.fixture(scope="session")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return make_codec(FINE, tmp_path_factory.mktemp("models") / "fine")


@pytest.fixture(params=["lapped", "ladder", "fsq", "gru", "lstm", "fine"])
def codec(request: pytest.FixtureRequest) -> Codec:
    """Each test of the codec runs on both kinds of ladder, and on every kind of code and memory."""
    codec: Codec = request.getfixturevalue(request.param)
    return codec


def encode_in_packets(
    source: Path,
    target: Path,
    num_frames: int,
    *,
    model: ModelLike = DEFAULT_MODEL,
    rate: RateLike = None,
) -> StreamSummary:
    """`encode_file`, but in packets of so many frames."""
    seconds = (num_frames + 0.5) / float(as_model(model).spec.frame_rate)
    with open_audio(source) as reader, atomic_output(target, force=True) as out:
        packing = Packing.file(seconds, num_samples=reader.num_samples or None)
        return write_stream(reader, out, model, rate, packing=packing)


def sound(num_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise with a moving level, ``[C, n]`` float32: no two frames alike."""
    rng = np.random.default_rng(seed)
    level = 0.1 + 0.1 * np.sin(np.arange(num_samples) / 97)
    return (rng.standard_normal((channels, num_samples)) * level).clip(-1, 1).astype(np.float32)


@pytest.fixture
def training_recipe() -> TrainConfig:
    """The tiny recipe on the smallest model, for a few steps."""
    tiny = load_recipe("tiny")
    return dataclasses.replace(
        tiny,
        model=dataclasses.replace(LAPPED, sample_rate=24_000),
        run=dataclasses.replace(tiny.run, steps=6, validate_every=3, checkpoint_every=2),
        data=dataclasses.replace(tiny.data, crop_frames=60, batch_size=2, validation_files=2),
        quantizer=dataclasses.replace(tiny.quantizer, restart_every=2),
    )


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training audio, good and bad: what a real folder looks like."""
    folder = tmp_path_factory.mktemp("audio")
    recording, rate = soundfile.read(RECORDING)
    for number, start in enumerate(range(0, 120_000, 40_000)):
        soundfile.write(folder / f"speech_{number}.flac", recording[start:][:40_000], rate)
    soundfile.write(folder / "music_five.wav", sound(30_000, 5).T, 96_000)
    soundfile.write(folder / "sound_short.wav", sound(800)[0], 8_000)
    soundfile.write(folder / "none.wav", np.zeros(0), 8_000)
    (folder / "broken.wav").write_bytes(b"RIFF" + bytes(40))
    (folder / "text.wav").write_text("no sound")
    (folder / "notes.txt").write_text("not audio at all")
    return folder


def wav(num_samples: int, rate: int = 24_000, channels: int = 1, seed: int = 0) -> bytes:
    """A file of `sound`."""
    file = io.BytesIO()
    soundfile.write(file, sound(num_samples, channels, seed).T, rate, format="WAV")
    return file.getvalue()


def make_shard(path: Path, members: dict[str, bytes]) -> None:
    """A tar archive of files by name."""
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Training audio as real folders hold it, good and bad: see `tests.codec.corpus.test_index`."""
    folder = tmp_path / "data"
    for name in ("music", "voices/anna", "x.wav"):
        (folder / name).mkdir(parents=True)
    (folder / "speech_a.wav").write_bytes(wav(10_007))
    (folder / "music" / "tiny.wav").write_bytes(wav(800, 8_000))
    soundfile.write(folder / "music" / "high.FLAC", sound(9_000)[0], 96_000, format="FLAC")
    (folder / "voices" / "anna" / "five.wav").write_bytes(wav(3_000, channels=5))
    (folder / "x.wav" / "ключ und müsli.wav").write_bytes(wav(4_000))
    (folder / "broken.wav").write_bytes(b"RIFF" + bytes(40))
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.ogg").write_bytes(b"")
    (folder / "silent.wav").write_bytes(wav(0))
    (folder / "notes.txt").write_text("not audio at all")
    os.mkfifo(folder / "pipe.wav")
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    (folder / "music" / "loop").symlink_to(folder)
    good = {"a/k1.wav": wav(5_000), "a/k1.json": b"{}", "sound_k2.wav": wav(6_000, 8_000)}
    make_shard(folder / "shard.tar", good | {"bad.flac": b"no sound", "k3.wav": b""})
    make_shard(folder / "cut.tar", {"sound_whole.wav": wav(700), "sound_cut.wav": wav(90_000)})
    os.truncate(folder / "cut.tar", 60_000)
    (folder / "nonsense.tar").write_bytes(b"no tar" * 1000)
    return folder
