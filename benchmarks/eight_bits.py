"""What weights and activations of 8 bits cost: a model in float32 and in the core, side by side.

    python benchmarks/eight_bits.py --data DIR --model M [--exported E] [--codebooks 6 12 18]

Recordings of speech in DIR are coded with PyTorch, decoded from its codes by the core, and coded
with the core alone. M is a model as training left it, and E what `aecodec export` made of it;
without E, its weights are rounded in the same way. (The packaged model has 8 bits already, of which
PyTorch computes the rest in float32.) Differences from float32 are those of the same recording,
with the standard error of their mean.

Writes eight_bits.json (all figures of every file) and eight_bits.md to OUT (see --help). A run that
was interrupted goes on with the recordings that are not in OUT/eight_bits.partial.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, mean, pesq_wb, visqol_speech
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
from codec.model_folder import find_model, read_description
from codec.registry import load_model

MEASURES = ("pesq_wb", "visqol_speech", "stoi", "dnsmos", "plcmos")
WAYS = {
    "float32": ("torch", "torch"),
    "core, codes of float32": ("torch", "core"),
    "core": ("core", "core"),
}
"""Backends that encode and decode."""


@cache
def engines(model: str, exported: str) -> dict[str, Engine]:
    """The model on each backend."""
    return {
        "torch": load_model(model, backend="torch").engine,
        "core": load_model(exported, backend="core").engine,
    }


def figures_of(
    recording: Recording, model: str, exported: str, codebooks: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """One row for each number of codebooks and each of `WAYS`."""
    found = engines(model, exported)
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
            row["visqol_speech"] = visqol_speech(decoded, audio, rate)
            row["stoi"] = short_time_intelligibility(decoded, audio, rate)
            rows.append(row | rate_naturalness(decoded, rate))
    return rows


def make_section(rows: Sequence[dict[str, Any]], codebooks: Sequence[int]) -> str:
    """Section of the results page."""
    header = ("codebooks", "network", "equal codes", *(METRICS[name].title for name in MEASURES))
    lines, changes = [], []
    for count in codebooks:
        for way in WAYS:
            chosen, plain = (
                [row for row in rows if (row["codebooks"], row["way"]) == (count, each)]
                for each in (way, "float32")
            )
            equal = 100 * np.mean([row["equal_codes"] for row in chosen])
            cells = [str(count), way, f"{equal:.1f} %"]
            for name in MEASURES:
                value = mean([row[name] for row in chosen])
                cells.append(cell(value, METRICS[name].decimals + 1))
            lines.append(cells)
            if way != "float32":
                shown = (change(chosen, plain, name) for name in MEASURES)
                changes.append([str(count), way, *shown])
    count = len({row["file"] for row in rows})
    return (
        f"{count} recordings of speech, plain codes.\n\n{markdown_table(header, lines)}\n\n"
        "Differences from float32, with their standard errors:\n\n"
        f"{markdown_table((*header[:2], *header[3:]), changes)}"
    )


def change(rows: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], name: str) -> str:
    """The mean difference of a measure from that of the same recording, and its standard error."""
    pairs = zip(rows, plain, strict=True)
    values = [
        row[name] - other[name] for row, other in pairs if None not in (row[name], other[name])
    ]
    if len(values) < 2:
        return "-"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    decimals = METRICS[name].decimals + 1
    return f"{np.mean(values):+.{decimals}f} ± {error:.{decimals}f}"


class Partial:
    """Rows of the recordings that are done, in a file, for a run with the same settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if path.exists():
            stored = json.loads(path.read_text("utf-8"))
            if stored["settings"] == self._settings:
                self.rows = stored["rows"]

    def add(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write those of one more recording."""
        self.rows[name] = rows
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        written.write_text(json.dumps({"settings": self._settings, "rows": self.rows}), "utf-8")
        written.replace(self._path)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_speech_options(parser)
    parser.add_argument("--exported", help="folder of the same model in 8 bits")
    parser.add_argument(
        "--codebooks", type=int, nargs="+", default=[6, 12, 18], help="default: 6 12 18"
    )
    arguments = parser.parse_args(words)
    models = [arguments.model, arguments.exported or arguments.model]
    options = {"codebooks": arguments.codebooks, "seconds": arguments.seconds}
    try:
        chosen = recordings.speech(arguments.data, arguments.every)
        weights = [read_description(find_model(each))["weights_sha256"] for each in models]
        settings = options | {"weights": weights, "data": str(arguments.data.resolve())}
        done = Partial(arguments.out / "eight_bits.partial.json", settings)
        left = [each for each in chosen if each.name not in done.rows]
        work = partial(figures_of, model=models[0], exported=models[1], **options)
        for number, rows in run_in_processes(work, left, arguments.jobs):
            done.add(left[number].name, rows)
    except CodecError as error:
        sys.exit(f"error: {error}")
    all_rows = [row for each in chosen for row in done.rows[each.name]]
    section = make_section(all_rows, arguments.codebooks)
    print(section)
    figures = origin(list(dict.fromkeys(models))) | {"files": all_rows}
    write_report(arguments.out, "eight_bits", figures, section)


if __name__ == "__main__":
    main()
