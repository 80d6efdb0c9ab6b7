"""Validation: the objective and quality measures of a model on fixed clips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codec.arrays import Histogram
from codec.evaluation.evaluate import typical_codebook_counts
from codec.evaluation.metrics import (
    bitrate_efficiency,
    count_codes,
    mel_distance,
    perplexity,
    short_time_intelligibility,
    si_sdr,
)
from codec.network.model import Codec
from train.objective.objective import Objective

Report = dict[str, float]


@torch.inference_mode()
def reconstruct(codec: Codec, audio: Tensor) -> Tensor:
    """Audio ``[1, 1, N]`` through the whole codec, with any bottleneck."""
    if codec.config.has_codes:
        return codec.decode(codec.encode(audio), audio.shape[-1])
    return codec.synthesize(codec.embed(audio), audio.shape[-1])


@torch.inference_mode()
def validate(codec: Codec, clips: list[tuple[str, Tensor]], objective: Objective) -> Report:
    """Measure a model on clips ``[1, 1, N]``.

    Args:
        codec: the model, in evaluation mode.
        clips: names and audio.
        objective: the losses that the model is trained with.

    Returns:
        Means over the clips of ``si_sdr_K``, ``mel_K`` and ``stoi_K`` with K codebooks (STOI where
        it is defined); at the top bitrate the same as ``validation_si_sdr`` and so on, and
        ``validation_loss``, the objective of whole clips with all windows; of every codebook
        ``used_k`` (share of its entries), ``perplexity_k``, and ``bits_k``, the entropy of its
        codes: bits per code if only their frequencies were known, where a context model needs
        fewer; ``efficiency``, the information in the codes as a share of their bits; ``frames``,
        the number of frames. ``mel`` is `mel_distance`.
    """
    config = codec.config
    counts = typical_codebook_counts(config)
    figures: dict[str, list[float]] = {}
    histogram = np.zeros((config.num_codebooks, config.codebook_size), np.int64)
    for _, audio in clips:
        num_samples = audio.shape[-1]
        if counts:
            codes = codec.encode(audio)
            histogram += count_codes(codes.cpu(), config.codebook_size)
            decoded = {n: codec.decode(codes[:, :n], num_samples) for n in counts}
        else:
            decoded = {0: reconstruct(codec, audio)}
        for count, sound in decoded.items():
            measured = _measure(sound, audio, config.sample_rate)
            if count:
                _append(figures, {f"{name}_{count}": value for name, value in measured.items()})
        measured["loss"] = float(objective.total(objective(sound, audio)))
        _append(figures, {f"validation_{name}": value for name, value in measured.items()})
    report = {name: float(np.mean(values)) for name, values in figures.items()}
    return report | (_use_of_codes(histogram) if counts else {})


def _append(figures: dict[str, list[float]], values: Report) -> None:
    for name, value in values.items():
        figures.setdefault(name, []).append(value)


def _measure(decoded: Tensor, original: Tensor, sample_rate: int) -> Report:
    arrays = (decoded.flatten().cpu().numpy(), original.flatten().cpu().numpy())
    figures = {"si_sdr": si_sdr(*arrays), "mel": mel_distance(*arrays, sample_rate)}
    stoi = short_time_intelligibility(*arrays, sample_rate)
    return figures if stoi is None else figures | {"stoi": stoi}


def _use_of_codes(histogram: Histogram) -> Report:
    """Figures of counts of codes ``[K, codebook_size]``."""
    effective, used = perplexity(histogram), (histogram > 0).mean(1)
    report: Report = {}
    for k in range(len(histogram)):
        report |= {
            f"used_{k + 1}": float(used[k]),
            f"perplexity_{k + 1}": float(effective[k]),
            f"bits_{k + 1}": float(np.log2(effective[k])),
        }
    return report | {
        "efficiency": bitrate_efficiency(histogram),
        "frames": float(histogram[0].sum()),
    }
