"""The journal of a run: ``log.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path

import librosa
import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from codec.io.outputs import write_atomically
from codec.network.model import Codec
from train.report.validation import Report, reconstruct

CLIPS_TO_SHOW = 4
GROUPS = ("validation", "si_sdr", "mel", "stoi", "used", "perplexity", "bits", "share")


class Journal:
    """Writes reports into a folder, in the first process only.

    Args:
        folder: an existing folder.
        step: steps done; later entries, of an interrupted run, are removed.

    Attributes:
        history: the reports so far, newest last.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._log = folder / "log.jsonl"
        self.history = cut_log(self._log, step)
        # Steps after the last checkpoint of an interrupted run are repeated and shown again.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def add(self, report: Report) -> None:
        """Log a report, which includes its ``step``."""
        self.history.append(report)
        finite = {k: round(v, 6) if math.isfinite(v) else None for k, v in report.items()}
        with self._log.open("a") as log:
            log.write(json.dumps(finite) + "\n")
        for name, value in report.items():
            group = next((each for each in GROUPS if name.startswith(f"{each}_")), "losses")
            self._board.add_scalar(f"{group}/{name}", value, int(report["step"]))

    def show(self, codec: Codec, clips: list[tuple[str, Tensor]], step: int) -> None:
        """Add sound and spectrograms of a few clips, the first time with the originals."""
        for name, audio in clips[:: max(1, len(clips) // CLIPS_TO_SHOW)][:CLIPS_TO_SHOW]:
            sounds = {"decoded": reconstruct(codec, audio)}
            if len(self.history) == 1:
                sounds["original"] = audio
            for label, sound in sounds.items():
                samples = sound.flatten().cpu().clamp(-1, 1)
                tag = f"{label}/{name}".encode(errors="replace").decode()
                self._board.add_audio(tag, samples, step, codec.config.sample_rate)
                picture = spectrogram(samples.numpy())
                self._board.add_image(tag, picture, step, dataformats="HW")

    def close(self) -> None:
        """Write everything to disk."""
        self._board.close()


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Log magnitudes of 80 dB as a grey image ``[F, T]`` uint8, high frequencies on top."""
    magnitude = np.abs(librosa.stft(samples, n_fft=512, hop_length=128))
    decibels = librosa.amplitude_to_db(magnitude, ref=100.0, amin=1e-6).clip(-80, 0)
    picture: np.ndarray = (255 * (decibels[::-1] / 80 + 1)).astype(np.uint8)
    return picture


def cut_log(path: Path, step: int) -> list[Report]:
    """The reports up to ``step``; removes those after the checkpoint of an interrupted run."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:  # the last line, cut short when the run was killed
            continue
    entries = [entry for entry in entries if entry["step"] <= step]
    write_atomically(path, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
    return [{k: math.nan if v is None else v for k, v in entry.items()} for entry in entries]
