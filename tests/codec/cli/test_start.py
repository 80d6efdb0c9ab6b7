"""How the command starts and ends: whatever it is started with, and whenever it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from codec import decode_file, encode_file
from codec.cli.jobs import Files
from tests.conftest import RECORDING, REPOSITORY, sound

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a shell and signals")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches new processes, even if this one was started in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, its stream, and what that decodes to."""
    folder = tmp_path_factory.mktemp("coded")
    soundfile.write(folder / "in.wav", sound(2_400)[0], 24_000)
    encode_file(folder / "in.wav", folder / "a.codes")
    decode_file(folder / "a.codes", folder / "a.wav")
    return folder


@POSIX
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_files_are_the_same_whichever_standard_files_are_closed(
    closed: str, coded: Path, tmp_path: Path
) -> None:
    codes, wav = tmp_path / "a.codes", tmp_path / "a.wav"
    for command in (f"encode {coded / 'in.wav'} {codes}", f"decode {codes} {wav}"):
        result = shell(f"{sys.executable} -m codec.cli {command} {closed}")
        assert result.returncode == 0, result.stderr
    for path in (codes, wav):
        assert path.read_bytes() == (coded / path.name).read_bytes()


def test_little_is_imported_before_ctrl_c_is_heard() -> None:
    script = "import sys, codec.cli.__main__; assert not {'re', 'typing', 'click'} & {*sys.modules}"
    command = [sys.executable, "-S", "-c", script]  # nor what the environment imports
    subprocess.run(command, env=ENVIRONMENT, check=True)


@POSIX
def test_a_failure_has_its_status_without_standard_error(tmp_path: Path) -> None:
    command = f"encode missing.wav {tmp_path / 'a.codes'} 2>&-"
    assert shell(f"{sys.executable} -m codec.cli {command}").returncode == 1


@POSIX
def test_what_a_library_reports_is_no_part_of_an_output(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from codec.io.outputs import atomic_output\n"
        "with atomic_output(Path(sys.argv[1]), force=False) as file:\n"
        "    file.write(b'own')\n"
        "    for descriptor in range(3):\n"
        "        try: os.write(descriptor, b'foreign')\n"
        "        except OSError: pass\n"
    )
    target = tmp_path / "out"
    result = shell(f'{sys.executable} -c "{script}" {target} <&- >&- 2>&-')
    assert result.returncode == 0 and target.read_bytes() == b"own"


# Sends Ctrl-C when a module is imported, whose errors libraries in C may turn into others.
INTERRUPT = """
import os, signal, sys
from codec.cli.__main__ import start

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt:
                raise ImportError("initialization failed") from None

sys.meta_path.insert(0, Interrupt())
sys.argv[1:] = ["encode", "{recording}", "{target}"]
start()
"""


@POSIX
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "module", ["codec.cli.app", "click", "codec.cli.coding", "soundfile", "codec.core.library"]
)
def test_ctrl_c_during_imports_gives_one_line(module: str, tmp_path: Path) -> None:
    script = INTERRUPT.format(module=module, recording=RECORDING, target=tmp_path / "a.codes")
    result = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (130, "aecodec: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_ctrl_c_that_was_ignored_before_stays_ignored(tmp_path: Path) -> None:
    script = INTERRUPT.format(module="click", recording=RECORDING, target=tmp_path / "a.codes")
    (tmp_path / "script.py").write_text(script)
    result = shell(f"trap '' INT; {sys.executable} {tmp_path / 'script.py'}")
    assert result.returncode == 0 and (tmp_path / "a.codes").exists()


@POSIX
@pytest.mark.usefixtures("interruptible")
def test_a_run_that_ctrl_c_ends_leaves_nothing(tmp_path: Path) -> None:
    """The signal comes when the output is half-written."""
    script = (
        "import os, signal, sys; from codec.files import encode\n"
        "from codec.cli.__main__ import start\n"
        "def stop(*_): os.kill(os.getpid(), signal.SIGINT); [0 for _ in range(1000)]\n"
        "encode._encode = stop\n"
        f"sys.argv[1:] = ['encode', {str(RECORDING)!r}, {str(tmp_path / 'a.codes')!r}]\n"
        "start()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (130, "aecodec: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@POSIX
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_all_files_that_are_worked_on_side_by_side() -> None:
    """And those that have not begun never do."""
    ended = []

    def work(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        if source.name == "b":
            time.sleep(0.2)  # until all are handed out
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                progress(0.5)
        except KeyboardInterrupt:
            ended.append(source.name)
            raise

    pairs = [(Path(name), Path(f"{name}.codes")) for name in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        Files(("a",), None, False).run(pairs, work, at_once=2)
    assert sorted(ended) == ["a", "b"]
