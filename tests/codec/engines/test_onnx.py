"""The engine of onnxruntime: what it refuses, what it needs, and what it computes with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.engines import base
from codec.engines.onnx import OnnxEngine
from codec.engines.torch import TorchEngine
from codec.errors import ConfigError, ModelError, NotEnoughMemoryError
from codec.network.model import Codec
from codec.registry import load_model
from tests.conftest import RECORDING, sound
from tests.engines import folder_with_graphs

WITHOUT_TORCH = """
import sys
for name in ("torch", "einops", "safetensors", "onnx", "onnxscript"):
    sys.modules[name] = None  # as if it were not installed
"""


@pytest.fixture
def exported(lapped: Codec, tmp_path: Path) -> Path:
    """A model folder with graphs, to be damaged."""
    shutil.copytree(folder_with_graphs(lapped), tmp_path / "exported")
    return tmp_path / "exported"


def run_without_torch(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH + script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_packaged_models_and_exported_ones_run_with_onnxruntime(
    exported: Path, model_folder: Path
) -> None:
    assert isinstance(load_model().engine, OnnxEngine)
    assert isinstance(load_model(exported).engine, OnnxEngine)
    assert isinstance(load_model(model_folder).engine, TorchEngine)
    assert isinstance(load_model(exported, backend="torch").engine, TorchEngine)
    with pytest.raises(ModelError, match=r"has no graphs: aecodec export .*lapped"):
        load_model(model_folder, backend="onnx")
    with pytest.raises(ModelError, match=r"no backend 'tflite': give one of \['onnx', "):
        load_model(model_folder, backend="tflite")  # type: ignore[arg-type]


def test_damaged_and_mismatched_graphs_are_refused(exported: Path) -> None:
    path = exported / "graphs.json"
    graphs = json.loads(path.read_text())

    def refused(message: str, **changes: Any) -> None:
        path.write_text(json.dumps(graphs | changes))
        with pytest.raises(ModelError, match=message):
            OnnxEngine(exported).encode_step(sound(40), OnnxEngine(exported).init_encoder(1))

    refused("belongs to other weights: run aecodec export", weights_sha256=64 * "0")
    refused("has format 3, this version reads 2", format=3)
    refused("does not describe graphs: it has no 'sha256'", encoder={})
    outside = graphs["encoder"] | {"file": "../encoder.onnx"}
    refused("is no file in the folder", encoder=outside)
    path.write_text(json.dumps(graphs))
    (exported / "encoder.onnx").write_bytes(b"no graph")
    refused(r"encoder\.onnx is damaged: its SHA-256 is")
    (exported / "encoder.onnx").unlink()
    refused(r"cannot read .*encoder\.onnx")
    path.write_text("no json")
    with pytest.raises(ModelError, match="does not describe graphs"):
        OnnxEngine(exported)


def test_weights_are_checked_before_they_are_used(exported: Path) -> None:
    data = bytearray((exported / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (exported / "weights.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="is damaged or from another model"):
        OnnxEngine(exported)


def test_a_graph_that_is_none_is_refused_in_one_line(exported: Path) -> None:
    """With the right checksum, as a wrong tool could write it."""
    import hashlib

    (exported / "encoder.onnx").write_bytes(b"no graph")
    graphs = json.loads((exported / "graphs.json").read_text())
    graphs["encoder"]["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    (exported / "graphs.json").write_text(json.dumps(graphs))
    engine = OnnxEngine(exported)
    with pytest.raises(ModelError, match="onnxruntime cannot load") as caught:
        engine.encode_step(sound(40), engine.init_encoder(1))
    assert "\n" not in str(caught.value)


def test_impossible_numbers_of_codebooks_are_refused() -> None:
    engine = OnnxEngine("speech24k")
    audio = np.zeros((1, 480), np.float32)
    for count in (0, 21):
        with pytest.raises(ConfigError, match=f"{count} codebooks asked for.* 1 to 20"):
            engine.encode_step(audio, engine.init_encoder(1), count)
        with pytest.raises(ConfigError, match=f"codes of {count} codebooks.* 1 to 20"):
            engine.decode_step(np.zeros((1, count, 1), np.int64), engine.init_decoder(1))


def test_more_threads_compute_the_same() -> None:
    audio = sound(24_000)
    codes = base.encode(OnnxEngine("speech24k"), audio)
    again = base.encode(OnnxEngine("speech24k", threads=2), audio)
    assert (codes == again).mean() > 0.99


def test_sessions_of_different_bitrates_share_a_step() -> None:
    """A code of -1 is absent, so the graph takes them together."""
    engine = OnnxEngine("speech24k")
    codes = base.encode(engine, sound(4_800, 2))
    mixed = codes.copy()
    mixed[1, 3:] = -1
    audio, _ = engine.decode_step(mixed, engine.init_decoder(2))
    for channel, count in ((0, 20), (1, 3)):
        alone, _ = engine.decode_step(codes[channel : channel + 1, :count], engine.init_decoder(1))
        np.testing.assert_allclose(audio[channel], alone[0], atol=1e-5)


def test_files_are_coded_without_torch(tmp_path: Path) -> None:
    """Nor with any other package of the extras."""
    script = """
from codec.cli.app import main
main(sys.argv[1:])
"""
    codes, wav = tmp_path / "a.codes", tmp_path / "a.wav"
    for arguments in (["encode", RECORDING, codes], ["decode", codes, wav], ["info"]):
        result = run_without_torch(script, *arguments)
        assert result.returncode == 0, result.stderr
    assert wav.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("encode {recording} a.codes --backend torch", "PyTorch's engine needs"),
        ("encode {recording} a.codes --model {folder}", "PyTorch's engine needs"),
        ("export speech24k out", "aecodec: export needs"),
    ],
)
def test_what_needs_torch_names_the_extra_in_one_line(
    arguments: str, message: str, model_folder: Path
) -> None:
    script = "from codec.cli.app import main\nmain(sys.argv[1:])"
    words = arguments.format(recording=RECORDING, folder=model_folder).split()
    result = run_without_torch(script, *words)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert message in line and line.endswith('pip install "aecodec[torch]"')


@pytest.mark.parametrize("use", ["codec.load_codec()", "codec.Codec(None)", "load_codec('a')"])
def test_the_tensor_interface_names_its_extra(use: str) -> None:
    result = run_without_torch(f"import codec\nfrom codec import load_codec\n{use}")
    last = result.stderr.splitlines()[-1]
    assert "MissingPackageError: codec." in last
    assert last.endswith('pip install "aecodec[torch]"')


def test_the_public_names_are_there_without_torch() -> None:
    script = """
import codec
before = {*codec.__all__, "__version__"} - {*dir(codec)}
from codec import *
assert hasattr(codec, "Codec") and not isinstance(None, Codec)
assert before == set() and not hasattr(codec, "nothing")
"""
    result = run_without_torch(script)
    assert result.returncode == 0, result.stderr


def test_a_lack_of_memory_is_said_in_one_line_and_the_session_goes_on(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnnxEngine(exported)
    audio, state = np.zeros((2, 40), np.float32), engine.init_encoder(2)
    expected, _ = engine.encode_step(audio, state)

    class Full:
        """A session as it is where memory is not enough; its exceptions have no base class."""

        def __init__(self, message: str) -> None:
            self.message = message

        def run(self, *_: object) -> None:
            raise Exception(self.message)

    with monkeypatch.context() as patch:
        for message in ("Failed to allocate memory for requested buffer", "std::bad_alloc"):
            patch.setattr(engine._encoder, "_session", Full(f"[E] : 6 : in node\n{message} 9"))
            with pytest.raises(NotEnoughMemoryError, match="for 2 channels at once: close"):
                engine.encode_step(audio, state)
        patch.setattr(engine._encoder, "_session", Full("another failure"))
        with pytest.raises(Exception, match="another failure"):
            engine.encode_step(audio, state)
    assert np.array_equal(engine.encode_step(audio, state)[0], expected)
