"""Metrics that hear only the decoded audio, without the original: DNSMOS and PLCMOS.

A codec can be tuned until metrics that compare with the original are high and the result still
sounds rough. These two are neural networks that were trained on the ratings of listeners. They come
with their weights in the package ``speechmos`` (``pip install "aecodec[evaluate]"``). They do not
notice if a word or the speaker has changed, so show them next to metrics that compare.

They run in onnxruntime, which from version 1.29 on reports its use to its makers, and whose threads
for that let a forked process hang at its end. It does not if the environment says so before it is
imported; the value of a user who has decided otherwise stays.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from codec.arrays import Samples
from codec.errors import optional_packages
from codec.evaluation.metrics import SILENCE, rms

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

MOS_RATE = 16_000
"""Sampling rate of both networks, in Hz."""

DNSMOS_SAMPLES = 144_160
"""Samples that DNSMOS rates at a time: 9.01 s."""

MIN_SECONDS = 0.5


def can_rate_naturalness() -> bool:
    """Whether the packages that `dnsmos` and `plcmos` need are installed."""
    needed = ("speechmos", "onnxruntime", "librosa", "requests")
    return all(importlib.util.find_spec(name) is not None for name in needed)


def rate_naturalness(audio: Samples, sample_rate: int) -> dict[str, float | None]:
    """`dnsmos` and `plcmos` by name; None where undefined or where packages are missing."""
    if not can_rate_naturalness():
        return {"dnsmos": None, "plcmos": None}
    return {"dnsmos": dnsmos(audio, sample_rate), "plcmos": plcmos(audio, sample_rate)}


def dnsmos(audio: Samples, sample_rate: int) -> float | None:
    """DNSMOS P.835, overall quality (Reddy et al., arXiv:2110.01763), of speech ``[N]``.

    The mean over pieces of 9 s; shorter audio is repeated to that length. The sampling rate is in
    Hz.

    Limits: trained on noisy speech and the output of noise suppressors. It penalises background
    noise, of the original too, and depends on the level of the audio.

    Returns:
        A predicted mean opinion score, 1 to 5, higher is better; None for silence and for less
        than half a second.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.05, 48_000).astype(np.float32)
        >>> score = dnsmos(noise, 24_000)
        >>> score is not None and score < 2
        True
    """
    heard = _at_mos_rate(audio, sample_rate)
    if heard is None:
        return None
    pieces = np.resize(heard, (max(1, len(heard) // DNSMOS_SAMPLES), DNSMOS_SAMPLES))
    return float(np.mean([_dnsmos()(piece, MOS_RATE, False)["ovrl_mos"] for piece in pieces]))


def plcmos(audio: Samples, sample_rate: int) -> float | None:
    """PLCMOS v2 (Diener et al., arXiv:2305.15127) of speech ``[N]``, at a sampling rate in Hz.

    Limits: trained on speech with lost packets that were concealed. It hears roughness,
    interruptions and metallic sounds; steady noise does not disturb it.

    Returns:
        A predicted mean opinion score, 1 to 5, higher is better; None for silence and for less
        than half a second.

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.05, 48_000).astype(np.float32)
        >>> plcmos(noise, 24_000) == plcmos(noise, 24_000)
        True
        >>> plcmos(np.zeros(48_000, np.float32), 24_000) is None
        True
    """
    heard = _at_mos_rate(audio, sample_rate)
    if heard is None:
        return None
    # The score is a mean over raters, who are drawn from NumPy's global generator.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        return float(_plcmos()(heard)["plcmos"])
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _at_mos_rate(audio: Samples, sample_rate: int) -> Samples | None:
    """The audio as both networks take it: 16 kHz, in -1..1; None if there is too little."""
    if rms(audio) < SILENCE or len(audio) < MIN_SECONDS * sample_rate:
        return None
    heard: Samples = soxr.resample(audio, sample_rate, MOS_RATE)
    return heard.clip(-1, 1)


@cache
def _dnsmos() -> Any:
    with optional_packages("DNSMOS", "evaluate"):
        import speechmos
        from speechmos.dnsmos import DNSMOS

    weights = Path(speechmos.__path__[0]) / "dnsmos_models"
    files = [str(weights / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    network = DNSMOS(*files)
    network.onnx_sess, network.p808_onnx_sess = map(_on_one_thread, files)
    return network


@cache
def _plcmos() -> Any:
    with optional_packages("PLCMOS", "evaluate"):
        from speechmos.plcmos import PLCMOS

    network = PLCMOS()
    network.session = _on_one_thread(network.model_path)
    return network


def _on_one_thread(graph: str) -> Any:
    """A session on one thread: recordings are measured in several processes at a time."""
    import onnxruntime  # speechmos has imported it already

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
