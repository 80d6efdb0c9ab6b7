"""Who may import whom: strictly downward, so that there are no circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# A module may import from any later line, never from its own or an earlier one.
CODEC = [
    {"cli"},
    {"files"},
    {"stream", "store"},
    {"model"},
    {"quantizer", "scalar", "gaussian"},
    {"bottleneck"},
    {"layers"},
    {"scan"},
    {"folder"},
    {"config", "container", "audio"},
    {"errors", "bitpack"},
]
TRAIN = [
    {"loop", "inspect"},
    {"evaluate", "journal", "step", "checkpoint"},
    {"state", "health"},
    {
        "autoencoder",
        "calibrate",
        "data",
        "describe",
        "discriminators",
        "engine",
        "schedule",
        "start",
    },
    {"augment", "recordings"},
    {"crops"},
    {"config", "index", "metrics"},
    {"losses", "balancer"},
]
WITHOUT_TORCH = {"config", "container", "bitpack", "errors", "scan", "folder"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: import absolutely"
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(("package", "lines"), [("codec", CODEC), ("train", TRAIN)])
def test_modules_import_only_what_lies_below(package: str, lines: list[set[str]]) -> None:
    rank = {name: number for number, line in enumerate(lines) for name in line}
    paths = {path.stem: path for path in (REPOSITORY / package).glob("*.py")}
    assert set(paths) - {"__init__"} == set(rank), "list every module in its line"
    for name, path in paths.items():
        for module in imports(path):
            root, _, inner = module.partition(".")
            if root == package and inner and name != "__init__":
                assert rank[inner] > rank[name], f"{package}.{name} imports {module}"


def test_codec_does_not_know_of_training_or_benchmarks() -> None:
    for path in (REPOSITORY / "codec").glob("*.py"):
        roots = {module.partition(".")[0] for module in imports(path)}
        lazily = {"train"} if path.stem == "cli" else set()
        assert not roots & ({"train", "benchmarks", "tests"} - lazily), path.name
        top = {module.partition(".")[0] for module in imports(path, top_level_only=True)}
        assert "train" not in top, path.name


def test_the_format_needs_no_torch() -> None:
    for name in WITHOUT_TORCH:
        script = f"import sys, codec.{name}; assert 'torch' not in sys.modules"
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert result.returncode == 0, (name, result.stderr.decode())
