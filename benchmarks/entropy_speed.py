"""Speed of entropy-coded files compared with plain ones, on one thread, in one run.

    python benchmarks/entropy_speed.py recording.wav [--model FOLDER] [--seconds 6 10 25]

The recording is repeated to the length that is measured. Each figure is the least processor time of
several runs; a ratio of 0.5 means half as fast as the plain file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Before NumPy is loaded, which reads it once.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
import soundfile

from codec.engines.base import Engine
from codec.files import decode_file, encode_file
from codec.model_folder import DEFAULT_MODEL
from codec.registry import load_engine

WAYS: dict[str, dict[str, bool | int]] = {
    "plain": {"entropy_coding": False},
    "coded": {"variable": False},
    "variable": {"variable": True, "bitrate": 3_000},
}
RUNS = 5


def least_seconds(work: Callable[[], object]) -> float:
    """Least processor time of some runs."""
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def measure(engine: Engine, audio: np.ndarray, rate: int) -> dict[str, tuple[float, float, int]]:
    """Seconds of encoding and decoding, and bytes, of each way."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        source, coded, target = (Path(name) / each for each in ("in.wav", "a.codes", "out.wav"))
        soundfile.write(source, audio, rate)
        for way, options in WAYS.items():

            def encode(options: dict[str, bool | int] = options) -> None:
                encode_file(source, coded, model=engine, force=True, **options)  # type: ignore[arg-type]

            def decode() -> None:
                decode_file(coded, target, model=engine, force=True)

            found[way] = least_seconds(encode), least_seconds(decode), coded.stat().st_size
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=int, nargs="+", default=[6, 10, 25])
    arguments = parser.parse_args()
    engine = load_engine(arguments.model)
    audio, rate = soundfile.read(arguments.recording, dtype="float32", always_2d=True)
    for seconds in arguments.seconds:
        repeated = np.resize(audio[:, 0], seconds * rate)
        found = measure(engine, repeated, rate)
        encode, decode, _ = found["plain"]
        for way, (encoding, decoding, size) in found.items():
            print(
                f"{seconds} s, {way}: {size} bytes, speed compared with plain: "
                f"encode {encode / encoding:.2f}, decode {decode / decoding:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
