"""Random crops from a folder of audio.

The folder is decoded once, to 16-bit samples in memory (an hour at 24 kHz takes 173 MB), so that
a crop costs a copy whatever the file format.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from codec.audio import SUFFIXES
from codec.errors import AudioError
from train.config import DataConfig
from train.losses import MEL_WINDOWS

logger = logging.getLogger(__name__)

MIN_CLIP_SAMPLES = max(MEL_WINDOWS)


def audio_files(folder: Path) -> list[Path]:
    """Every file under ``folder`` with a suffix of audio, sorted.

    Raises:
        AudioError: there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise AudioError(f"no audio files under {folder}: give a folder of wav, flac, mp3 or ogg")
    return found


def load_mono(path: Path, sample_rate: int) -> np.ndarray:
    """A whole file, mixed to mono and resampled: float32 ``[N]``.

    A file that cannot be read is named in a warning and comes back empty.
    """
    try:
        with path.open("rb") as file:
            samples, rate = soundfile.read(
                file.fileno(), dtype="float32", always_2d=True, closefd=False
            )
    except (OSError, soundfile.SoundFileError) as error:
        logger.warning("skipped %s: %s", path, error)
        return np.zeros(0, np.float32)
    mono: np.ndarray = np.nan_to_num(samples.mean(axis=1)).clip(-1, 1)
    if rate != sample_rate and len(mono):
        mono = soxr.resample(mono, rate, sample_rate).clip(-1, 1)  # its filter overshoots
    return mono


class Corpus:
    """All audio of a folder, end to end in memory.

    Files that cannot be read are named in a warning and skipped.

    Args:
        folder: searched through all its subfolders.
        sample_rate: what everything is resampled to.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        def load(path: Path) -> np.ndarray:
            scaled: np.ndarray = load_mono(path, sample_rate) * 32767
            return scaled.round().astype(np.int16)

        files = audio_files(folder)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            loading = tqdm(
                pool.map(load, files), "reading audio", len(files), disable=None, leave=False
            )
            self.samples = np.concatenate(list(loading))
        self.sample_rate = sample_rate
        if not len(self.samples):
            raise AudioError(f"none of the {len(files)} files under {folder} could be read")

    @property
    def hours(self) -> float:
        return len(self.samples) / self.sample_rate / 3600

    def batch(self, config: DataConfig, crop: int, rng: np.random.Generator) -> Tensor:
        """Random crops ``[B, 1, crop]``, with random gain and polarity.

        Every second of audio is as likely as any other; a crop may run from one file into the
        next, as a cut in a programme does.
        """
        if len(self.samples) <= crop:
            raise AudioError(
                f"the training audio lasts {len(self.samples)} samples, a crop {crop}: "
                "give more audio or set data.crop_frames lower"
            )
        starts = rng.integers(0, len(self.samples) - crop, config.batch_size)
        audio = np.stack([self.samples[start : start + crop] for start in starts]) / 32767
        low, high = config.gain_db
        gain = 10 ** (rng.uniform(low, high, (len(audio), 1)) / 20)
        polarity = rng.choice([-1, 1], (len(audio), 1))
        audio = (audio * gain * polarity).clip(-1, 1).astype(np.float32)
        return torch.from_numpy(audio)[:, None]


def validation_clips(
    folder: Path, sample_rate: int, seconds: float, limit: int
) -> Iterator[tuple[str, Tensor]]:
    """Names and openings ``[1, 1, N]`` of at most ``limit`` files, evenly spread.

    Files that cannot be read or are shorter than a spectral window are left out.
    """
    files = audio_files(folder)
    for path in files[:: max(1, -(-len(files) // limit))]:
        audio = load_mono(path, sample_rate)[: round(seconds * sample_rate)]
        if len(audio) > MIN_CLIP_SAMPLES:
            yield path.name, torch.from_numpy(audio)[None, None]
