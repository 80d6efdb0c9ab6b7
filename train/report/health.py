"""Validation, and a health report that says in plain words what is wrong and what to change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codec.bitrate import format_bitrate
from codec.network.model import Codec
from codec.quality.evaluate import typical_codebook_counts as rungs
from codec.quality.metrics import (
    bitrate_efficiency,
    code_histogram,
    mel_distance,
    perplexity,
    short_time_intelligibility,
    si_sdr,
)
from train.objective.losses import SpectralLosses, waveform_loss
from train.recipe.sections import METRICS, TrainConfig

LOW_USE = 0.5
FRAMES_PER_ENTRY = 3
CLEAR_SHARE = 0.9
TREND = 3
"""Validations over which a trend is told."""

Report = dict[str, float]


@torch.inference_mode()
def reconstruct(codec: Codec, audio: Tensor) -> Tensor:
    """Audio ``[1, 1, N]`` through the whole codec, with any bottleneck."""
    if codec.config.has_codes:
        return codec.decode(codec.encode(audio), audio.shape[-1])
    return codec.synthesize(codec.embed(audio), audio.shape[-1])


@torch.inference_mode()
def validate(
    codec: Codec, clips: list[tuple[str, Tensor]], spectral: SpectralLosses, recipe: TrainConfig
) -> Report:
    """Measure a model on clips ``[1, 1, N]``.

    Returns:
        Means of ``si_sdr_K``, ``mel_K`` and ``stoi_K`` with K codebooks (STOI where it can be
        told); at the top bitrate the same as ``validation_si_sdr`` and so on, and
        ``validation_loss``; of every codebook ``used_k`` (share of its entries) and
        ``perplexity_k``; ``efficiency``, the information in the codes as a share of their bits;
        ``frames``, how many there were. ``mel`` is `mel_distance`.
    """
    config = codec.config
    counts = rungs(config)
    figures: dict[str, list[float]] = {}
    histogram = torch.zeros(config.num_codebooks, config.codebook_size)
    for _, audio in clips:
        num_samples = audio.shape[-1]
        if counts:
            codes = codec.encode(audio)
            histogram += code_histogram(codes, config.codebook_size).cpu()
            decoded = {n: codec.decode(codes[:, :n], num_samples) for n in counts}
        else:
            decoded = {0: reconstruct(codec, audio)}
        for count, sound in decoded.items():
            measured = _measure(sound, audio, recipe)
            if count:
                for name, value in measured.items():
                    figures.setdefault(f"{name}_{count}", []).append(value)
            if count == max(decoded):
                measured["loss"] = _loss(sound, audio, spectral, recipe)
                for name, value in measured.items():
                    figures.setdefault(f"validation_{name}", []).append(value)
    report = {name: float(np.mean(values)) for name, values in figures.items()}
    if counts:
        effective = perplexity(histogram)
        used = (histogram > 0).double().mean(1)
        for k in range(config.num_codebooks):
            report |= {f"used_{k + 1}": float(used[k]), f"perplexity_{k + 1}": float(effective[k])}
        report["efficiency"] = bitrate_efficiency(histogram)
        report["frames"] = float(histogram[0].sum())
    return report


def _measure(decoded: Tensor, original: Tensor, recipe: TrainConfig) -> Report:
    rate = recipe.model.sample_rate
    arrays = (decoded.flatten().cpu().numpy(), original.flatten().cpu().numpy())
    figures = {"si_sdr": si_sdr(*arrays), "mel": mel_distance(*arrays, rate)}
    stoi = short_time_intelligibility(*arrays, rate)
    return figures if stoi is None else figures | {"stoi": stoi}


def _loss(
    decoded: Tensor, original: Tensor, spectral: SpectralLosses, recipe: TrainConfig
) -> float:
    """The reconstruction losses, over all windows."""
    terms = spectral(decoded, original) | {"waveform": waveform_loss(decoded, original)}
    return float(sum(getattr(recipe.loss, name) * term for name, term in terms.items()))


def advice(history: list[Report], recipe: TrainConfig, progress: float) -> list[str]:
    """What the reports so far, the newest last, tell to change; nothing if all is well."""
    now, found = history[-1], []
    # Few frames cannot show all entries of a large codebook.
    if progress > 0.1 and now.get("frames", 0.0) >= FRAMES_PER_ENTRY * recipe.model.codebook_size:
        books = range(1, recipe.model.num_codebooks + 1)
        if low := [k for k in books if now[f"used_{k}"] < LOW_USE]:
            uses = ", ".join(f"codebook {k} uses {100 * now[f'used_{k}']:.0f} %" for k in low)
            found.append(
                f"{uses} of its entries: lower quantizer.restart_every, raise "
                "quantizer.restart_until, or take a smaller model.codebook_size"
            )
    counts = rungs(recipe.model)
    if progress > 0.25 and now["validation_si_sdr"] < 0:
        found.append(
            f"SI-SDR is {now['validation_si_sdr']:.1f} dB: phase is not learned; raise "
            "loss.waveform or loss.complex, or train longer"
        )
    if len(history) > TREND:
        before = history[-1 - TREND]
        lost = before["validation_si_sdr"] - now["validation_si_sdr"]
        if lost > 0.3 and now["validation_mel"] < before["validation_mel"]:
            found.append(
                "SI-SDR falls while mel improves: raise loss.waveform or loss.complex, "
                "or lower loss.mel"
            )
        if now["validation_loss"] > 1.02 * before["validation_loss"] and progress > 0.3:
            found.append(
                f"the validation loss rose from {before['validation_loss']:.3f} to "
                f"{now['validation_loss']:.3f}: lower optimizer.lr, or give more data or "
                "augmentation"
            )
    if len(counts) > 1 and progress > 0.5:
        half, full = now[f"mel_{counts[-2]}"], now[f"mel_{counts[-1]}"]
        if full > 0.99 * half:
            found.append(
                f"the upper {counts[-1] - counts[-2]} codebooks improve mel by "
                f"{100 * (1 - full / half):.1f} % only: lower quantizer.dropout, or widen "
                "model.decoder_channels"
            )
    for name, share in now.items():
        if name.startswith("share_") and share > CLEAR_SHARE:
            loss = name.removeprefix("share_")
            found.append(
                f"{100 * share:.0f} % of the gradient comes from {loss}: lower its weight, or set "
                "loss.balancer=true"
            )
    return found


def summary(report: Report, recipe: TrainConfig) -> str:
    """Some lines for people: losses, use of the codebooks, quality at each bitrate."""
    head = [f"step {report['step']:.0f}", f"loss {report['loss']:.3f}"]
    head.append(f"validation {report['validation_loss']:.3f}")
    if used := [value for name, value in report.items() if name.startswith("used_")]:
        head.append(f"codebooks {100 * min(used):.0f} to {100 * max(used):.0f} % used")
        effective = [v for name, v in report.items() if name.startswith("perplexity_")]
        head.append(f"perplexity {min(effective):.0f} to {max(effective):.0f}")
        head.append(f"efficiency {100 * report['efficiency']:.0f} %")
    lines = [", ".join(head)]
    for count in rungs(recipe.model) or [0]:
        names = [f"{name}_{count}" if count else f"validation_{name}" for name in METRICS]
        mel, distortion, stoi = (report.get(name) for name in names)
        label = format_bitrate(recipe.model.bitrate(count)) if count else "continuous latents"
        line = f"  {label}: SI-SDR {distortion:.2f} dB, mel {mel:.3f}"
        if stoi is not None:
            line += f", STOI {stoi:.3f}"
        lines.append(line)
    shares = {k.removeprefix("share_"): v for k, v in report.items() if k.startswith("share_")}
    if shares:
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        lines.append(f"  gradient at the audio: {told}")
    return "\n".join(lines)
