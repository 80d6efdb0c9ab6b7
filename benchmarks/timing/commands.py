"""Commands, each a process of its own: start-up time and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.timing.rounds import speech
from codec.errors import CodecError
from codec.registry import load_model

REPOSITORY = Path(__file__).resolve().parents[2]
# The peak memory of a process starts at that of its parent, so a small process starts commands.
STARTER = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - began
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def start_up(model: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds and memory of short commands, one after the other in every round."""
    aecodec = [sys.executable, "-m", "codec.cli"]
    with tempfile.TemporaryDirectory() as name:
        wav, codes, out = (Path(name) / file for file in ("in.wav", "a.codes", "out.wav"))
        soundfile.write(wav, speech(24_000, 24_000), 24_000)
        commands: dict[str, list[str | Path]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "aecodec --help": [*aecodec, "--help"],
            "aecodec encode (1 s)": [*aecodec, "encode", wav, codes, "--force", "--model", model],
            "aecodec info": [*aecodec, "info", codes],
            "aecodec decode (1 s)": [*aecodec, "decode", codes, out, "--force", "--model", model],
        }
        runs = [
            {what: run_command(*parts) for what, parts in commands.items()} for _ in range(rounds)
        ]
    return [
        {
            "command": what,
            "seconds": float(np.median([run[what][0] for run in runs])),
            "peak_mib": float(np.median([run[what][1] for run in runs])),
            "rounds": rounds,
        }
        for what in commands
    ]


def memory(model: str, minutes: Sequence[float]) -> list[dict[str, float]]:
    """Peak memory and seconds of the command for mono files of several lengths."""
    aecodec = [sys.executable, "-m", "codec.cli"]
    sample_rate = load_model(model).spec.sample_rate
    block = (speech(sample_rate, 60 * sample_rate) * 32767).astype(np.int16)
    rows = []
    for length in minutes:
        with tempfile.TemporaryDirectory() as name:
            wav, codes, out = (Path(name) / file for file in ("in.wav", "a.codes", "out.wav"))
            missing = round(60 * length * sample_rate)
            with soundfile.SoundFile(wav, "w", sample_rate, 1, subtype="PCM_16") as file:
                while missing:
                    file.write(block[:missing])
                    missing -= min(missing, len(block))
            encode = run_command(*aecodec, "encode", wav, codes, "--model", model)
            decode = run_command(*aecodec, "decode", codes, out, "--model", model)
            info = run_command(*aecodec, "info", codes)
            row = {"minutes": length, "codes_bytes": codes.stat().st_size}
        for what, (seconds, mib) in {"encode": encode, "decode": decode, "info": info}.items():
            row |= {f"{what}_mib": mib, f"{what}_seconds": seconds}
        rows.append(row)
    return rows


def run_command(*command: str | Path) -> tuple[float, float]:
    """Seconds and peak resident memory in MiB of one command, on one thread."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.getenv("PYTHONPATH")))),
    }
    parts = [str(part) for part in command]
    result = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, *parts],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise CodecError(f"{' '.join(parts)} failed: {result.stderr.strip().splitlines()[-1]}")
    seconds, peak = result.stdout.split()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return float(seconds), float(peak) / unit
