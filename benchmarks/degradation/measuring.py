"""Running the experiments: the figures of every recording."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.ffmpeg import Opus
from benchmarks.degradation.experiments import EXPERIMENTS, SHOWN
from benchmarks.degradation.subject import Subject, Trial
from benchmarks.shared import recordings
from benchmarks.shared.metrics import level_difference, pesq_wb, si_sdr, visqol_speech
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import Recording
from benchmarks.shared.resampling import resample
from codec.errors import CodecError
from codec.evaluation.metrics import SILENCE, mel_distance, rms, short_time_intelligibility
from codec.evaluation.naturalness import can_rate_naturalness, plcmos
from codec.io.outputs import atomic_output
from codec.registry import load_model

SI_SDR_FLOOR = -20.0
"""In dB. It is minus infinity where all audio is lost, and would dominate the mean over files."""
FIGURES: dict[str, Callable[[np.ndarray, np.ndarray, int], float | None]] = {
    "pesq_wb": pesq_wb,
    "visqol_speech": visqol_speech,
    "stoi": short_time_intelligibility,
    "mel": mel_distance,
}
"""Functions of decoded audio, original audio and sample rate, by the name of the metric."""


class Settings(NamedTuple):
    """What is the same for all files.

    Attributes:
        model: name of a packaged model, or folder of a model.
        seconds: duration used of each recording, from its start.
        noises: recordings of noise; pink noise is used if there are none.
        quick: whether to run only the mildest and the most severe conditions.
        names: experiments to run, keys of `EXPERIMENTS`.
    """

    model: str
    seconds: float
    noises: tuple[Recording, ...]
    quick: bool
    names: tuple[str, ...] = tuple(EXPERIMENTS)


def run(
    chosen: Sequence[Recording], settings: Settings, jobs: int, folder: Path | None = None
) -> list[dict[str, Any]]:
    """Rows of all recordings, in their order; those in ``folder`` are not measured again."""
    work = partial(finished_or_run, settings=settings, folder=folder)
    found = tqdm(run_in_processes(work, chosen, jobs), total=len(chosen), unit="file", disable=None)
    return [row for _, rows in sorted(found, key=lambda result: result[0]) for row in rows]


def finished_or_run(
    recording: Recording, settings: Settings, folder: Path | None
) -> list[dict[str, Any]]:
    """Rows of a recording, from a run before that was interrupted if it had the same settings.

    Args:
        recording: the recording.
        settings: what is measured.
        folder: where rows are kept; None to keep none.
    """
    if folder is None:
        return experiments_on(recording, settings)
    fingerprint = load_model(settings.model).spec.fingerprint.hex()
    key = [recording.digest(), fingerprint, repr(settings)]
    path = folder / f"{recording.name.replace('/', '_')}.json"
    if path.is_file():
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            rows: list[dict[str, Any]] = kept["rows"]
            return rows
    rows = experiments_on(recording, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, force=True) as file:
        file.write(json.dumps({"key": key, "rows": rows}).encode())
    return rows


def experiments_on(recording: Recording, settings: Settings) -> list[dict[str, Any]]:
    """All experiments with one recording, a row per trial.

    Raises:
        CodecError: the recording starts with silence.
    """
    ours, opus = Aecodec(settings.model), Opus()
    seed = zlib.crc32(recording.name.encode())
    audio = load(recording, settings.seconds, ours.sample_rate)
    if rms(audio) < SILENCE:
        raise CodecError(
            f"{recording.name} starts with {settings.seconds:g} s of silence: leave it out"
        )
    noise = make_noise(settings.noises, len(audio), ours.sample_rate, seed)
    subject = Subject(audio, noise, ours, opus, seed, settings.quick, {})
    rows = []
    for name in settings.names:
        # By sound and reference: where codecs give the same sound, it is measured once.
        last: dict[tuple[int, int], tuple[Trial, dict[str, float]]] = {}
        for trial in EXPERIMENTS[name].run(subject):
            if any(other.condition != trial.condition for other, _ in last.values()):
                last = {}
            key = id(trial.decoded), id(trial.reference)
            if key not in last:
                figures = quality(trial, ours.sample_rate, EXPERIMENTS[name].shown)
                last[key] = trial, figures
            rows.append(
                {
                    "file": recording.name,
                    "experiment": name,
                    "series": trial.series,
                    "condition": trial.condition,
                    "facts": trial.facts,
                    "metrics": last[key][1],
                }
            )
    return rows


def quality(trial: Trial, sample_rate: int, shown: Sequence[str] = SHOWN) -> dict[str, float]:
    """Figures of a trial, those that are shown; none if nothing was decoded.

    The level is matched, as in `measure`.
    """
    if trial.decoded is None or rms(trial.reference) < SILENCE:
        return {}
    gain = level_difference(trial.decoded, trial.reference)
    decoded = trial.decoded * np.float32(10 ** (gain / 20))
    figures: dict[str, float | None] = {}
    for name in shown:
        if name in FIGURES:
            figures[name] = FIGURES[name](decoded, trial.reference, sample_rate)
    if "si_sdr" in shown:
        ratio = si_sdr(decoded, trial.reference)
        figures["si_sdr"] = None if ratio is None else max(ratio, SI_SDR_FLOOR)
    if "plcmos" in shown and can_rate_naturalness():
        figures["plcmos"] = plcmos(decoded, sample_rate)
    return {name: value for name, value in figures.items() if value is not None}


def load(recording: Recording, seconds: float, sample_rate: int) -> np.ndarray:
    """The beginning of a recording: ``[N]`` float32 at ``sample_rate``."""
    return resample(recording.load(seconds), recordings.SAMPLE_RATE, sample_rate)


def make_noise(
    noises: Sequence[Recording], num_samples: int, sample_rate: int, seed: int
) -> np.ndarray:
    """Noise from a random recording, repeated to length, or pink noise if there are none.

    Args:
        noises: recordings of noise; silent ones are not used.
        num_samples: number of samples.
        sample_rate: sample rate in Hz.
        seed: seed of the choice and of pink noise.

    Returns:
        ``[num_samples]`` float32.
    """
    rng = np.random.default_rng(seed)
    for number in rng.permutation(len(noises)):
        noise = np.resize(load(noises[number], num_samples / sample_rate, sample_rate), num_samples)
        if rms(noise) > SILENCE:
            return noise
    # Pink: power proportional to 1 / frequency, above 20 Hz.
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / sample_rate), 20)
    pink = np.fft.irfft(spectrum / np.sqrt(frequencies), num_samples)
    return np.asarray(0.1 * pink / np.sqrt(np.square(pink).mean()), np.float32)
