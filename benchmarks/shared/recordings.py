"""The recordings that are coded: a folder of them, or examples that every clone has.

`find` uses the index of a folder that ``aecodec evaluate`` and training use, so subfolders and
shards are included and the class of sound of a recording is the same everywhere: the first folder
that it is in, or else its name up to the first underscore, or else the name of the whole folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from benchmarks.shared.resampling import resample
from codec.corpus.index import scan
from codec.errors import AudioError
from codec.io.views import FileView

SAMPLE_RATE = 24_000
"""Sample rate of every comparison in Hz, for all codecs: mono, resampled with soxr's HQ setting."""


class Recording(NamedTuple):
    """A recording.

    Attributes:
        path: audio file, or the shard that contains it.
        name: name for lists, relative to the folder that was searched.
        sound_class: class of sound, such as "speech".
        offset: where the audio file starts in the shard, in bytes; None for a file of its own.
        size: size of the audio file in the shard, in bytes.
    """

    path: Path
    name: str
    sound_class: str
    offset: int | None = None
    size: int = 0

    def load(self, seconds: float | None = None) -> np.ndarray:
        """The beginning of the recording, mixed to mono: ``[N]`` float32 at `SAMPLE_RATE`.

        Args:
            seconds: maximum duration; the whole recording if None.

        Raises:
            AudioError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                member = file if self.offset is None else FileView(file, [(self.offset, self.size)])
                with soundfile.SoundFile(member) as source:
                    frames = -1 if seconds is None else round(seconds * source.samplerate)
                    samples = source.read(frames, dtype="float32", always_2d=True)
                    rate = source.samplerate
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(f"{self.name} cannot be read: {error}") from error
        return resample(samples.mean(axis=1), rate, SAMPLE_RATE)

    def digest(self) -> str:
        """SHA-256 of the audio file, in hexadecimal digits."""
        if self.offset is None:
            return file_digest(self.path)
        with self.path.open("rb") as shard:
            shard.seek(self.offset)
            return hashlib.sha256(shard.read(self.size)).hexdigest()


EXAMPLE = Recording(
    Path(__file__).resolve().parents[2] / "examples" / "speech.flac", "speech.flac", "speech"
)
"""The bundled recording of speech."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def class_order(sound_class: str) -> tuple[bool, str]:
    """Sorting key of classes of sound: speech first, the others by name.

    Example:
        >>> sorted(["music", "sound", "speech"], key=class_order)
        ['speech', 'music', 'sound']
    """
    return sound_class != "speech", sound_class


def find(folder: Path, every: int = 1) -> list[Recording]:
    """Recordings in a folder, its subfolders and shards.

    Args:
        folder: folder to search, see `codec.corpus.index.scan`.
        every: take only every n-th recording of each class.

    Returns:
        Recordings by class of sound, then by name.

    Raises:
        AudioError: ``folder`` is not a folder, or contains no usable audio.
    """
    members: dict[str, list[Recording]] = {}
    for clip in scan(folder).clips:
        recording = Recording(
            folder / clip.path, clip.name, clip.sound_class, clip.offset, clip.size
        )
        members.setdefault(recording.sound_class, []).append(recording)
    classes = sorted(members, key=class_order)
    return [recording for name in classes for recording in members[name][::every]]


def speech(folder: Path, every: int = 1) -> list[Recording]:
    """Recordings of speech among those of `find`.

    Raises:
        AudioError: see `find`; or there is no speech.
    """
    found = by_class(find(folder, every))
    if "speech" not in found:
        raise AudioError(
            f"{folder} has no recordings of speech: put them in a folder speech/, or name them "
            "speech_*"
        )
    return found["speech"]


def by_class(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Recordings of each class of sound, in the given order."""
    members: dict[str, list[Recording]] = {}
    for recording in recordings:
        members.setdefault(recording.sound_class, []).append(recording)
    return members


def make_examples(folder: Path, seconds: float = 4.0) -> list[Recording]:
    """Write three short recordings, one of each class, that need no download and no licence.

    They are the bundled recording of speech; three chords of plucked strings (Karplus and Strong,
    1983); and rain: noise with drops.

    Args:
        folder: where to write them; created if missing.
        seconds: duration of each, in seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sounds = {
        "speech_example": EXAMPLE.load(seconds),
        "music_plucked": plucked_chords(seconds),
        "sound_rain": rain(seconds),
    }
    made = []
    for name, samples in sounds.items():
        path = folder / f"{name}.flac"
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
        made.append(Recording(path, path.name, name.partition("_")[0]))
    return made


def plucked_chords(seconds: float, seed: int = 0) -> np.ndarray:
    """A chord of plucked strings every second: ``[N]`` float32 at `SAMPLE_RATE`."""
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
    return np.asarray(0.5 * audio / np.abs(audio).max(), np.float32)


def rain(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise, and drops that ring for some milliseconds: ``[N]`` float32 at `SAMPLE_RATE`."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * SAMPLE_RATE)
    audio = 0.02 * rng.standard_normal(num_samples)
    time = np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE
    for start in rng.integers(0, num_samples - len(time), round(40 * seconds)):
        pitch, decay = rng.uniform(800, 7000), rng.uniform(100, 600)
        drop = np.sin(2 * np.pi * pitch * time) * np.exp(-decay * time)
        audio[start : start + len(time)] += rng.uniform(0.02, 0.3) * drop
    return audio.clip(-1, 1).astype(np.float32)
