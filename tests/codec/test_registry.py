"""Models are found by name, by folder, and by what a stream says."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.codes import Codebook
from codec.engines.torch import TorchEngine
from codec.entropy.context_file import load_context
from codec.errors import FormatError, ModelError
from codec.network.model import Codec
from codec.rate.modes import Constant
from codec.registry import as_model, check_model, load_model, model_for
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from tests.conftest import sound


def test_an_engine_a_codec_a_name_and_a_folder_all_name_a_model(
    lapped: Codec, model_folder: Path
) -> None:
    engine = TorchEngine(lapped)
    assert as_model(engine).engine is engine
    for model in (lapped, model_folder, str(model_folder)):
        assert as_model(model).spec.fingerprint == lapped.fingerprint
    assert as_model("speech24k").spec.name == "speech24k"
    with pytest.raises(ModelError, match="is not a model"):
        as_model(3.5)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no model 'speech25k'"):
        as_model("speech25k")


def test_what_an_engine_says_of_a_model_is_what_the_model_is(codec: Codec) -> None:
    spec, config = TorchEngine(codec).spec, codec.config
    assert spec.plain_bitrates == config.plain_bitrates
    assert spec.frame_rate == config.frame_rate
    assert spec.hop_length == config.hop_length
    assert spec.codebooks == config.codebooks
    assert spec.flush_frames * spec.hop_length >= spec.delay


def test_a_stream_finds_its_packaged_model_by_itself(lapped: Codec) -> None:
    encoder = StreamEncoder(rate=Constant(6))
    packets = encoder.push(sound(2_000)) + encoder.finish()
    found = StreamDecoder(encoder.header)
    given = StreamDecoder(encoder.header, "speech24k")
    for packet in packets:
        assert np.array_equal(found.push(packet), given.push(packet))
    assert model_for(encoder.header) is model_for(encoder.header)
    with pytest.raises(ModelError, match="--model"):
        StreamDecoder(StreamEncoder(lapped).header)


def test_a_header_that_contradicts_its_model_is_refused() -> None:
    engine = load_model()
    header = dataclasses.replace(StreamEncoder(engine).header, context=b"")
    forged: list[dict[str, Any]] = [
        {"hop_length": 240},
        {"sample_rate": 16_000},
        {"codebooks": (Codebook(1024),) * 21},
        {"codebooks": (Codebook(512),) * 20},
        {"codebooks": (Codebook(1024, 2),) * 10},
        {"codebooks": (Codebook(1024), Codebook(512))},
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
        load_model(folder, backend="torch")
        load_context(folder, bytes(16))
