"""Coding recordings with all codecs and measuring the result, with a cache of finished work."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.comparison.entries import Entry, spread
from benchmarks.comparison.listening_page import Clip, Version
from benchmarks.contenders.registry import find_contender
from benchmarks.shared import metrics, recordings, resampling, spectra
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import SAMPLE_RATE, Recording, by_class, file_digest
from benchmarks.shared.report import installed
from codec.evaluation import harmonics, naturalness, speaker

CLIP_SECONDS, CLIP_BITRATES = 4.0, 3
PACKAGES = ("av", "pesq", "pystoi", "resemblyzer", "speechmos", "visqol-python")
"""Packages whose versions change figures: with another version, nothing in the cache is used."""


class Task(NamedTuple):
    """One recording with one codec, at all its bitrates.

    Attributes:
        recording: the recording.
        entry: the codec.
        seconds: duration to code, from the beginning.
        visqol: whether to compute ViSQOL.
        cache_key: digest of everything that the figures depend on.
    """

    recording: Recording
    entry: Entry
    seconds: float
    visqol: bool
    cache_key: str


def plan(
    chosen: Sequence[Recording], entries: Sequence[Entry], seconds: float, visqol: bool
) -> list[Task]:
    """Tasks for every recording with every codec that is meant for its class of sound."""
    packages = {name: installed(name) for name in PACKAGES}
    facts_of_entry = {entry: _facts(entry) for entry in entries}
    tasks = []
    for recording in chosen:
        digest = recording.digest()
        for entry in entries:
            if entry.takes(recording.sound_class):
                facts = [digest, *facts_of_entry[entry], seconds, visqol, recording.sound_class]
                key = json.dumps([*facts, packages]).encode()
                cache_key = hashlib.sha256(key).hexdigest()
                tasks.append(Task(recording, entry, seconds, visqol, cache_key))
    return tasks


def _facts(entry: Entry) -> list[Any]:
    """What the figures of an entry depend on: its weights, and the source code that is involved.

    The weights are identified by their file: the fingerprint of a model does not cover its decoder.
    """
    contender = find_contender(entry.contender)
    weights = contender.weights_file(entry.model)
    classes = [known for known in contender.__mro__ if known.__module__.startswith("benchmarks")]
    measures = [metrics, harmonics, naturalness, speaker]
    modules = [*measures, recordings, resampling, spectra, *map(inspect.getmodule, classes)]
    sources = sorted({str(module.__file__) for module in modules if module})
    return [
        entry.contender,
        entry.bitrates,
        weights and file_digest(weights),
        [syntax_without_docstrings(Path(source)) for source in sources],
    ]


def syntax_without_docstrings(path: Path) -> str:
    """Syntax tree of a module without comments and docstrings, which do not change figures."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, [part for part in value if not _is_docstring(part)])
    return ast.dump(tree)


def _is_docstring(part: object) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def code_and_measure(task: Task) -> dict[str, Any]:
    """Bits, delay and `metrics.measure` of a task by bitrate, and the seconds that it took."""
    began = time.perf_counter()
    sound_class = task.recording.sound_class
    original = task.recording.load(task.seconds)
    seconds = len(original) / SAMPLE_RATE
    contender = task.entry.open(sound_class)
    results = {}
    for bitrate in task.entry.bitrates:
        coded = contender.code(original, SAMPLE_RATE, bitrate)
        figures: dict[str, float | None] = {
            "payload_bitrate": coded.payload_bits / seconds,
            "file_bitrate": None if coded.file_bytes is None else 8 * coded.file_bytes / seconds,
            "delay_ms": 1000 * coded.delay / SAMPLE_RATE,
        }
        figures |= metrics.measure(
            coded.audio,
            original,
            SAMPLE_RATE,
            speech=sound_class == "speech",
            visqol=task.visqol,
        )
        results[str(bitrate)] = figures
    return {"bitrates": results, "seconds_taken": time.perf_counter() - began}


def run(tasks: Sequence[Task], cache: Path, processes: int) -> list[dict[str, Any]]:
    """Results of `code_and_measure` for all tasks, in their order.

    Args:
        tasks: tasks to run.
        cache: folder of finished results, which are not computed again; created if missing.
        processes: number of processes.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"{task.cache_key}.json" for task in tasks]
    # In the order of the keys, which is random: then the estimate of the remaining time is good.
    missing = [number for number, file in enumerate(files) if not file.exists()]
    missing.sort(key=lambda number: tasks[number].cache_key)
    with tqdm(
        total=len(tasks),
        initial=len(tasks) - len(missing),
        unit="task",
        mininterval=0.5 if sys.stderr.isatty() else 60,
        smoothing=0.05,
    ) as bar:
        waiting = [tasks[number] for number in missing]
        for number, result in run_in_processes(code_and_measure, waiting, processes):
            file = files[missing[number]]
            temporary = file.with_suffix(".part")
            temporary.write_text(json.dumps(result, allow_nan=False), "utf-8")
            temporary.replace(file)
            bar.update()
    return [json.loads(file.read_text("utf-8")) for file in files]


def rows_by_file(
    chosen: Sequence[Recording], tasks: Sequence[Task], results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row per recording, with the figures of all codecs."""
    codecs: dict[Recording, dict[str, Any]] = {recording: {} for recording in chosen}
    for task, result in zip(tasks, results, strict=True):
        codecs[task.recording][task.entry.label] = result["bitrates"]
    return [
        {
            "file": recording.name,
            "class": recording.sound_class,
            "sha256": recording.digest(),
            "seconds": len(recording.load(tasks[0].seconds)) / SAMPLE_RATE,
            "codecs": codecs[recording],
        }
        for recording in chosen
    ]


def measure_originals(
    chosen: Sequence[Recording], seconds: float, processes: int
) -> dict[str, dict[str, list[float]]]:
    """Figures of the recordings themselves by class of sound: bandwidth in kHz, and for speech the
    measures that hear only the audio.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in by_class(chosen)}
    work = partial(_measure_original, seconds=seconds)
    results = dict(run_in_processes(work, chosen, processes))
    for number, recording in enumerate(chosen):
        for name, value in results[number].items():
            if value is not None:
                found[recording.sound_class].setdefault(name, []).append(value)
    return found


def _measure_original(recording: Recording, seconds: float) -> dict[str, float | None]:
    audio = recording.load(seconds)
    figures = {"bandwidth": metrics.bandwidth(audio, audio, SAMPLE_RATE)}
    if recording.sound_class == "speech":
        figures |= naturalness.rate_naturalness(audio, SAMPLE_RATE)
    return figures


def make_clips(chosen: Sequence[Recording], entries: Sequence[Entry], per_class: int) -> list[Clip]:
    """Clips for the listening page, from recordings evenly spaced over each class of sound."""
    clips = []
    for members in by_class(chosen).values():
        count = min(per_class, len(members))
        for number in range(count):
            recording = members[(2 * number + 1) * len(members) // (2 * count)]
            clips.append(_make_clip(recording, entries))
    return clips


def _make_clip(recording: Recording, entries: Sequence[Entry]) -> Clip:
    sound_class = recording.sound_class
    original = recording.load(CLIP_SECONDS)
    versions = [Version("original", f"{SAMPLE_RATE / 1000:g} kHz", original)]
    for entry in entries:
        if entry.takes(sound_class):
            contender = entry.open(sound_class)
            for bitrate in spread(entry.bitrates, CLIP_BITRATES):
                coded = contender.code(original, SAMPLE_RATE, bitrate)
                kbits = coded.payload_bits * SAMPLE_RATE / len(original) / 1000
                gain = metrics.level_difference(coded.audio, original)
                audio = coded.audio * np.float32(10 ** (gain / 20))
                versions.append(Version(entry.label, f"{kbits:.1f} kbit/s", audio))
    return Clip(sound_class, Path(recording.name).stem, versions)
