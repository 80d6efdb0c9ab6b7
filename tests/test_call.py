"""``examples/call.py``: two processes talk to each other, and every end of a call is clean."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "examples" / "call.py"
TIMEOUT = 120
"""Seconds after which a call that does not end has failed; it takes a few."""


def free_ports() -> tuple[int, int]:
    """Two UDP ports that nobody uses."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        first.bind(("", 0))
        second.bind(("", 0))
        return first.getsockname()[1], second.getsockname()[1]


def start(port: int, peer: int, *options: str | Path) -> subprocess.Popen[str]:
    patient = ("--wait", "100", "--patience", "60")  # on a busy machine
    words = ["--port", port, "--peer", f"127.0.0.1:{peer}", "--bitrate", "1.5k", *patient, *options]
    return subprocess.Popen(
        [sys.executable, "-u", SCRIPT, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def call(*options: str | Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Both sides, the second with the options, after they have found each other."""
    ports = free_ports()
    sides = start(*ports), start(*ports[::-1], *options)
    try:
        yield sides
    finally:
        for side in sides:
            side.kill()
            side.communicate()


def wait_for_statistics(side: subprocess.Popen[str]) -> None:
    assert side.stdout is not None
    for line in side.stdout:
        if "missing" in line:
            return
    raise AssertionError("it ended before it had said anything")


def ending(side: subprocess.Popen[str]) -> str:
    """What a side printed when it ended, which it must do without an error."""
    out, err = side.communicate(timeout=TIMEOUT)
    assert (side.returncode, err) == (0, "")
    return out


@pytest.mark.slow
def test_a_call_over_a_bad_network_is_heard_and_measured(tmp_path: Path) -> None:
    bad = ("--loss", "0.1", "--jitter", "0.03", "--seconds", "5")
    with call(*bad, "--record", tmp_path / "heard.wav") as (first, second):
        assert "the time is up" in ending(second)
        out = ending(first)
    assert "the peer hung up" in out
    received = {
        name: int(count) for name, count in re.findall(r"(\w+) (\d+)", out.splitlines()[-2])
    }
    assert received["received"] > 100 and received["recovered"] + received["concealed"] > 0
    delay = re.match(r"mouth to ear ([\d.]+) ms: (.*)", out.splitlines()[-1])
    assert delay is not None
    parts = {
        name.strip(): float(value)
        for name, value in re.findall(r"([a-z ]+) (-?[\d.]+)(?:,|$)", delay[2])
    }
    assert parts["a frame"] == 20.0 and parts["delay of the decoder"] == 12.5
    assert sum(parts.values()) == pytest.approx(float(delay[1]), abs=0.5)
    heard, rate = soundfile.read(tmp_path / "heard.wav")
    assert rate == 24_000 and len(heard) % 480 == 0
    assert np.abs(heard).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_ctrl_c_on_either_side_ends_both(who: int) -> None:
    with call() as sides:
        wait_for_statistics(sides[1])
        sides[who].send_signal(signal.SIGINT)
        assert "you hung up" in ending(sides[who])
        assert "the peer hung up" in ending(sides[1 - who])


@pytest.mark.slow
def test_a_peer_that_vanishes_ends_the_call() -> None:
    with call("--patience", "5") as (first, second):
        wait_for_statistics(second)
        first.kill()
        assert "nothing was heard of the peer for 5 s" in ending(second)


def test_what_cannot_work_is_said_in_one_line(tmp_path: Path) -> None:
    port, peer = free_ports()
    for options, message in (
        (("--wait", "0.3"), "nobody answers: start the other side"),
        (("--input", tmp_path / "no.wav"), "no.wav cannot be read"),
    ):
        side = start(port, peer, *options)
        _, err = side.communicate(timeout=TIMEOUT)
        assert side.returncode == 1
        assert message in err and err.count("\n") == 1 and "Traceback" not in err
