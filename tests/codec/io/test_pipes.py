"""Standard files: what belongs to the process as a whole stays as the caller has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec.io.outputs import write_atomically
from codec.io.pipes import is_terminal
from tests.conftest import REPOSITORY


def test_without_standard_error_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for stderr in (None, sys.stderr):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert not is_terminal()


def test_writing_does_not_touch_the_mask_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads notice this"))
    write_atomically(tmp_path / "a", b"")


MUTED = """
import os, sys, threading
from codec.corpus.clips import muted_stderr
from codec.io.pipes import keep_stderr_apart
if sys.argv[1:]:
    keep_stderr_apart()
if threads := sys.argv[2:]:
    ends = threading.Event()
    threading.Thread(target=ends.wait).start()
with muted_stderr():
    os.write(2, b"library ")
    if threads:
        threading.Thread(target=lambda: print("thread ", end="", file=sys.stderr)).start()
if threads:
    ends.set()
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), ""), (("apart",), ""), (("apart", "threads"), "thread ")],
    ids=["alone", "apart", "threads"],
)
def test_what_other_threads_report_is_not_muted(options: tuple[str, ...], expected: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", MUTED, *options],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == expected


def test_in_the_process_of_another_nothing_is_muted_while_it_has_threads() -> None:
    script = MUTED.replace("if sys.argv[1:]:\n    keep_stderr_apart()\n", "")
    result = subprocess.run(
        [sys.executable, "-c", script, "", "threads"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(result.stderr.split()) == ["library", "thread"]
