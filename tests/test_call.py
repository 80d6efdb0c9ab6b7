"""``examples/call.py``: two processes talk to each other, and every end of a call is clean."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec import CodecError, Header, Packing, Redundancy, StreamEncoder, load_model
from codec.calls.rtp import RtpPacketizer
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
        (("--record", tmp_path / "no" / "heard.wav"), "heard.wav cannot be written"),
    ):
        side = start(port, peer, *options)
        _, err = side.communicate(timeout=TIMEOUT)
        assert side.returncode == 1
        assert message in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e305"])
def test_times_are_finite_and_not_negative(value: str) -> None:
    seconds = runpy.run_path(str(SCRIPT))["seconds"]
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        seconds(value)


@cache
def silence() -> tuple[Header, bytes]:
    """The header of a peer's stream, and its first datagram with sound."""
    encoder = StreamEncoder(load_model(), packing=Packing.live(redundancy=Redundancy(0, 0)))
    packets = encoder.push(np.zeros((1, 480), np.float32))
    return encoder.header, RtpPacketizer(encoder.header).packetize(packets)


def report(**changes: object) -> dict[str, object]:
    header = silence()[0].to_bytes().hex()
    return {"header": header, "start": 1.5, "encoding": 0.0, "latency": 0.0, "loss": 0} | changes


def hostile_reports() -> list[bytes]:
    """What looks like a report and is none."""
    values: list[object] = [None, "1", True, [], {}, float("nan"), float("inf"), -1e300, 10**400]
    found = [report(**{name: value}) for name in report() for value in values]
    missing = [{k: v for k, v in report().items() if k != name} for name in report()]
    texts = [json.dumps(each).encode() for each in [*found, *missing, report(header="00" * 56)]]
    deep = [b'{"header": ' + b"[" * 500, b'{"a":' * 160 + b"1" + b"}" * 160, b'{"\xff": 1}', b"{"]
    return [*texts, *deep, json.dumps(report()).encode() + b" " * 2_000]


def test_a_report_is_checked_in_every_value() -> None:
    from_bytes = runpy.run_path(str(SCRIPT))["Report"].from_bytes
    good = from_bytes(json.dumps(report()).encode())
    assert isinstance(good.header, Header) and from_bytes(good.to_bytes()) == good
    for data in hostile_reports():
        with pytest.raises(CodecError):
            from_bytes(data)
    rng = np.random.default_rng(0)
    data = json.dumps(report()).encode()
    for _ in range(2_000):
        broken = bytearray(data[: rng.integers(len(data) + 1)])
        for position in rng.integers(len(broken), size=2) if broken else ():
            broken[position] = rng.integers(256)
        try:
            from_bytes(bytes(broken))
        except CodecError:
            continue


@pytest.mark.slow
def test_neither_strangers_nor_hostile_datagrams_end_a_call() -> None:
    port, peer = free_ports()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as namesake,
    ):
        own.bind(("127.0.0.1", peer))
        own.settimeout(TIMEOUT)
        namesake.bind(("127.0.0.2", peer))  # the same port at another address
        side = start(port, peer)
        try:
            own.recv(2**16)  # it asks for its peer
            good, other = json.dumps(report()).encode(), json.dumps(report(loss=1)).encode()
            own.sendto(good, ("127.0.0.1", port))
            while own.recv(2**16)[:1] == b"{":
                pass  # until it has begun to send sound
            rtp = silence()[1]
            for each in (stranger, namesake):
                for data in (b"bye", other, rtp, b"", bytes(60_000)):
                    each.sendto(data, ("127.0.0.1", port))
            rng = np.random.default_rng(0)
            for data in [*hostile_reports(), *(rng.bytes(n) for n in range(100))]:
                own.sendto(data, ("127.0.0.1", port))
            for _ in range(100):
                own.recv(2**16)  # it goes on to send
            own.sendto(rtp, ("127.0.0.1", port))
            own.sendto(b"bye", ("127.0.0.1", port))
            out = ending(side)
        finally:
            side.kill()
            side.communicate()
    assert "the peer hung up" in out
    assert re.search(r"\d+ datagrams were ignored", out)
