"""The README and the documentation: blocks run, links lead somewhere, named files exist."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import soundfile
from click.testing import CliRunner

import codec
from codec.cli.app import main
from tests.conftest import RECORDING, REPOSITORY
from tests.test_docstrings import WITH_EXAMPLE
from train.recipe.sections import TrainConfig

DOCUMENTS = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text("utf-8")
    for path in (
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "CHANGELOG.md",
        REPOSITORY / "examples" / "README.md",
        REPOSITORY / "benchmarks" / "RESULTS.md",
        *sorted((REPOSITORY / "docs").rglob("*.md")),
        *sorted((REPOSITORY / "codec" / "models").glob("*/card.md")),
    )
}
LANGUAGES = {"bash", "python", "text", "javascript", "cpp"}
"""Languages of fenced blocks. Blocks that are not run are ``text``, or in another language."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: str, language: str) -> list[str]:
    return [text for name, text in FENCE.findall(DOCUMENTS[document]) if name == language]


PYTHON_BLOCKS = {
    f"{document} {number}": text
    for document in DOCUMENTS
    for number, text in enumerate(blocks(document, "python"))
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the files that examples name, and the command ``aecodec`` in ``bin/``."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    (tmp_path / "recordings").mkdir()
    shutil.copy(RECORDING, tmp_path / "recordings")
    samples, rate = soundfile.read(RECORDING)
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    soundfile.write(tmp_path / "talk.mp3", samples, rate)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "aecodec"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m codec.cli "$@"\n')
    command.chmod(0o755)
    return tmp_path


def commands(*documents: str) -> list[str]:
    """The lines of all bash blocks, each one once: without installation, with less to do."""
    lines = [
        line.removeprefix("pip install . && ")
        .replace("--minutes 3", "--minutes 0.02")
        .replace(" --workers 2", "")  # processes take long to start
        .replace("aecodec evaluate ", "aecodec evaluate --seconds 1 ")
        .replace("aecodec inspect ", "aecodec inspect --seconds 1 ")
        for document in documents
        for block in blocks(document, "bash")
        for line in block.splitlines()
    ]
    return [line for line in dict.fromkeys(lines) if not line.startswith("pip install")]


@pytest.mark.slow
def test_the_commands_of_the_readme_and_of_training_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs a shell in a shell, the rest in this process, which is faster."""
    environment = os.environ | {
        "PATH": f"{workspace / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    monkeypatch.chdir(workspace)
    lines = commands("README.md", "docs/training.md", "docs/gallery.md")
    assert len(lines) >= 14
    assert sum(map(needs_shell, lines)) >= 2
    for line in lines:
        if not needs_shell(line):
            run_in_this_process(line)
            continue
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=workspace,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, (line, result.stderr.decode())
    length, rate = soundfile.info(RECORDING).frames, soundfile.info(RECORDING).samplerate
    mp3 = soundfile.info(workspace / "talk.mp3").frames
    expected = {"speech.wav": length, "talk.flac": mp3, "low.wav": mp3, "again.wav": length}
    for name, frames in expected.items():
        facts = soundfile.info(workspace / name)
        assert (facts.frames, facts.samplerate) == (frames, rate)
    assert (workspace / "coded" / "speech.codes").exists()
    assert (workspace / "runs" / "second" / "weights.safetensors").exists()
    assert soundfile.info(workspace / "better.wav").frames == length


def test_the_commands_of_the_index_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    lines = commands("docs/index.md")
    assert len(lines) >= 6
    for line in lines:
        run_in_this_process(line)
    assert soundfile.info(workspace / "talk16k.wav").samplerate == 16_000
    assert {path.name for path in (workspace / "decoded").iterdir()} == {"speech.flac", "talk.flac"}


def test_the_commands_about_tokens_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    lines = commands("docs/tokens.md")
    assert len(lines) >= 6
    for line in lines:
        run_in_this_process(line)
    assert (
        soundfile.info(workspace / "decoded" / "speech.wav").frames
        == soundfile.info(RECORDING).frames
    )


def needs_shell(line: str) -> bool:
    return "|" in line or "&&" in line


def run_in_this_process(line: str) -> None:
    """Run a command of aecodec where torch has been imported already."""
    program, *arguments = shlex.split(line, comments=True)
    result = CliRunner().invoke(main, arguments)
    assert (program, result.exit_code) == ("aecodec", 0), (line, result.output)


def test_the_commands_of_all_documents_run() -> None:
    """No bash block is left out by the tests above."""
    with_commands = {document for document in DOCUMENTS if blocks(document, "bash")}
    assert with_commands - {"benchmarks/RESULTS.md"} == {
        "README.md",
        "docs/gallery.md",
        "docs/index.md",
        "docs/tokens.md",
        "docs/training.md",
    }


@pytest.mark.parametrize("name", PYTHON_BLOCKS)
def test_python_blocks_run(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    exec(compile(PYTHON_BLOCKS[name], name, "exec"), {})


@pytest.mark.parametrize("name", PYTHON_BLOCKS)
def test_constructors_are_called_on_classes(name: str) -> None:
    """``Packet.from_bytes``, not ``packet.from_bytes``, which suggests that it reads the packet."""
    for node in ast.walk(ast.parse(PYTHON_BLOCKS[name])):
        if isinstance(node, ast.Attribute) and node.attr.startswith("from_"):
            owner = ast.unparse(node.value)
            assert owner[0].isupper() or owner in ("np", "torch"), ast.unparse(node)


def test_there_are_examples_in_python() -> None:
    assert sum(name.startswith("README.md") for name in PYTHON_BLOCKS) >= 2
    assert len(PYTHON_BLOCKS) >= 8


def test_blocks_that_do_not_run_are_marked_as_text() -> None:
    for document, text in DOCUMENTS.items():
        found = {name for name, _ in FENCE.findall(text)}
        assert found <= LANGUAGES, (document, found)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[document]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("document", sorted(DOCUMENTS.keys() - {"CHANGELOG.md"}))
def test_files_that_are_named_exist(document: str) -> None:
    named = r"`((?:codec|train|benchmarks|tests|docs|examples)/[\w./]*)`"
    for path in re.findall(named, DOCUMENTS[document]):
        assert (REPOSITORY / path).exists(), path


def test_settings_that_are_named_exist() -> None:
    settings = {
        f"{section}.{field.name}"
        for section, kind in get_type_hints(TrainConfig).items()
        for field in dataclasses.fields(kind)
    }
    sections = "|".join(get_type_hints(TrainConfig))
    named = rf"(?:`|--set )((?:{sections})\.(?!py`|tflite`|safetensors`)[a-z_]+)"
    found = {name for text in documented() for name in re.findall(named, text)}
    assert len(found) >= 20
    assert found <= settings, found - settings


def documented() -> list[str]:
    """All documents but the changelog, which names settings of the past."""
    return [text for document, text in DOCUMENTS.items() if document != "CHANGELOG.md"]


def test_every_document_is_linked_from_the_readme_or_from_the_index_of_its_folder() -> None:
    for document in DOCUMENTS:
        path = Path(document)
        if path.parent == Path("docs") or path.name == "index.md":
            assert f"]({document})" in DOCUMENTS["README.md"], document
        elif document.startswith("docs/"):
            assert f"]({path.name})" in DOCUMENTS[f"{path.parent}/index.md"], document


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(text for name, text in DOCUMENTS.items() if name.startswith("docs/api/"))
    listed = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    assert len(listed) == len(set(listed))
    for name in WITH_EXAMPLE:
        assert name in listed or name.rpartition(".")[0] in listed, name


def test_every_decision_says_why_and_what_would_change_it() -> None:
    parts = ["Context", "Decision", "Why", "Measured", "What would change it"]
    for document, text in DOCUMENTS.items():
        if document.startswith("docs/decisions/") and not document.endswith("index.md"):
            assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == parts, document
            assert 10 <= len(text.splitlines()) <= 25, document


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 160


def test_the_test_command_is_marked_for_the_ci_script() -> None:
    marked = re.search(
        r"<!-- test command -->\n```bash\n(.*?)```", DOCUMENTS["README.md"], re.DOTALL
    )
    assert marked is not None and marked[1].rstrip().endswith("pytest -n auto")


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+)", DOCUMENTS["CHANGELOG.md"], re.MULTILINE)
    assert newest is not None and newest[1] == codec.__version__
