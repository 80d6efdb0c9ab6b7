"""Speed, start-up time and memory of the codec on this machine, compared with other codecs.

    pip install -e ".[bench]"
    python benchmarks/speed.py [--model M] [--quick] [--out OUT]

Prints Markdown tables; with --out, writes all figures to OUT/speed.json. Every number of threads is
measured in a new process, and so is every command. Codecs are interleaved: each round runs each of
them once, so that a change of the machine's speed affects all of them, and the best round counts,
because other load only adds time. Every round also includes a matrix product: the share of its rate
that a network reaches is what can be compared between machines.

All codecs code speech, at the bitrate nearest to our highest. Ours runs through a stream, including
packing and checksums. The networks of other codecs have random weights, on which speed does not
depend, and run in Hugging Face's ``transformers`` on a whole clip, with the weight norm folded.
Opus, by PyAV, includes its Ogg file and resampling from 48 kHz. Multiply-accumulates are counted
while running and include the codebook search.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders.registry import find_contender, peers
from benchmarks.shared.processes import process_pool
from benchmarks.shared.report import installed, origin, write_report
from benchmarks.timing.clips import offline
from benchmarks.timing.commands import memory, start_up
from benchmarks.timing.engines import engines
from benchmarks.timing.live import first_packet, live_streams, streaming
from benchmarks.timing.section import report
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL, find_model
from codec.registry import default_backend

DEFAULT_PEERS = ("opus", "encodec", "dac", "mimi", "snac")


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse_arguments(words)
    model, names = arguments.model, dict.fromkeys(arguments.peers, "")
    try:
        names |= dict(pair.split("=", 1) for pair in arguments.peer)
    except ValueError:
        sys.exit("error: --peer must be NAME=FOLDER")
    try:
        names = without_missing(names)
        figures = origin([model])
        figures |= measure(model, names, arguments.threads, arguments.minutes, arguments.quick)
    except CodecError as error:
        sys.exit(f"error: {error}")
    section = report(figures)
    print(section)
    if arguments.out:
        write_report(arguments.out, "speed", figures, section)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the defaults that depend on ``--quick`` filled in."""
    # Starting the programs of other codecs would take most of their time.
    choices = [name for name, peer in peers().items() if not peer.programs]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model of aecodec, name or folder")
    parser.add_argument("--quick", action="store_true", help="short clips, one round, one thread")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="numbers of threads (default: 1 2; quick: 1)"
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=choices,
        default=DEFAULT_PEERS,
        help=f"codecs to compare with (default: {' '.join(DEFAULT_PEERS)})",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="compare with a codec whose weights are in a folder, as lyra=FOLDER",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="*",
        help="lengths of files to measure memory for (default: 1 10 60; quick: 0.1 0.5)",
    )
    parser.add_argument("--out", type=Path, help="folder for speed.json")
    arguments = parser.parse_args(words)
    if arguments.threads is None:
        arguments.threads = [1] if arguments.quick else [1, 2]
    if arguments.minutes is None:
        arguments.minutes = [0.1, 0.5] if arguments.quick else [1, 10, 60]
    return arguments


def without_missing(names: Mapping[str, str]) -> dict[str, str]:
    """Those of the contenders whose Python packages are installed; the others are reported."""
    found = {}
    for name, folder in names.items():
        contender = find_contender(name)
        if all(map(installed, contender.packages)):
            found[name] = folder
        else:
            report_progress(f'without {name}: pip install "aecodec[{contender.extra}]"')
    return found


def measure(
    model: str,
    peers: Mapping[str, str],
    threads: Sequence[int],
    minutes: Sequence[float],
    quick: bool,
) -> dict[str, Any]:
    """All figures.

    Args:
        model: model of aecodec.
        peers: contenders to compare with, and the folders of their weights or "".
        threads: numbers of threads; neural networks of others run on one thread only.
        minutes: lengths of files for which memory is measured.
        quick: whether to use short clips and one round.
    """
    parts = ("first_packet", "offline", "streaming", "engines", "sessions")
    figures: dict[str, Any] = {part: [] for part in parts}
    seconds, neural_seconds, rounds = (6.0, 1.0, 1) if quick else (60.0, 3.0, 5)
    for count in threads:
        names = {
            name: folder
            for name, folder in peers.items()
            if count == 1 or not find_contender(name).needs_weights
        }
        with fresh_process(count) as run:
            report_progress(f"first packet, {count} thread(s)")  # first: the process is still cold
            figures["first_packet"].append(run(first_packet, model))
            report_progress(f"streaming, {count} thread(s)")
            figures["streaming"] += run(streaming, model, seconds)
            if default_backend(find_model(model)) == "core":
                report_progress(f"engines, {count} thread(s)")
                figures["engines"].append(run(engines, model, min(seconds, 6.0), rounds))
            report_progress(f"live sessions, {count} thread(s)")
            figures["sessions"].append(run(live_streams, model, 20 if quick else 1000))
            report_progress(f"whole clips, {count} thread(s)")
            clips = run(offline, model, names, seconds, neural_seconds, rounds)
            figures["offline"].append(clips)
    report_progress("start-up")
    figures["start_up"] = start_up(model, rounds)
    report_progress("memory")
    figures["memory"] = memory(model, minutes)
    return figures


@contextmanager
def fresh_process(threads: int) -> Iterator[Callable[..., Any]]:
    """A new process with a number of threads: a function that calls another one there."""
    with process_pool(1, threads) as pool:
        yield lambda work, *arguments: pool.submit(work, *arguments).result()


def report_progress(part: str) -> None:
    """Print which part is running, on standard error."""
    print(f"speed: {part}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
