"""onnxruntime is used without its telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

VARIABLE = "ORT_DISABLE_TELEMETRY"

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
    raise SystemExit
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run(script: str, home: Path, **variables: str) -> None:
    """Run a script with another home folder, where nothing says whether it may be written to."""
    environment = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "CI")}
    environment = {k: v for k, v in environment.items() if not k.startswith("XDG_")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(REPOSITORY)} | variables
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_coding_writes_nothing_to_an_empty_home(tmp_path: Path) -> None:
    run(CODING, tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_rating_naturalness_writes_nothing_to_an_empty_home(tmp_path: Path) -> None:
    pytest.importorskip("speechmos")
    script = "import codec.evaluation.naturalness; from speechmos.plcmos import PLCMOS; PLCMOS()"
    run(script, tmp_path, NUMBA_CACHE_DIR=str(tmp_path.parent))
    assert [path.name for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_ends_after_the_engine_was_used(tmp_path: Path) -> None:
    run(CODING + FORK, tmp_path)


def test_a_user_who_has_decided_on_telemetry_is_respected(tmp_path: Path) -> None:
    script = f"import os, codec.engines.runtime; assert os.environ[{VARIABLE!r}] == '0'"
    run(script, tmp_path, **{VARIABLE: "0"})
