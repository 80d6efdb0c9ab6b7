"""The same voices at other levels, limited, with an offset and with rumble.

    python benchmarks/levels.py --data DIR [--model M] [--bitrate 6k] [--peer lyra=FOLDER]

A codec should sound the same whatever the level of a recording. Every recording of speech in DIR is
changed in each of the ways of `CONDITIONS`, and then coded to a real file. Decoded audio is
compared with what was coded, at its level. Only offset and rumble, which a codec may take away, are
left out of what is compared with. A change moves those measures that hear one side alone in the
original, too: the table has the original's figures, and the difference.

Writes levels.json (all figures of every file) and levels.md to the folder --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.comparison.entries import Entry, model_entries, peer_entries
from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, mean, pesq_wb
from benchmarks.shared.options import add_speech_options
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import SAMPLE_RATE, Recording
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.tables import cell, markdown_table
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.evaluation.metrics import short_time_intelligibility
from codec.evaluation.naturalness import rate_naturalness

LIMITED_DB = 12.0
OFFSET = 0.1
RUMBLE_HZ, RUMBLE_DB = 15.0, -12.0
SPEECH_PEAK_DB = 20 * np.log10(0.5)
"""Peak of the speech to which an offset or rumble is added, so that the sum is not clipped."""


class Changed(NamedTuple):
    """A recording as it is coded, and as it is compared: both ``[N]`` float32."""

    coded: np.ndarray
    compared: np.ndarray


def at_peak(audio: np.ndarray, dbfs: float) -> Changed:
    """Scaled to a peak in dB of full scale."""
    scaled = audio * np.float32(10 ** (dbfs / 20) / np.abs(audio).max())
    return Changed(scaled, scaled)


def limited(audio: np.ndarray) -> Changed:
    """Driven by `LIMITED_DB` into a soft limit at full scale."""
    driven = at_peak(audio, LIMITED_DB).coded
    return Changed(np.tanh(driven), np.tanh(driven))


def with_offset(audio: np.ndarray) -> Changed:
    """With a constant added."""
    speech = at_peak(audio, SPEECH_PEAK_DB).coded
    return Changed(speech + np.float32(OFFSET), speech)


def with_rumble(audio: np.ndarray) -> Changed:
    """With an inaudible tone added."""
    speech = at_peak(audio, SPEECH_PEAK_DB).coded
    time = np.arange(len(audio)) / SAMPLE_RATE
    tone = 10 ** (RUMBLE_DB / 20) * np.sin(2 * np.pi * RUMBLE_HZ * time)
    return Changed(speech + tone.astype(np.float32), speech)


CONDITIONS: dict[str, Callable[[np.ndarray], Changed]] = {
    "as it is": lambda audio: Changed(audio, audio),
    "peak at -40 dBFS": partial(at_peak, dbfs=-40.0),
    "peak at -20 dBFS": partial(at_peak, dbfs=-20.0),
    "peak at -6 dBFS": partial(at_peak, dbfs=-6.0),
    "peak at 0 dBFS": partial(at_peak, dbfs=0.0),
    f"limited by {LIMITED_DB:g} dB": limited,
    f"offset of {OFFSET:g}": with_offset,
    f"{RUMBLE_HZ:g} Hz at {RUMBLE_DB:g} dBFS": with_rumble,
}
"""Ways to change a recording, by the name in tables."""

MEASURES = ("pesq_wb", "stoi", "dnsmos", "plcmos")
ALONE = ("dnsmos", "plcmos")
"""Measures of the original, too."""


def figures_of(
    recording: Recording, entries: Sequence[Entry], seconds: float
) -> list[dict[str, Any]]:
    """One row per condition, with the figures of the original and of all codecs."""
    audio, rows = recording.load(seconds), []
    for condition, change in CONDITIONS.items():
        coded, compared = change(audio)
        row: dict[str, Any] = {"file": recording.name, "condition": condition}
        row["original"] = rate_naturalness(compared, SAMPLE_RATE)
        for entry in entries:
            result = entry.open("speech").code(coded, SAMPLE_RATE, entry.bitrates[0])
            row[entry.label] = {
                "pesq_wb": pesq_wb(result.audio, compared, SAMPLE_RATE),
                "stoi": short_time_intelligibility(result.audio, compared, SAMPLE_RATE),
                **rate_naturalness(result.audio, SAMPLE_RATE),
                "payload_bitrate": result.payload_bits * SAMPLE_RATE / len(audio),
            }
        rows.append(row)
    return rows


def summarise(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Means over the files in which the measure is defined, by condition and codec."""
    summary = []
    for label in labels:
        for condition in CONDITIONS:
            chosen = [row for row in rows if row["condition"] == condition]
            line: dict[str, Any] = {"codec": label, "condition": condition}
            for name in ("payload_bitrate", *MEASURES):
                line[name] = mean([row[label][name] for row in chosen])
            for name in ALONE:
                line[f"original_{name}"] = mean([row["original"][name] for row in chosen])
            summary.append(line)
    return summary


def make_section(facts: dict[str, Any]) -> str:
    """Section of the results page."""
    header = ("codec", "input", "kbit/s", *(METRICS[name].title for name in MEASURES))
    header += tuple(f"{METRICS[name].title}, less the original's" for name in ALONE)
    rows = []
    for line in facts["summary"]:
        cells = [line["codec"], line["condition"], cell(line["payload_bitrate"], 2, 1e-3)]
        cells += [cell(line[name], METRICS[name].decimals) for name in MEASURES]
        for name in ALONE:
            pair = (line[name], line[f"original_{name}"])
            difference = None if None in pair else pair[0] - pair[1]
            cells.append(cell(difference, METRICS[name].decimals))
        rows.append(cells)
    return (
        f"The first {facts['seconds']:g} s of {facts['num_files']} recordings of speech; means.\n\n"
        + markdown_table(header, rows)
    )


def compare(arguments: argparse.Namespace) -> None:
    """Code all recordings in all conditions, measure, print and write."""
    chosen = recordings.speech(arguments.data, arguments.every)
    ours = [
        entry
        for entry in model_entries([arguments.model], [arguments.bitrate], 1)
        if entry.contender == "aecodec"
    ]
    folders = dict(pair.split("=", 1) for pair in arguments.peer)
    others, _ = peer_entries([], folders, 100)
    nearest = [
        entry._replace(bitrates=(min(entry.bitrates, key=lambda b: abs(b - arguments.bitrate)),))
        for entry in others
    ]
    entries = [*ours, *nearest]
    work = partial(figures_of, entries=entries, seconds=arguments.seconds)
    results = dict(run_in_processes(work, chosen, arguments.jobs))
    rows = [row for number in range(len(results)) for row in results[number]]
    facts = origin([arguments.model]) | {
        "seconds": arguments.seconds,
        "num_files": len(results),
        "summary": summarise(rows, [entry.label for entry in entries]),
        "files": rows,
    }
    section = make_section(facts)
    print(section)
    write_report(arguments.out, "levels", facts, section)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_speech_options(parser)
    parser.add_argument("--bitrate", type=parse_bitrate, default=6_000, help="default: 6k")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="compare with a codec at its nearest bitrate; FOLDER may be empty",
    )
    arguments = parser.parse_args(words)
    try:
        compare(arguments)
    except CodecError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
