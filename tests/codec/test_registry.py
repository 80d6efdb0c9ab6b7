"""Models are found by name, by folder, and by what a stream says."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.engines.torch import TorchEngine
from codec.entropy.context_file import load_context
from codec.errors import FormatError, ModelError
from codec.network.model import Codec
from codec.registry import as_engine, check_model, codec_for, load_engine
from codec.stream import StreamDecoder, StreamEncoder
from tests.conftest import sound


def test_an_engine_a_codec_a_name_and_a_folder_all_name_a_model(
    lapped: Codec, model_folder: Path
) -> None:
    engine = TorchEngine(lapped)
    assert as_engine(engine) is engine
    for model in (lapped, model_folder, str(model_folder)):
        assert as_engine(model).info.fingerprint == lapped.fingerprint
    assert as_engine("speech24k").info.name == "speech24k"
    with pytest.raises(ModelError, match="is not a model"):
        as_engine(3.5)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no model 'speech25k'"):
        as_engine("speech25k")


def test_what_an_engine_says_of_a_model_is_what_the_model_is(codec: Codec) -> None:
    info, config = TorchEngine(codec).info, codec.config
    assert info.bitrates == config.bitrates
    assert info.frame_rate == config.frame_rate
    assert info.hop_length == config.hop_length
    assert info.bits_per_code == config.bits_per_code
    assert info.flush_frames * info.hop_length >= info.delay


def test_a_stream_finds_its_packaged_model_by_itself(lapped: Codec) -> None:
    encoder = StreamEncoder(bitrate=3_000)
    packets = encoder.push(sound(2_000)) + encoder.finish()
    found = StreamDecoder(None, encoder.header)
    given = StreamDecoder("speech24k", encoder.header)
    for packet in packets:
        assert np.array_equal(found.push(packet), given.push(packet))
    assert codec_for(encoder.header) is codec_for(encoder.header)
    with pytest.raises(ModelError, match="--model"):
        StreamDecoder(None, StreamEncoder(lapped).header)


def test_a_header_that_contradicts_its_model_is_refused() -> None:
    engine = load_engine()
    header = StreamEncoder(engine).header
    forged: list[dict[str, Any]] = [
        {"hop_length": 240},
        {"sample_rate": 16_000},
        {"num_codebooks": 21},
    ]
    for changes in forged:
        with pytest.raises(FormatError, match="contradicts the model"):
            check_model(engine, dataclasses.replace(header, **changes))


@pytest.mark.parametrize("name", ["weights.safetensors", "context.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_files_of_a_model_that_would_never_end_are_not_read(
    model_folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="not a regular file"):
        load_engine(folder, "torch")
        load_context(folder, bytes(16))
