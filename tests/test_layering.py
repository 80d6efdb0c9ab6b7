"""Who may import whom: rooms import only from rooms below them, and nothing imports in a circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

from tests.conftest import REPOSITORY

# Each room may import from itself and from the rooms before it.
ROOMS = [
    "codec.errors",
    "codec.config",
    "codec.io",
    "codec.format",
    "codec.registry",
    "codec.network",
    "codec.stream",
    "codec.files",
    "codec.corpus",
    "codec.quality",
    "codec.cli",
    "train.recipe",
    "train.data",
    "train.objective",
    "train.report",
    "train.run",
    "benchmarks.contenders",
    "benchmarks.shared",
    "benchmarks",
]


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
            upwards = room(other) > room(module)
            assert not upwards or module == "codec.cli", f"{module} imports {other}"


def test_nothing_imports_in_a_circle() -> None:
    graph = imports()
    del graph["codec"]  # it names what its parts define, when asked
    graphlib.TopologicalSorter(graph).prepare()
