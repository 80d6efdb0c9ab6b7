"""The sounds that are coded: a folder of recordings, or what a fresh clone has at hand.

The class of a sound is what its file's name says before the first underscore.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.contenders.codecs import resample
from codec.errors import CodecError
from codec.io.audio import SUFFIXES

SAMPLE_RATE = 24_000
"""Of every comparison, for all codecs alike: mono at this rate, resampled by soxr's HQ."""

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "speech.flac"


def kind_of(path: Path) -> str:
    """Class of a recording."""
    return path.stem.split("_")[0]


def find(folder: Path, every: int = 1) -> list[Path]:
    """Recordings in a folder, by name; every n-th of each class.

    Raises:
        CodecError: there are none.
    """
    if not folder.is_dir():
        raise CodecError(f"{folder} is not a folder: give --data a folder of recordings")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CodecError(f"{folder} holds no audio files: give --data another folder")
    kinds = sorted({kind_of(path) for path in paths})
    return [path for kind in kinds for path in [p for p in paths if kind_of(p) == kind][::every]]


def load(path: Path, seconds: float | None = None) -> np.ndarray:
    """The beginning of a recording, mixed to mono: ``[N]`` float32 at `SAMPLE_RATE`."""
    with soundfile.SoundFile(path) as file:
        frames = -1 if seconds is None else round(seconds * file.samplerate)
        samples = file.read(frames, dtype="float32", always_2d=True)
        return resample(samples.mean(axis=1), file.samplerate, SAMPLE_RATE)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_examples(folder: Path, seconds: float = 4.0) -> list[Path]:
    """Write three short recordings, one of each class, that need no download and no licence.

    The spoken example of this repository; plucked strings (Karplus and Strong, 1983), three chords
    of them; and rain: noise with drops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {
        "speech_example": load(EXAMPLE, seconds),
        "music_plucked": plucked_chords(seconds),
        "sound_rain": rain(seconds),
    }
    paths = []
    for name, samples in sounds.items():
        paths.append(folder / f"{name}.flac")
        soundfile.write(paths[-1], samples, SAMPLE_RATE, subtype="PCM_16")
    return paths


def plucked_chords(seconds: float, seed: int = 0) -> np.ndarray:
    """A chord of plucked strings every second: ``[N]`` float32."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * SAMPLE_RATE)
    audio = np.zeros(num_samples)
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6))
    for number, start in enumerate(range(0, num_samples, SAMPLE_RATE)):
        for pitch in chords[number % len(chords)]:
            period = round(SAMPLE_RATE / pitch)
            string = rng.uniform(-1, 1, period)
            turns = []
            for _ in range(-(-(num_samples - start) // period)):
                turns.append(string)
                string = 0.996 * (string + np.roll(string, 1)) / 2
            audio[start:] += np.concatenate(turns)[: num_samples - start]
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def rain(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise, and drops that ring for some milliseconds: ``[N]`` float32."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * SAMPLE_RATE)
    audio = 0.02 * rng.standard_normal(num_samples)
    time = np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE
    for start in rng.integers(0, num_samples - len(time), round(40 * seconds)):
        pitch, decay = rng.uniform(800, 7000), rng.uniform(100, 600)
        drop = np.sin(2 * np.pi * pitch * time) * np.exp(-decay * time)
        audio[start : start + len(time)] += rng.uniform(0.02, 0.3) * drop
    return audio.clip(-1, 1).astype(np.float32)
