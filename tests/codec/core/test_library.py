"""The compiled library is the one that the header describes, and comes with the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from codec.core import library
from codec.errors import ModelError
from tests.codec.core.fuzz import Fuzzer
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


needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="compiles, as pip does with ziglang"
)


@needs_compiler
@pytest.mark.slow
def test_the_library_is_built_without_any_package_and_without_warnings(tmp_path: Path) -> None:
    """And without a compiler one line says what to do."""
    built = tmp_path / "new" / "aecodec.so"
    program = (
        f"import runpy; from pathlib import Path; build = runpy.run_path({str(BACKEND)!r});"
        f"build['compile_library'](Path({str(built)!r}), flags=['-Werror', '-O0'])"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    subprocess.run(command, check=True)
    assert [each.name for each in built.parent.iterdir()] == ["aecodec.so"]
    nothing = {"PATH": "", "CC": ""}
    failed = subprocess.run(command, env=nothing, capture_output=True, text=True, check=False)
    assert failed.stderr.splitlines()[-1].startswith("RuntimeError: no C compiler was found: inst")


@needs_compiler
@pytest.mark.slow
def test_a_wheel_has_the_library_and_a_source_distribution_what_builds_it(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    for name in ("README.md", "LICENSE", "MANIFEST.in", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    unneeded = shutil.ignore_patterns("models", "__pycache__", "_lib")
    shutil.copytree(REPOSITORY / "codec", tmp_path / "codec", ignore=unneeded)
    program = (
        "import sys; sys.path.insert(0, 'codec/core'); import backend;"
        "backend.build_wheel('out'); backend.build_sdist('out')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert "-py3-none-" in wheel.name and not wheel.name.endswith("-any.whl")
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {f"codec/core/_lib/{library.PATH.name}", "codec/core/include/aecodec.h"} <= files
    assert not any(name.endswith(".c") for name in files)
    (archive,) = (tmp_path / "out").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    sources = {f"codec/core/src/{path.name}" for path in (BACKEND.parent / "src").iterdir()}
    assert sources | {"codec/core/backend.py", "codec/core/include/aecodec.h"} <= names
    assert not any("_lib" in name for name in names)


def test_random_calls_are_computed_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run without sanitizers, which ``.ci/sanitize`` has."""
    monkeypatch.setenv("AECODEC_KERNEL", "")  # is set to others, and back to what it was
    fuzzer = Fuzzer(seed=0)
    fuzzer.run(1_000)
    functions = {name for name, _ in fuzzer.outcomes}
    assert len(functions) == 19
    assert {(name, each) for name in functions for each in (True, False)} == set(fuzzer.outcomes)
