"""Files appear complete or not at all, and every writer goes by the same rule."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec.errors import CodecError
from codec.io.outputs import atomic_output, check_apart, write_atomically
from tests.conftest import REPOSITORY


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with atomic_output(target, force=False) as file:
        file.write(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_atomically(target, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_output(target, force=True) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with (
            pytest.raises(CodecError, match="give --force"),
            atomic_output(tmp_path / name, force=False),
        ):
            raise AssertionError("it was opened")
    with (
        pytest.raises(CodecError, match="is a folder"),
        atomic_output(tmp_path, force=True),
    ):
        raise AssertionError("it was opened")


def test_a_new_file_gets_the_permissions_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_named_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        with atomic_output(pipe, force=False, seekable=True) as file:
            file.write(b"abc")
            file.seek(0)
            file.write(b"A")
        assert reader.communicate()[0] == b"Abc"
    assert pipe.is_fifo()


def test_standard_output_takes_what_a_seeking_writer_made(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from codec.io.outputs import atomic_output\n"
        "with atomic_output(Path('-'), force=False, seekable=True) as file:\n"
        "    file.write(b'xbc'); file.seek(0); file.write(b'a')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, env=environment
    )
    assert result.stdout == b"abc"


def test_an_output_must_not_be_its_own_input(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CodecError, match="is the input itself"):
        check_apart(tmp_path / "a", tmp_path / "b")
    check_apart(tmp_path / "a", tmp_path / "c")
