"""What weights and activations of 8 bits cost: a model in float32 and in the core, side by side.

    python benchmarks/eight_bits.py --data DIR --model M [--codebooks 6 12] [--out OUT]

Recordings of speech in DIR are coded with PyTorch, decoded from its codes by the core, and coded
with the core alone. M is a model as training left it: the packaged one has 8 bits already, of which
PyTorch computes the rest in float32.

Writes eight_bits.json (all figures of every file) and eight_bits.md to OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, mean, pesq_wb
from benchmarks.shared.options import add_speech_options
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import SAMPLE_RATE, Recording
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.resampling import resample
from benchmarks.shared.tables import cell, markdown_table
from codec.engines import base
from codec.engines.base import Engine
from codec.errors import CodecError
from codec.evaluation.metrics import short_time_intelligibility
from codec.evaluation.naturalness import rate_naturalness
from codec.registry import load_model

MEASURES = ("pesq_wb", "stoi", "dnsmos", "plcmos")
WAYS = {
    "float32": ("torch", "torch"),
    "core, codes of float32": ("torch", "core"),
    "core": ("core", "core"),
}
"""Backends that encode and decode."""


@cache
def engines(model: str) -> dict[str, Engine]:
    """The model on each backend."""
    return {name: load_model(model, backend=name).engine for name in ("torch", "core")}


def figures_of(
    recording: Recording, model: str, codebooks: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """One row for each number of codebooks and each of `WAYS`."""
    found = engines(model)
    rate = found["torch"].spec.sample_rate
    audio = resample(recording.load(seconds), SAMPLE_RATE, rate)
    codes = {name: base.encode(engine, audio[None]) for name, engine in found.items()}
    rows = []
    for way, (encoder, decoder) in WAYS.items():
        equal = codes[encoder] == codes["torch"]
        for count in codebooks:
            decoded = base.decode(found[decoder], codes[encoder][:, :count], len(audio))[0]
            row: dict[str, Any] = {"file": recording.name, "codebooks": count, "way": way}
            row["equal_codes"] = float(equal[:, :count].mean())
            row["pesq_wb"] = pesq_wb(decoded, audio, rate)
            row["stoi"] = short_time_intelligibility(decoded, audio, rate)
            rows.append(row | rate_naturalness(decoded, rate))
    return rows


def make_section(rows: Sequence[dict[str, Any]], codebooks: Sequence[int]) -> str:
    """Section of the results page."""
    header = ("codebooks", "network", "equal codes", *(METRICS[name].title for name in MEASURES))
    lines = []
    for count in codebooks:
        for way in WAYS:
            chosen = [row for row in rows if (row["codebooks"], row["way"]) == (count, way)]
            equal = 100 * np.mean([row["equal_codes"] for row in chosen])
            cells = [str(count), way, f"{equal:.1f} %"]
            for name in MEASURES:
                value = mean([row[name] for row in chosen])
                cells.append(cell(value, METRICS[name].decimals + 1))
            lines.append(cells)
    count = len({row["file"] for row in rows})
    return f"{count} recordings of speech, plain codes.\n\n{markdown_table(header, lines)}"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_speech_options(parser)
    parser.add_argument("--codebooks", type=int, nargs="+", default=[6, 12], help="default: 6 12")
    arguments = parser.parse_args(words)
    try:
        chosen = recordings.speech(arguments.data, arguments.every)
        work = partial(
            figures_of,
            model=arguments.model,
            codebooks=arguments.codebooks,
            seconds=arguments.seconds,
        )
        results = dict(run_in_processes(work, chosen, arguments.jobs))
    except CodecError as error:
        sys.exit(f"error: {error}")
    rows = [row for number in sorted(results) for row in results[number]]
    section = make_section(rows, arguments.codebooks)
    print(section)
    write_report(arguments.out, "eight_bits", origin([arguments.model]) | {"files": rows}, section)


if __name__ == "__main__":
    main()
