"""What one must open to follow a path of the code is what docs/design.md says."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY


def load_script() -> Any:
    loader = SourceFileLoader("names", str(REPOSITORY / ".ci" / "names"))
    spec = spec_from_loader("names", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


SCRIPT = load_script()


def test_the_table_of_the_documentation_is_counted() -> None:
    """After a change: run `.ci/names`, and copy what it prints."""
    text = (REPOSITORY / "docs" / "design.md").read_text("utf-8")
    code = SCRIPT.Code(REPOSITORY)
    for path, entry in SCRIPT.PATHS.items():
        row = rf"^\| {path} \|.*\| {SCRIPT.counts(code, entry)} \| \d+ \|$"
        assert re.search(row, text, re.MULTILINE), f"{path}: {SCRIPT.counts(code, entry)}"


@pytest.fixture
def code(tmp_path: Path) -> Any:
    (tmp_path / "codec" / "io").mkdir(parents=True)
    (tmp_path / "codec" / "one.py").write_text(
        "from codec.io.files import read\n"
        "from codec.two import LIMIT, Kept, Type, helper as other\n"
        "def entry(value: Type, most: int = LIMIT):\n"
        "    read(other)\n"
        "    return Kept().called\n"
        "def alone(): ...\n"
    )
    (tmp_path / "codec" / "two.py").write_text(
        "LIMIT: int = 1\n"
        "class Type: ...\n"
        "class Kept:\n"
        "    def __init__(self): _begin()\n"
        "    def called(self): ...\n"
        "    def not_called(self): ...\n"
        "def helper(): ...\n"
        "def _begin(): ...\n"
    )
    (tmp_path / "codec" / "io" / "files.py").write_text("def read(): ...\n")
    return SCRIPT.Code(tmp_path)


def test_names_are_counted_up_to_the_seams_and_without_types(code: Any) -> None:
    found = {name for _, name in code.reached("codec.one:entry")}
    assert found == {"entry", "LIMIT", "Kept", "Kept.called", "helper", "_begin"}
    assert SCRIPT.counts(code, "codec.one:entry") == "6 names in 2 files"
