"""Bitrate against quality: our models beside the codecs that one would use instead.

    pip install -e ".[bench]"
    python benchmarks/rate_quality.py --quick
    python benchmarks/rate_quality.py --data DIR [--model M] [--bitrates 1.5k 6k] [--out OUT]

Every codec really codes every recording: into a stream or a file, whose bits are counted, and back.
The class of a recording is what its name says before the first underscore. Without --data, the
example of this repository and two synthesised sounds are coded.

Writes to OUT: rate_quality.json (every figure of every file), rate_quality.md (means with 95 %
bootstrap intervals), a picture per class as PNG and SVG, and listen.html, to hear the codecs side
by side. What was measured is kept in OUT/cache, so an interrupted run goes on where it was.

The rules are the same for all codecs: mono at 24 kHz, resampled by soxr's HQ where a codec wants
another rate; delay found and removed (`codecs.align`); level matched (`metrics.level_difference`).
What each measure means, and its limits: ``benchmarks/shared/metrics.py``. Opus codes speech as
``voip``, all else as ``audio``; Codec 2 and Speex are for speech and code nothing else. MP3 is
LAME's, AAC is FFmpeg's own encoder.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

# Run as a script, the repository itself is not among the places to import from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders import codecs
from benchmarks.contenders.codecs import PEERS, PUBLISHED, Aecodec, CodecUnderTest, open_peer
from benchmarks.shared import listen, metrics, recordings
from benchmarks.shared.metrics import measure
from benchmarks.shared.rate_tables import class_order, draw, pairs, section, summarise
from benchmarks.shared.recordings import SAMPLE_RATE, kind_of
from benchmarks.shared.report import installed, origin, write_report
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL, find_model

SPEECH_ONLY = ("codec2", "speex")
AUTO_BITRATES = 6
QUICK_BITRATES = 3
LISTEN_SECONDS, LISTEN_BITRATES = 4.0, 3


class Contender(NamedTuple):
    """A codec to be opened in each process.

    Attributes:
        name: for tables.
        kind: "aecodec", or a peer's name.
        place: of the model, empty where there is none.
        bitrates: to run at.
    """

    name: str
    kind: str
    place: str
    bitrates: tuple[int, ...]

    def open(self, speech: bool) -> CodecUnderTest:
        """The codec, for this kind of sound."""
        if self.kind == "aecodec":
            return _model(self.place)
        return open_peer(self.kind, speech=speech, folder=self.place or None)

    def takes(self, kind: str) -> bool:
        """Whether this class of sounds is for it."""
        return kind == "speech" or self.kind not in SPEECH_ONLY


@cache
def _model(place: str) -> Aecodec:
    return Aecodec(place)


class Task(NamedTuple):
    """One recording through one codec at all its bitrates.

    Attributes:
        path: of the recording.
        contender: the codec.
        seconds: that are coded, from the beginning.
        visqol: whether that is measured.
        cache_key: names everything that the figures depend on.
    """

    path: Path
    contender: Contender
    seconds: float
    visqol: bool
    cache_key: str


def code_and_measure(task: Task) -> dict[str, Any]:
    """Bits, delay and `metrics.measure` of a task, by bitrate."""
    prepare_process()
    began = time.perf_counter()
    speech = kind_of(task.path) == "speech"
    original = recordings.load(task.path, task.seconds)
    codec = task.contender.open(speech)
    results = {}
    for bitrate in task.contender.bitrates:
        coded = codec.code(original, SAMPLE_RATE, bitrate)
        seconds = len(original) / SAMPLE_RATE
        figures = {
            "payload_bitrate": coded.payload_bits / seconds,
            "file_bitrate": None if coded.file_bytes is None else 8 * coded.file_bytes / seconds,
            "delay_ms": 1000 * coded.delay / SAMPLE_RATE,
        }
        results[str(bitrate)] = figures | measure(
            coded.audio, original, SAMPLE_RATE, speech=speech, visqol=task.visqol
        )
    return {"bitrates": results, "seconds_taken": time.perf_counter() - began}


def prepare_process() -> None:
    """One thread: the work is spread over files."""
    import numba

    numba.set_num_threads(1)
    torch.set_num_threads(1)


def find_contenders(
    models: Sequence[str],
    bitrates: Sequence[int] | None,
    peers: Sequence[str],
    folders: dict[str, str],
    quick: bool,
) -> tuple[list[Contender], dict[str, str]]:
    """The codecs that can run here, and why the others cannot.

    Args:
        models: of ours.
        bitrates: of ours; spread over what a model has if None.
        peers: names from `PEERS`.
        folders: of weights, by a name from `PUBLISHED`.
        quick: fewer bitrates.
    """
    limit = QUICK_BITRATES if quick else AUTO_BITRATES
    contenders = []
    names = [_model(model).name for model in models]
    for model in models:
        ours = _model(model)
        same = names.count(ours.name) > 1
        name = f"{ours.name} {ours.fingerprint[:6]}" if same else ours.name
        chosen = spread(ours.bitrates(), limit)
        if bitrates is not None:
            chosen = tuple(dict.fromkeys(_at_most(ours, bitrate) for bitrate in bitrates))
        contenders.append(Contender(name, "aecodec", model, chosen))
    absent = {}
    for name in [*peers, *folders]:
        try:
            peer = open_peer(name, speech=True, folder=folders.get(name))
        except CodecError as error:
            if name not in PEERS or name in folders:
                raise
            absent[name] = str(error)
            continue
        contenders.append(
            Contender(name, name, folders.get(name, ""), spread(peer.bitrates(), limit))
        )
    for name in PUBLISHED:
        if name not in folders:
            absent[name] = f"no weights: give --peer {name}=FOLDER"
    return contenders, absent


def _at_most(codec: Aecodec, bitrate: int) -> int:
    offered = [value for value in codec.bitrates() if value <= bitrate]
    if not offered:
        raise CodecError(
            f"{codec.name} starts at {codec.bitrates()[0] / 1000:g} kbit/s: give higher --bitrates"
        )
    return offered[-1]


def spread(offered: Sequence[int], limit: int) -> tuple[int, ...]:
    """At most so many of the bitrates, evenly over their logarithm, both ends among them."""
    if len(offered) <= limit:
        return tuple(offered)
    wanted = np.geomspace(offered[0], offered[-1], limit)
    return tuple(sorted({min(offered, key=lambda value: abs(value - aim)) for aim in wanted}))


def plan(
    paths: Sequence[Path], contenders: Sequence[Contender], seconds: float, visqol: bool
) -> list[Task]:
    """Every recording through every codec that takes it."""
    sources = [meaning(Path(str(module.__file__))) for module in (codecs, metrics, recordings)]
    packages = {name: installed(name) for name in ("av", "pesq", "pystoi", "visqol-python")}
    identities = {contender: _identity(contender) for contender in contenders}
    tasks = []
    for path in paths:
        file_digest = recordings.digest(path)
        for contender in contenders:
            if not contender.takes(kind_of(path)):
                continue
            identity, kind = identities[contender], kind_of(path)
            facts = [file_digest, contender, identity, seconds, visqol, kind]
            key = json.dumps([*facts, packages, sources], default=str).encode()
            digest = hashlib.sha256(key).hexdigest()
            tasks.append(Task(path, contender, seconds, visqol, digest))
    return tasks


def _identity(contender: Contender) -> str:
    """What tells other weights in the same place."""
    place = contender.place
    if contender.kind == "aecodec":  # not the fingerprint, which says nothing of the decoder
        return recordings.digest(find_model(place) / "weights.safetensors")
    return recordings.digest(Path(place) / "model.safetensors") if place else ""


def meaning(path: Path) -> str:
    """A module's syntax tree without its docstrings: the same when only words changed."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [
                part
                for part in node.body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return ast.dump(tree)


def run(tasks: Sequence[Task], cache_folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Results of all tasks in order, from the cache where they are there."""
    cache_folder.mkdir(parents=True, exist_ok=True)
    places = [cache_folder / f"{task.cache_key}.json" for task in tasks]
    # In the order of the keys, which is none: so the time that is left can be told early.
    missing = [number for number, place in enumerate(places) if not place.exists()]
    missing.sort(key=lambda number: tasks[number].cache_key)
    with tqdm(
        total=len(tasks),
        initial=len(tasks) - len(missing),
        unit="task",
        mininterval=0.5 if sys.stderr.isatty() else 60,
        smoothing=0.05,
    ) as shown:
        for number, result in _results([tasks[number] for number in missing], jobs):
            place = places[missing[number]]
            temporary = place.with_suffix(".part")
            temporary.write_text(json.dumps(result, allow_nan=False), "utf-8")
            temporary.replace(place)
            shown.update()
    return [json.loads(place.read_text("utf-8")) for place in places]


def _results(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[int, dict[str, Any]]]:
    if jobs == 1:
        for number, task in enumerate(tasks):
            yield number, code_and_measure(task)
        return
    # The threads of a process that was forked after torch had started some may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(tasks)) or 1, mp_context=context)
    try:
        waiting = {pool.submit(code_and_measure, task): n for n, task in enumerate(tasks)}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:  # when interrupted, what has not begun is left
        pool.shutdown(cancel_futures=True)


def by_file(
    paths: Sequence[Path], tasks: Sequence[Task], results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row a recording, with the figures of all codecs."""
    rows = []
    for path in paths:
        seconds = len(recordings.load(path, tasks[0].seconds)) / SAMPLE_RATE
        coded = {
            task.contender.name: result["bitrates"]
            for task, result in zip(tasks, results, strict=True)
            if task.path == path
        }
        row = {"file": path.name, "class": kind_of(path), "sha256": recordings.digest(path)}
        rows.append(row | {"seconds": seconds, "codecs": coded})
    return rows


def make_clips(
    paths: Sequence[Path], contenders: Sequence[Contender], per_class: int
) -> list[listen.Clip]:
    """Recordings from all over each class, coded once more to be heard."""
    clips = []
    for kind in sorted(dict.fromkeys(map(kind_of, paths)), key=class_order):
        members = [path for path in paths if kind_of(path) == kind]
        count = min(per_class, len(members))
        for number in range(count):
            path = members[(2 * number + 1) * len(members) // (2 * count)]
            original = recordings.load(path, LISTEN_SECONDS)
            versions = [listen.Version("original", f"{SAMPLE_RATE / 1000:g} kHz", original)]
            for contender in contenders:
                if not contender.takes(kind):
                    continue
                codec = contender.open(kind == "speech")
                for bitrate in spread(contender.bitrates, LISTEN_BITRATES):
                    coded = codec.code(original, SAMPLE_RATE, bitrate)
                    kbits = coded.payload_bits * SAMPLE_RATE / len(original) / 1000
                    gain = metrics.level_difference(coded.audio, original)
                    audio = coded.audio * np.float32(10 ** (gain / 20))
                    versions.append(listen.Version(contender.name, f"{kbits:.1f} kbit/s", audio))
            clips.append(listen.Clip(kind, path.stem, versions))
    return clips


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of recordings")
    parser.add_argument("--model", action="append", help="of ours; give it again for more")
    parser.add_argument("--bitrates", type=parse_bitrate, nargs="+", help="of our models")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"default: {','.join(PEERS)}")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help=f"one of {', '.join(PUBLISHED)} with weights on this machine",
    )
    parser.add_argument("--seconds", type=float, help="of each recording (default: 10; quick: 4)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of each class")
    parser.add_argument("--quick", action="store_true", help="few files, few bitrates")
    parser.add_argument("--no-visqol", action="store_true", help="which takes most of the time")
    parser.add_argument("--clips", type=int, help="to listen to, per class (default: 2; quick: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder")
    arguments = parser.parse_args(words)
    if arguments.every < 1 or arguments.jobs < 1:
        parser.error("--every and --jobs are at least 1")
    for pair in arguments.peer:
        if pair.partition("=")[0] not in PUBLISHED or "=" not in pair:
            parser.error(f"--peer {pair}: write NAME=FOLDER with a name of {', '.join(PUBLISHED)}")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = parse_arguments(words)
    try:
        compare(arguments)
    except CodecError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where this one was")


def compare(arguments: argparse.Namespace) -> None:
    """The whole benchmark."""
    began = time.perf_counter()
    quick, out = arguments.quick, arguments.out
    seconds = arguments.seconds or (4.0 if quick else 10.0)
    if arguments.data is None:
        paths = recordings.make_examples(out / "examples", seconds)
    else:
        every = arguments.every
        paths = recordings.find(arguments.data, every)
        if quick:
            paths = [
                path
                for kind in dict.fromkeys(map(kind_of, paths))
                for path in [p for p in paths if kind_of(p) == kind][:2]
            ]
    models = arguments.model or [DEFAULT_MODEL]
    contenders, absent = find_contenders(
        models,
        arguments.bitrates and [int(bitrate) for bitrate in arguments.bitrates],
        [name for name in arguments.peers.split(",") if name],
        dict(pair.split("=", 1) for pair in arguments.peer),
        quick,
    )
    for name, reason in absent.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    tasks = plan(paths, contenders, seconds, not arguments.no_visqol)
    # The processes inherit this: what is started inside them shall not start threads either.
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
    results = run(tasks, out / "cache", arguments.jobs)
    rows = by_file(paths, tasks, results)
    summary = summarise(rows, arguments.seed)
    facts: dict[str, Any] = origin(models, arguments.seed) | {
        "seconds": seconds,
        "sample_rate": SAMPLE_RATE,
        "absent": absent,
        "original_bandwidth": original_bandwidths(paths, seconds),
        "processor_seconds": sum(result["seconds_taken"] for result in results),
        "summary": summary,
        "pairs": pairs(rows, arguments.seed),
        "files": rows,
    }
    text = section(summary, facts)
    print(text)
    write_report(out, "rate_quality", facts, text, draw(summary, out))
    clips = make_clips(paths, contenders, arguments.clips or (1 if quick else 2))
    remarks = (
        f"Made by {facts['command']} on {facts['date']}. Mono at 24 kHz; the level of each version "
        "is that of the original; the bitrates are what was really spent on the clip.",
    )
    page = listen.make_page(clips, SAMPLE_RATE, remarks)
    (out / "listen.html").write_text(page, "utf-8")
    taken = time.perf_counter() - began
    print(
        f"{len(paths)} files in {taken / 60:.1f} minutes "
        f"({facts['processor_seconds'] / 60:.1f} of measuring): {out}/listen.html",
        file=sys.stderr,
    )


def original_bandwidths(paths: Sequence[Path], seconds: float) -> dict[str, list[float]]:
    """Bandwidth of the recordings themselves, kHz, by class."""
    found: dict[str, list[float]] = {}
    for path in paths:
        original = recordings.load(path, seconds)
        width = metrics.bandwidth(original, original, SAMPLE_RATE)
        found.setdefault(kind_of(path), []).extend([] if width is None else [width])
    return dict(sorted(found.items(), key=lambda item: class_order(item[0])))


if __name__ == "__main__":
    main()
