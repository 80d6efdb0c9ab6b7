"""Variable against constant bitrate at equal bytes, both with entropy coding.

    python benchmarks/variable_bitrate.py --data DIR [--model M] [--bitrates 1.5k 3k 6k] [--out OUT]

A file of constant bitrate has the bitrate that entropy coding leaves of its codes, so it can seldom
have exactly as many bytes as one of variable bitrate. Every recording is therefore encoded with
several numbers of codebooks, and its measures are interpolated at the bitrate of its variable file:
cubically and monotonically over the logarithm of the bitrate, as Bjøntegaard compares video codecs
(2001, ITU-T VCEG-M33). All bytes of both files are counted.

Writes variable_bitrate.json (all figures of every file) and variable_bitrate.md to OUT. The rules
are those of ``rate_quality.py``. Finished work is kept in OUT/cache: after an interruption, the
same command continues there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.comparison import coding
from benchmarks.comparison.entries import Entry, spread
from benchmarks.comparison.summary import verdict
from benchmarks.contenders.aecodec import Aecodec, ConstantAecodec
from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, mean_with_interval
from benchmarks.shared.recordings import SAMPLE_RATE, Recording, class_order
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.tables import markdown_table
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL

MOST_SAVED = 0.45
"""Entropy coding saves a smaller share of nearly all files. Numbers of codebooks reach so far."""
MEASURES = ("pesq_wb", "stoi", "visqol_speech", "visqol_audio", "mel")

Figures = Mapping[str, Mapping[str, float]]
"""Figures of a recording by bitrate, as `benchmarks.comparison.coding.code_and_measure` gives."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder of a model")
    parser.add_argument(
        "--bitrates",
        type=parse_bitrate,
        nargs="+",
        default=[1_500, 3_000, 6_000],
        help="of all bytes (default: 1.5k 3k 6k)",
    )
    parser.add_argument(
        "--speech", type=int, default=24, help="recordings of speech (default: %(default)s)"
    )
    parser.add_argument(
        "--others", type=int, default=12, help="of each other class (default: %(default)s)"
    )
    parser.add_argument("--points", type=int, default=6, help="numbers of codebooks (default: 6)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each recording")
    parser.add_argument("--no-visqol", action="store_true", help="skip ViSQOL")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder (default: %(default)s)"
    )
    arguments = parser.parse_args(words)
    try:
        compare(arguments)
    except CodecError as error:
        sys.exit(f"error: {error}")


def compare(arguments: argparse.Namespace) -> None:
    """Code all recordings in both ways, measure, print and write."""
    out, seconds = arguments.out, arguments.seconds
    chosen = evenly_spaced(recordings.find(arguments.data), arguments.speech, arguments.others)
    variable, constant = entries(arguments.model, arguments.bitrates, arguments.points)
    tasks = coding.plan(chosen, [variable, constant], seconds, not arguments.no_visqol)
    results = coding.run(tasks, out / "cache", arguments.jobs)
    rows = coding.rows_by_file(chosen, tasks, results)
    lines = compare_rows(rows, variable.label, constant.label, arguments.seed)
    facts: dict[str, Any] = origin([arguments.model], arguments.seed) | {
        "seconds": seconds,
        "sample_rate": SAMPLE_RATE,
        "lines": lines,
        "files": rows,
    }
    section = make_section(facts)
    print(section)
    write_report(out, "variable_bitrate", facts, section)


def evenly_spaced(found: Sequence[Recording], speech: int, others: int) -> list[Recording]:
    """At most so many recordings of speech and of each other class, evenly spaced among all."""
    chosen = []
    for sound_class, members in recordings.by_class(found).items():
        count = min(speech if sound_class == "speech" else others, len(members))
        chosen += [members[(2 * i + 1) * len(members) // (2 * count)] for i in range(count)]
    return chosen


def entries(model: str, bitrates: Sequence[int], points: int) -> tuple[Entry, Entry]:
    """The model with a variable and with a constant bitrate.

    Args:
        model: name or folder.
        bitrates: of the variable bitrate, in bits per second.
        points: numbers of codebooks with a constant one, evenly spaced on a logarithmic scale.

    Raises:
        CodecError: the model has no context model, or not so low or high a bitrate.
    """
    variable, constant = Aecodec(model), ConstantAecodec(model)
    if variable.loaded.context is None:
        raise CodecError(f"{model} has no context model: fit one with aecodec fit-context")
    offered = variable.bitrates()
    if missing := set(map(int, bitrates)) - set(offered):
        raise CodecError(
            f"{variable.label} does not offer {min(missing)} bit/s: give multiples of {offered[0]}"
        )
    low, high = min(bitrates), max(bitrates) / (1 - MOST_SAVED)
    within = [each for each in offered if low <= each <= high]
    return (
        Entry(variable.label, variable.name, model, tuple(map(int, bitrates))),
        Entry(constant.label, constant.name, model, spread(within, points)),
    )


def at_equal_bytes(constant: Figures, bitrate: float, measure: str) -> float | None:
    """A measure of a recording at a constant bitrate, interpolated.

    Args:
        constant: its figures with several numbers of codebooks.
        bitrate: bits per second, all bytes counted.
        measure: name of the measure.

    Returns:
        The measure; None if the bitrate lies outside of those that were measured.

    Example:
        >>> figures = {str(n): {"file_bitrate": 1000.0 * 2**n, "mel": 2.0 - n} for n in range(3)}
        >>> round(at_equal_bytes(figures, 2000 * 2**0.5, "mel"), 3)
        0.5
    """
    points = sorted((each["file_bitrate"], each[measure]) for each in constant.values())
    bitrates, values = np.array(points).T
    if not bitrates[0] <= bitrate <= bitrates[-1]:
        return None
    return float(PchipInterpolator(np.log(bitrates), values)(np.log(bitrate)))


def compare_rows(
    rows: Sequence[dict[str, Any]], variable: str, constant: str, seed: int
) -> list[dict[str, Any]]:
    """Means of both, and of their differences, by class of sound and bitrate.

    Args:
        rows: one row per recording, see `benchmarks.comparison.coding.rows_by_file`.
        variable: label of the variable bitrate.
        constant: label of the constant one.
        seed: seed of the bootstrap.

    Returns:
        A line for each, with ``{"variable", "constant", "mean", "low", "high", "files"}`` of each
        measure; the last four are those of the difference, variable less constant.
    """
    lines = []
    for sound_class in sorted({row["class"] for row in rows}, key=class_order):
        members = [row["codecs"] for row in rows if row["class"] == sound_class]
        for bitrate in members[0][variable]:
            found = [member[variable][bitrate] for member in members]
            line: dict[str, Any] = {"class": sound_class, "bitrate": int(bitrate)}
            line["file_bitrate"] = float(np.mean([each["file_bitrate"] for each in found]))
            for measure in MEASURES:
                pairs = [
                    (own[measure], other)
                    for own, member in zip(found, members, strict=True)
                    if measure in own
                    and (other := at_equal_bytes(member[constant], own["file_bitrate"], measure))
                    is not None
                ]
                if pairs:
                    line[measure] = _statistics(pairs, seed)
            lines.append(line)
    return lines


def _statistics(pairs: Sequence[tuple[float, float]], seed: int) -> dict[str, float]:
    own, other = np.array(pairs).T
    mean, low, high = mean_with_interval((own - other).tolist(), seed=seed)
    means = {"variable": float(own.mean()), "constant": float(other.mean())}
    return means | {"mean": mean, "low": low, "high": high, "files": len(pairs)}


def make_section(facts: dict[str, Any]) -> str:
    """The section of the results page, as Markdown."""
    rows = []
    for line in facts["lines"]:
        for name in (name for name in MEASURES if name in line):
            metric, figure = METRICS[name], line[name]
            cells = [f"{figure[key]:.{metric.decimals}f}" for key in ("constant", "variable")]
            half = (figure["high"] - figure["low"]) / 2
            change = f"{figure['mean']:+.{metric.decimals}f} ±{half:.{metric.decimals}f}"
            kbits = f"{line['file_bitrate'] / 1000:.2f}"
            title = metric.title + {"higher": " ↑", "lower": " ↓"}[metric.better]
            head = [f"{line['class']} ({figure['files']:.0f})", kbits, title]
            rows.append([*head, *cells, change, verdict(metric, figure)])
    header = ["class (files)", "file kbit/s", "measure", "constant", "variable", "change", ""]
    return (
        f"The first {facts['seconds']:g} s of each recording, with entropy coding in both cases. "
        "The bitrate counts all bytes of the files. The measures of a constant bitrate are "
        "interpolated, file by file, at the bitrate of the file of variable bitrate. Change: mean "
        "± half the width of the 95 % bootstrap confidence interval over the files; better or "
        f"worse where the interval excludes zero.\n\n{markdown_table(header, rows)}\n"
    )


if __name__ == "__main__":
    main()
