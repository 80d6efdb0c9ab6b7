"""What works without PyTorch and the other packages of the extras, and what is said of the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec.network.model import Codec
from tests.conftest import RECORDING, REPOSITORY
from tests.engines import saved_folder

WITHOUT_TORCH = """
import sys
for name in ("torch", "einops", "safetensors", "onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None  # as if it were not installed
"""

CODING = """
import numpy as np
from codec import StreamDecoder, StreamEncoder, load_model
engine = load_model()
encoder = StreamEncoder(engine)
decoder = StreamDecoder(encoder.header, engine)
for packet in encoder.push(np.zeros((1, 960), np.float32)):
    decoder.push(packet)
"""

FORK = """
import os, signal
child = os.fork()
if child == 0:
    signal.alarm(10)  # it hangs only so long
    decoder.push(packet)
    raise SystemExit
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_the_package_is_small() -> None:
    """All files of the package, of which a wheel has three quarters."""
    files = (REPOSITORY / "codec").rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
    assert size < 16e6


def run_without_torch(
    script: str, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH + script, *map(str, arguments)]
    environment = os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_files_are_coded_without_torch(tmp_path: Path, model_folder: Path) -> None:
    """Nor with any other package of the extras, by a model as training left it too."""
    script = """
from codec.cli.app import main
main(sys.argv[1:])
"""
    codes, wav = tmp_path / "a.codes", tmp_path / "a.wav"
    for model in ("speech24k", model_folder):
        for words in (("encode", RECORDING, codes), ("decode", codes, wav)):
            result = run_without_torch(script, *words, "--model", model, "--force")
            assert result.returncode == 0, result.stderr
        assert wav.stat().st_size > 100_000
        assert run_without_torch(script, "info", "--model", model).returncode == 0
        assert run_without_torch(script, "export", model, tmp_path / "8", "-f").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("encode {recording} a.codes --backend torch", "PyTorch's engine needs"),
        ("encode {recording} a.codes --model {gru}", "PyTorch's engine needs"),
    ],
)
def test_what_needs_torch_names_the_extra_in_one_line(
    arguments: str, message: str, gru: Codec
) -> None:
    script = "from codec.cli.app import main\nmain(sys.argv[1:])"
    words = arguments.format(recording=RECORDING, gru=saved_folder(gru)).split()
    result = run_without_torch(script, *words)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert message in line and line.endswith('pip install "aecodec[torch]"')


@pytest.mark.parametrize(("family", "extra"), [("mimi", "transformers"), ("snac", "snac")])
def test_models_of_other_projects_name_their_extra(family: str, extra: str) -> None:
    script = "from codec.cli.app import main\nmain(sys.argv[1:])"
    result = run_without_torch(script, "encode", RECORDING, "a.codes", "--model", f"{family}=x")
    assert result.stderr.startswith(f"aecodec: a model of {family} needs ")
    assert result.stderr.endswith(f'pip install "aecodec[{extra}]"\n')


def test_graphs_name_an_extra_of_their_own() -> None:
    script = "from codec.cli.app import main\nmain(sys.argv[1:])"
    result = run_without_torch(script, "export", "speech24k", "out", "--onnx")
    assert result.stderr.startswith("aecodec: export --onnx needs ")
    assert result.stderr.endswith('pip install "aecodec[onnx]"\n')


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


def test_coding_writes_nothing_to_an_empty_home(tmp_path: Path) -> None:
    result = run_without_torch(CODING, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_goes_on_with_a_session_and_ends() -> None:
    result = run_without_torch(CODING + FORK)
    assert result.returncode == 0, result.stderr
