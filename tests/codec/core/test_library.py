"""The compiled library is the one that the header describes, and its absence is explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from codec.core import library
from codec.errors import ModelError
from tests.conftest import REPOSITORY

BACKEND = REPOSITORY / "codec" / "core" / "backend.py"
HEADER = REPOSITORY / "codec" / "core" / "include" / "aecodec.h"


def test_library_header_and_binding_have_one_interface() -> None:
    (stated,) = re.findall(r"#define AEC_INTERFACE (\d+)", HEADER.read_text())
    assert library.core().aec_interface() == library.INTERFACE == int(stated)


def test_a_missing_or_older_library_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = library.core.__wrapped__
    monkeypatch.setattr(library, "INTERFACE", 0)
    with pytest.raises(ModelError, match=r"has interface \d+, this version needs 0: run 'pip in"):
        load()
    monkeypatch.setattr(library, "PATH", tmp_path / "aecodec.so")
    with pytest.raises(ModelError, match=r"cannot be loaded from .*python codec/core/backend.py"):
        load()


def test_the_library_is_built_without_any_package(tmp_path: Path) -> None:
    """And without a compiler one line says what to do."""
    program = (
        f"import runpy; build = runpy.run_path({str(BACKEND)!r});"
        f"print(build['compile_library'](build['Path']({str(tmp_path / 'a.so')!r})))"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert Path(built.stdout.strip()).exists()
    nothing = {"PATH": "", "CC": ""}
    failed = subprocess.run(command, env=nothing, capture_output=True, text=True, check=False)
    assert failed.stderr.splitlines()[-1].startswith("RuntimeError: no C compiler was found: inst")
