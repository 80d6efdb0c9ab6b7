"""Peak memory of the command against the length of the file.

    python benchmarks/memory.py --data DIR [--minutes 1 60] [--channels 1]

Strings the recordings of a folder together to files of these lengths, encodes and decodes each
with the ``aecodec`` command in a process of its own, and prints the peak resident memory of each,
and how long ``aecodec info`` takes on the result.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile


def string_together(sources: list[Path], target: Path, seconds: float, channels: int) -> None:
    """Write a 24 kHz file of that length, over and over from the sources."""
    missing = round(seconds * 24_000)
    with soundfile.SoundFile(target, "w", 24_000, channels, subtype="PCM_16") as file:
        for source in itertools.cycle(sources):
            samples, rate = soundfile.read(source, dtype="int16", stop=missing, always_2d=True)
            if rate == 24_000:
                file.write(samples[:, [0] * channels])
                missing -= len(samples)
            if missing <= 0:
                return


def run(*arguments: str | Path) -> tuple[float, float]:
    """Peak resident memory in MiB and seconds of one ``aecodec`` command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "codec.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    parser.add_argument("--channels", type=int, default=1)
    arguments = parser.parse_args()
    sources = sorted(arguments.data.glob("*.flac")) or sorted(arguments.data.glob("*.wav"))
    if not sources:
        sys.exit(f"no flac or wav files in {arguments.data}")
    print("| minutes | encode MiB | decode MiB | encode s | decode s | info s |")
    print("|---|---|---|---|---|---|")
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory() as name:
            wav, codes, out = (Path(name) / file for file in ("in.wav", "a.codes", "out.wav"))
            string_together(sources, wav, 60 * minutes, arguments.channels)
            encode_memory, encode_seconds = run("encode", wav, codes)
            decode_memory, decode_seconds = run("decode", codes, out)
            _, info_seconds = run("info", codes)
        print(
            f"| {minutes:g} | {encode_memory:.0f} | {decode_memory:.0f} | {encode_seconds:.1f} "
            f"| {decode_seconds:.1f} | {info_seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
