"""Files appear complete or not at all, and every writer goes by the same rule."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec.errors import CodecError
from codec.io.outputs import atomic_output, check_files, files_together, write_atomically
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
        check_files(tmp_path / "a", tmp_path / "b")
    check_files(tmp_path / "a", tmp_path / "c")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("a" * 255, "あ" * 85, "b" * 246):
        write_atomically(tmp_path / name, b"new")
        write_atomically(tmp_path / name, b"newer")
        assert (tmp_path / name).read_bytes() == b"newer"


def test_files_appear_together_or_leave_those_before_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with files_together(folder) as aside:
        (aside / "inner").mkdir()
        for name in ("a", "inner/b"):
            (aside / name).write_bytes(b"old")
        assert not (folder / "a").exists()
    (folder / "other").write_bytes(b"not ours")
    with pytest.raises(OSError, match="No space left"), files_together(folder) as aside:
        (aside / "a").write_bytes(b"new")
        raise OSError(errno.ENOSPC, "No space left on device")
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"a": b"old", "b": b"old", "other": b"not ours"}
    assert {path.name for path in folder.iterdir()} == {"a", "inner", "other"}


def test_a_folder_whose_files_cannot_be_written_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files_together(tmp_path / "new"):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()
