"""How much output, memory and time small files can cost that were forged to cost much.

    python benchmarks/amplification.py [--limit 120]

Prints the table of docs/format.md. Each file is decoded, listed, cut or peeled by a process of its
own. Time is that of the processor. Streams of the packaged model that a person would write stand at
the end, for comparison.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codec import encode_file
from codec.format.container import Coding, Header, Packet
from codec.registry import Model, load_model

REPOSITORY = Path(__file__).resolve().parent.parent
HIGHEST_RATE = 192_000
COMMANDS = {
    "decode": ("decode", "{file}", "{out}.wav"),
    "list": ("info", "--packets", "{file}"),
    "cut": ("cut", "--from", "0.01", "{file}", "{out}.codes"),
    "peel": ("peel", "-b", "500", "{file}", "{out}.codes"),
}


@dataclass(frozen=True)
class Case:
    """A file and what is done with it.

    Attributes:
        name: what is special about the file.
        command: one of `COMMANDS`.
        make: writes the file.
    """

    name: str
    command: str
    make: Callable[[Path], object]


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        status: exit status; None if it was stopped because it took too long.
        output: bytes of its output, on disk and on stdout.
        memory: most bytes in memory; not less than this process has, which starts the command.
        seconds: of the processor.
    """

    status: int | None
    output: int
    memory: int
    seconds: float


def headers(model: Model) -> tuple[Header, Header]:
    """Of plain codes in packets of a frame, and of coded ones in the longest packets."""
    spec, context = model.spec, model.context
    assert context is not None
    plain = Header(
        channels=1,
        codebooks=spec.codebooks[:1],
        frames_per_packet=1,
        sample_rate=spec.sample_rate,
        original_sample_rate=HIGHEST_RATE,
        hop_length=spec.hop_length,
        fingerprint=spec.fingerprint,
        format=2,
    )
    frames = int(10 * spec.frame_rate)
    return plain, replace(plain, context=context.identity, frames_per_packet=frames)


def cases() -> list[Case]:
    """The worst streams that are known, of each kind, and ordinary ones."""
    model = load_model()
    spec, (plain, long) = model.spec, headers(model)

    def last(number: int) -> Packet:
        return Packet(number % 2**16, 0, b"", 10**9, Coding.PLAIN)

    def noise(channels: int, numbers: Sequence[int]) -> Callable[[Path], object]:
        header = replace(plain, channels=channels, dtx=True)
        payload = bytes(1 + -(-channels * spec.bits[0] // 8))
        packets = [Packet(n, 1, payload, None, Coding.COMFORT_NOISE) for n in numbers[:-1]]
        return lambda path: write(path, header, [*packets, last(numbers[-1])])

    def empty(
        channels: int, count: int, size: int = 0, codebooks: int = 1
    ) -> Callable[..., object]:
        header = replace(long, channels=channels, codebooks=spec.codebooks[:codebooks])
        packets = [
            Packet(n, header.frames_per_packet, bytes(size), None, Coding.CODED)
            for n in range(count)
        ]
        return lambda path: write(path, header, [*packets, last(count)])

    def missing(header: Header, count: int, streams: int = 1) -> Callable[[Path], object]:
        return lambda path: write(path, header, [last(count)], streams)

    least = replace(long, channels=26).least_payload(long.frames_per_packet)
    seconds = [50 * n for n in range(6)]
    return [
        Case("20 minutes of silence after comfort noise", "decode", noise(1, (0, 60_000))),
        Case("comfort noise each second", "decode", noise(1, seconds)),
        Case("comfort noise each second, 255 channels", "decode", noise(255, seconds[:3])),
        Case("packets of 10 s without payload", "decode", empty(1, 20)),
        Case("the same, 2 channels, the most", "decode", empty(2, 10)),
        Case("the same, 26 channels", "decode", empty(26, 1)),
        Case("the same, 104 channels", "decode", empty(104, 1)),
        Case("as few bytes as are allowed, 26 channels", "decode", empty(26, 1, least)),
        Case("20 packets of 10 s without payload", "list", empty(1, 20)),
        Case("1000 of them, 104 channels", "list", empty(104, 1000)),
        Case("20 of them, 2 codebooks", "peel", empty(1, 20, 0, 2)),
        Case("1000 packets of 10 s without payload", "cut", empty(1, 1000)),
        Case("8 channels, all missing", "decode", missing(replace(plain, channels=8), 500)),
        Case("2.4 s of 8 channels missing", "decode", missing(replace(plain, channels=8), 120)),
        Case("a second missing in each stream", "decode", missing(plain, 50, 19)),
        Case("a second missing in each of many", "decode", missing(plain, 50, 1000)),
        Case("silence, by aecodec encode, 192 kHz", "decode", silence(1, HIGHEST_RATE)),
        Case("the same, 26 channels, 24 kHz", "decode", silence(26, spec.sample_rate)),
        Case("the same", "list", silence(26, spec.sample_rate)),
    ]


def write(path: Path, header: Header, packets: Sequence[Packet], streams: int = 1) -> None:
    """Write a file of equal streams."""
    stream = header.to_bytes() + b"".join(each.to_bytes() for each in packets)
    path.write_bytes(streams * stream)


def silence(channels: int, rate: int) -> Callable[[Path], object]:
    """20 seconds of digital silence, encoded as usual."""

    def make(path: Path) -> None:
        source = path.with_suffix(".wav")
        soundfile.write(source, np.zeros((20 * rate, channels), np.int16), rate)
        encode_file(source, path)
        source.unlink()

    return make


def measure(command: Sequence[str], out: Path, limit: int) -> Cost:
    """Run a program and see what it takes.

    Args:
        command: program and arguments.
        out: folder that it writes to, in which nothing else is; its working folder.
        limit: seconds of the processor after which it is stopped.
    """
    command = ["bash", "-c", f'ulimit -t {limit}; exec "$@"', "bash", *command]
    with (out / "stdout").open("wb") as stdout:
        process = subprocess.Popen(
            command,
            cwd=out,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for here
    size = sum(each.stat().st_size for each in out.iterdir())
    scale = 1 if sys.platform == "darwin" else 1024
    seconds = usage.ru_utime + usage.ru_stime
    stopped = process.returncode < 0
    return Cost(None if stopped else process.returncode, size, scale * usage.ru_maxrss, seconds)


def run(case: Case, limit: int) -> tuple[int, Cost]:
    """Bytes of the file of a case, and what its command costs."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "in.codes"), Path(folder, "out")
        out.mkdir()
        case.make(file)
        words = [word.format(file=file, out=out / "a") for word in COMMANDS[case.command]]
        return file.stat().st_size, measure([sys.executable, "-m", "codec.cli", *words], out, limit)


def row(case: Case, size: int, cost: Cost) -> str:
    """A line of the table."""
    results = {0: "done", 1: "damaged" if cost.output else "refused", None: "stopped"}
    figures = (
        case.name,
        case.command,
        f"{size:,}",
        results.get(cost.status, f"status {cost.status}"),
        f"{cost.output:,}",
        f"{cost.output / size:,.0f}",
        f"{cost.memory / 2**20:.0f}",
        f"{cost.seconds:.1f}",
    )
    return "| " + " | ".join(figures) + " |"


HEAD = """\
| file | command | bytes | result | bytes of output | per byte | memory, MiB | seconds |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--limit", type=int, default=120, help="seconds of the processor, each")
    arguments = parser.parse_args()
    print(HEAD)
    for case in cases():
        print(row(case, *run(case, arguments.limit)), flush=True)


if __name__ == "__main__":
    main()
