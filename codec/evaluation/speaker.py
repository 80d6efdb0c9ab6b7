"""Similarity of speakers, by the voice encoder of the package ``resemblyzer``.

Only the weights of that package are used, because its other parts need a voice activity detector
that does not install everywhere: ``pip install --no-deps resemblyzer``.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from codec.arrays import Samples
from codec.errors import MissingPackageError, optional_packages
from codec.evaluation.metrics import SILENCE, rms

if TYPE_CHECKING:
    from torch import nn

VOICE_RATE = 16_000
WINDOW, HOP, MEL_BANDS = 400, 160, 40
VOICE_FRAMES = 160
"""Frames that are embedded at a time: 1.6 s."""
VOICE_STEP = 77
VOICE_LEVEL = 10 ** (-30 / 20)
"""RMS that the encoder was trained at."""
HIDDEN = 256


def can_compare_speakers() -> bool:
    """Whether `speaker_similarity` has its weights."""
    return _weights_file() is not None


def speaker_similarity(decoded: Samples, original: Samples, sample_rate: int) -> float | None:
    """Cosine of the angle between the voice embeddings of two recordings.

    The encoder is that of Wan et al. (arXiv:1710.10467): an LSTM on mel spectra, trained to tell
    speakers apart; embeddings of parts of 1.6 s are averaged.

    Limits: recordings of one speaker. Two recordings of the same voice reach about 0.9, different
    voices 0.5 to 0.7; noise and bandwidth matter too.

    Both are samples ``[N]``, at a sampling rate in Hz.

    Returns:
        At most 1, higher is better; None for silence or for less than 1.6 s.

    Raises:
        MissingPackageError: ``resemblyzer`` is not installed.
    """
    if min(len(decoded), len(original)) < VOICE_FRAMES * HOP / VOICE_RATE * sample_rate:
        return None
    if min(rms(decoded), rms(original)) < SILENCE:
        return None
    a, b = (embed_voice(audio, sample_rate) for audio in (decoded, original))
    return float(a @ b)


def embed_voice(audio: Samples, sample_rate: int) -> Samples:
    """Embedding of a voice ``[256]`` of unit length, from samples ``[N]`` of at least 1.6 s."""
    with optional_packages("speaker similarity", "evaluate"):
        import librosa
        import torch

    audio = soxr.resample(audio, sample_rate, VOICE_RATE)
    audio = audio * np.float32(VOICE_LEVEL / rms(audio))
    mel = librosa.feature.melspectrogram(
        y=audio, sr=VOICE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MEL_BANDS
    )
    starts = range(0, mel.shape[1] - VOICE_FRAMES + 1, VOICE_STEP)
    parts = np.stack([mel.T[start : start + VOICE_FRAMES] for start in starts])
    encoder = _encoder()
    with torch.no_grad():
        _, (hidden, _) = encoder["lstm"](torch.from_numpy(parts))
        voices = encoder["linear"](hidden[-1]).relu()  # of 1.6 s each, [n, 256]
        embedding = torch.nn.functional.normalize(voices, dim=-1).mean(0)
    found: Samples = (embedding / embedding.norm()).numpy()
    return found


@cache
def _encoder() -> nn.ModuleDict:
    """The layers of the encoder of voices, with their weights."""
    import torch
    from torch import nn

    path = _weights_file()
    if path is None:
        raise MissingPackageError(
            "speaker similarity needs the weights of resemblyzer, which is not installed: "
            "pip install --no-deps resemblyzer"
        )
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm = nn.LSTM(MEL_BANDS, HIDDEN, num_layers=3, batch_first=True)
    encoder = nn.ModuleDict({"lstm": lstm, "linear": nn.Linear(HIDDEN, HIDDEN)})
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.eval()


def _weights_file() -> Path | None:
    """The weights in the installed package, which is not imported."""
    package = importlib.util.find_spec("resemblyzer")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "pretrained.pt"
        if path.is_file():
            return path
    return None
