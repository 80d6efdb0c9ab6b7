"""Quality against bitrate: models of aecodec and other codecs on the same recordings.

    pip install -e ".[bench]"
    python benchmarks/rate_quality.py --quick
    python benchmarks/rate_quality.py --data DIR [--model M] [--bitrates 1.5k 6k] [--out OUT]

Every codec encodes every recording to a real stream or file, whose bits are counted, and decodes
it. The class of sound of a recording is that of `aecodec evaluate`: the first folder that it is in,
or else its name up to the first underscore, or else the name of DIR. Without --data, the bundled
recording of speech and two synthesised sounds are coded.

Writes to OUT: rate_quality.json (all figures of every file), rate_quality.md (means with 95 %
bootstrap confidence intervals), a plot per class as PNG and SVG, and listen.html for listening to
the codecs side by side. Finished work is kept in OUT/cache: after an interruption, the same command
continues there.

The rules are the same for all codecs: mono at 24 kHz, resampled with soxr's HQ setting where a
codec works at another rate; delay is found and removed (``benchmarks/contenders/base.py``); level
is matched. ``benchmarks/shared/metrics.py`` describes the measures and their limits. Opus encodes
speech as ``voip`` and everything else as ``audio``; Codec 2 and Speex are for speech, so they
encode nothing else. MP3 is by LAME, AAC by FFmpeg's own encoder.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.comparison import coding
from benchmarks.comparison.entries import model_entries, peer_entries
from benchmarks.comparison.listening_page import make_page
from benchmarks.comparison.section import draw_plots, make_section
from benchmarks.comparison.summary import paired_differences, summarise, summarise_originals
from benchmarks.contenders.registry import peers
from benchmarks.shared import recordings
from benchmarks.shared.recordings import SAMPLE_RATE, Recording
from benchmarks.shared.report import origin, write_report
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL

QUICK_FILES = 2
"""Recordings of each class of sound in a quick run."""


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the defaults that depend on ``--quick`` filled in."""
    without_weights = [name for name, peer in peers().items() if not peer.needs_weights]
    with_weights = [name for name, peer in peers().items() if peer.needs_weights]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of recordings, searched with its subfolders and shards"
    )
    parser.add_argument(
        "--model", action="append", help="name or folder of a model of aecodec; repeat for several"
    )
    parser.add_argument(
        "--bitrates",
        type=parse_bitrate,
        nargs="+",
        help="bitrates of these models (default: 6 of those that they offer; quick: 3)",
    )
    parser.add_argument(
        "--peers",
        default=",".join(without_weights),
        help="codecs to compare with, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help=f"compare with one of {', '.join(with_weights)}, with weights from a local folder",
    )
    parser.add_argument(
        "--seconds", type=float, help="duration coded of each recording (default: 10; quick: 4)"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of each class")
    parser.add_argument("--quick", action="store_true", help="fewer files, bitrates and seconds")
    parser.add_argument(
        "--no-visqol", action="store_true", help="skip ViSQOL, which takes most of the time"
    )
    parser.add_argument(
        "--clips", type=int, help="clips per class on the listening page (default: 2; quick: 1)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of processes (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--title", default="", help="what the recordings are, for the results page")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder (default: %(default)s)"
    )
    arguments = parser.parse_args(words)
    if arguments.every < 1 or arguments.jobs < 1:
        parser.error("--every and --jobs must be at least 1")
    for pair in arguments.peer:
        name, equals, _ = pair.partition("=")
        if name not in with_weights or not equals:
            parser.error(f"--peer {pair}: give NAME=FOLDER, NAME one of {', '.join(with_weights)}")
    add_defaults(arguments)
    return arguments


def add_defaults(arguments: argparse.Namespace) -> None:
    """Set what was not given, of which --quick takes less."""
    quick = arguments.quick
    arguments.model = arguments.model or [DEFAULT_MODEL]
    arguments.seconds = arguments.seconds or (4.0 if quick else 10.0)
    arguments.clips = arguments.clips or (1 if quick else 2)
    arguments.max_bitrates = 3 if quick else 6


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse_arguments(words)
    try:
        compare(arguments)
    except CodecError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command continues from here")


def compare(arguments: argparse.Namespace) -> None:
    """Code all recordings with all codecs, measure, print and write."""
    began, out = time.perf_counter(), arguments.out
    chosen = choose_recordings(
        arguments.data, out, arguments.seconds, arguments.every, arguments.quick
    )
    ours = model_entries(arguments.model, arguments.bitrates, arguments.max_bitrates)
    names = [name for name in arguments.peers.split(",") if name]
    folders = dict(pair.split("=", 1) for pair in arguments.peer)
    others, absent = peer_entries(names, folders, arguments.max_bitrates)
    report_absent(absent)

    tasks = coding.plan(chosen, [*ours, *others], arguments.seconds, not arguments.no_visqol)
    results = coding.run(tasks, out / "cache", arguments.jobs)
    rows = coding.rows_by_file(chosen, tasks, results)
    originals = coding.measure_originals(chosen, arguments.seconds, arguments.jobs)

    facts: dict[str, Any] = origin(arguments.model, arguments.seed) | {
        "title": arguments.title,
        "seconds": arguments.seconds,
        "sample_rate": SAMPLE_RATE,
        "absent": absent,
        "originals": summarise_originals(originals, arguments.seed),
        "processor_seconds": sum(result["seconds_taken"] for result in results),
        "summary": summarise(rows, arguments.seed),
        "pairs": paired_differences(rows, arguments.seed),
        "files": rows,
    }
    section = make_section(facts)
    print(section)
    write_report(out, "rate_quality", facts, section, draw_plots(facts["summary"], out))

    clips = coding.make_clips(chosen, [*ours, *others], arguments.clips)
    (out / "listen.html").write_text(make_page(clips, SAMPLE_RATE, remarks(facts)), "utf-8")
    report_time(len(chosen), time.perf_counter() - began, facts["processor_seconds"], out)


def choose_recordings(
    data: Path | None, out: Path, seconds: float, every: int, quick: bool
) -> list[Recording]:
    """Recordings of a folder, or examples that are written to ``OUT/examples``.

    Args:
        data: folder of recordings; None for the examples.
        out: output folder.
        seconds: duration of the examples.
        every: take only every n-th recording of each class of sound.
        quick: whether to take only the first `QUICK_FILES` of each class.

    Raises:
        AudioError: ``data`` is not a folder, or contains no usable audio.
    """
    if data is None:
        return recordings.make_examples(out / "examples", seconds)
    found = recordings.by_class(recordings.find(data, every)).values()
    return [
        recording for members in found for recording in members[: QUICK_FILES if quick else None]
    ]


def report_absent(absent: dict[str, str]) -> None:
    """Print which codecs cannot take part, and why."""
    for name, reason in absent.items():
        print(f"without {name}: {reason}", file=sys.stderr)


def remarks(facts: dict[str, Any]) -> list[str]:
    """Paragraphs for the listening page."""
    return [
        f"Made by {facts['command']} on {facts['date']}. Mono at 24 kHz; the level of each version "
        "is matched to the original; the bitrates are those spent on the clip."
    ]


def report_time(num_files: int, seconds: float, processor_seconds: float, out: Path) -> None:
    """Print how long the comparison took, and where the listening page is."""
    print(
        f"{num_files} files in {seconds / 60:.1f} minutes "
        f"({processor_seconds / 60:.1f} of processor time for coding and measuring): "
        f"{out}/listen.html",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
