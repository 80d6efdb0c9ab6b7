"""Who may import whom: rooms import only from rooms below them, and nothing imports in a circle."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# Each room may import from itself and from the rooms before it.
ROOMS = """
codec.threads
codec.errors codec.arguments codec.arrays codec.hub codec.settings codec.bitrate codec.codes
codec.config codec.core codec.io codec.highpass
codec.format codec.model_folder codec.entropy codec.export codec.network codec.engines
codec.registry codec.activity codec.rate codec.session codec.calls codec.files codec.corpus
codec.evaluation codec.cli
train.randomness train.objective train.recipe train.data train.report train.context train.run
train.cli
benchmarks.shared benchmarks.contenders benchmarks
""".split()  # noqa: SIM905


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """The project's own modules that each of its modules imports, anywhere in its text."""
    paths = [
        path
        for root in ("codec", "train", "benchmarks")
        for path in (REPOSITORY / root).rglob("*.py")
    ]
    names = {module_name(path) for path in paths}
    found: dict[str, set[str]] = {}
    for path in paths:
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: import absolutely"
                wanted |= {str(node.module), *(f"{node.module}.{each.name}" for each in node.names)}
            elif isinstance(node, ast.Import):
                wanted |= {each.name for each in node.names}
        found[module_name(path)] = wanted & names - {"codec", "train", "benchmarks"}
    return found


def room(module: str) -> int:
    matching = [n for n, name in enumerate(ROOMS) if f"{module}.".startswith(f"{name}.")]
    assert matching, f"{module} is in no room: add it to ROOMS"
    return matching[0]


def test_rooms_import_only_from_rooms_below() -> None:
    for module, wanted in imports().items():
        for other in wanted if module not in ("codec", "train") else ():
            assert room(other) <= room(module), f"{module} imports {other}"


def test_nothing_imports_in_a_circle() -> None:
    graph = imports()
    del graph["codec"]  # its public names are imported when they are used
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "statement",
    [
        "import codec.session.encoder, codec.files, codec.registry, codec.cli.app, train.cli",
        "import codec.calls.jitter, codec.calls.rtp",
        "import codec.format.reading, codec.evaluation.evaluate, codec.corpus.workers",
        "import codec.corpus.tokenize, codec.corpus.detokenize, codec.corpus.patterns",
        "from codec import StreamDecoder, StreamEncoder, decode_file, encode_file, model_for",
    ],
)
def test_what_carries_codes_imports_no_torch(statement: str) -> None:
    script = f"import sys; {statement}; assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
