"""Advice during a run: what looks wrong in the reports so far, and which setting to change.

Each check is a function of `Evidence` that returns one line, or None if all is well.
"""

from __future__ import annotations

from dataclasses import dataclass

from codec.config import CodecConfig
from codec.evaluation.evaluate import typical_codebook_counts
from train.report.validation import Report

LOW_USE = 0.5
FRAMES_PER_ENTRY = 3
CLEAR_SHARE = 0.9
TREND = 3
"""Number of validations over which trends are computed."""


@dataclass(frozen=True)
class Evidence:
    """What checks look at.

    Attributes:
        now: the newest report.
        before: the report `TREND` validations earlier; None early in a run.
        model: shape of the model.
        progress: share of the run that is done.
    """

    now: Report
    before: Report | None
    model: CodecConfig
    progress: float


def advice(history: list[Report], model: CodecConfig, progress: float) -> list[str]:
    """One line per problem, with its remedy; empty if all is well.

    Args:
        history: the reports so far, newest last.
        model: shape of the model.
        progress: share of the run that is done.
    """
    before = history[-1 - TREND] if len(history) > TREND else None
    evidence = Evidence(history[-1], before, model, progress)
    lines = [check(evidence) for check in CHECKS]
    return [line for line in lines if line is not None]


def unused_entries(evidence: Evidence) -> str | None:
    """Codebooks of which few entries are used."""
    now, model = evidence.now, evidence.model
    # Few frames cannot contain all entries of a large codebook.
    enough_frames = now.get("frames", 0.0) >= FRAMES_PER_ENTRY * model.codebook_size
    if evidence.progress <= 0.1 or not enough_frames:
        return None
    low = [k for k in range(1, model.num_codebooks + 1) if now[f"used_{k}"] < LOW_USE]
    if not low:
        return None
    uses = ", ".join(f"codebook {k} uses {100 * now[f'used_{k}']:.0f} %" for k in low)
    return (
        f"{uses} of its entries: lower quantizer.restart_every, raise "
        "quantizer.restart_until, or choose a smaller model.codebook_size"
    )


def missing_phase(evidence: Evidence) -> str | None:
    """Decoded sound that does not follow the waveform."""
    si_sdr = evidence.now["validation_si_sdr"]
    if evidence.progress <= 0.25 or si_sdr >= 0:
        return None
    return (
        f"SI-SDR is {si_sdr:.1f} dB: phase is not learned; raise loss.waveform or loss.complex, "
        "or train longer"
    )


def waveform_traded_for_mel(evidence: Evidence) -> str | None:
    """Mel distance that improves at the expense of the waveform."""
    now, before = evidence.now, evidence.before
    if before is None:
        return None
    lost = before["validation_si_sdr"] - now["validation_si_sdr"]
    if lost <= 0.3 or now["validation_mel"] >= before["validation_mel"]:
        return None
    return "SI-SDR falls while mel improves: raise loss.waveform or loss.complex, or lower loss.mel"


def rising_loss(evidence: Evidence) -> str | None:
    """A validation loss that rises."""
    now, before = evidence.now, evidence.before
    if before is None or evidence.progress <= 0.3:
        return None
    if now["validation_loss"] <= 1.02 * before["validation_loss"]:
        return None
    return (
        f"the validation loss rose from {before['validation_loss']:.3f} to "
        f"{now['validation_loss']:.3f}: lower optimizer.lr, or use more data or augmentation"
    )


def idle_codebooks(evidence: Evidence) -> str | None:
    """Upper codebooks that improve nothing."""
    now, counts = evidence.now, typical_codebook_counts(evidence.model)
    if len(counts) < 2 or evidence.progress <= 0.5:
        return None
    half, full = now[f"mel_{counts[-2]}"], now[f"mel_{counts[-1]}"]
    if full <= 0.99 * half:
        return None
    return (
        f"the upper {counts[-1] - counts[-2]} codebooks improve mel by only "
        f"{100 * (1 - full / half):.1f} %: lower quantizer.dropout, or widen "
        "model.decoder_channels"
    )


def dominant_loss(evidence: Evidence) -> str | None:
    """A loss that contributes nearly all of the gradient."""
    for name, share in evidence.now.items():
        if name.startswith("share_") and share > CLEAR_SHARE:
            return (
                f"{100 * share:.0f} % of the gradient comes from {name.removeprefix('share_')}: "
                "lower its weight, or set loss.balancer=true"
            )
    return None


CHECKS = (
    unused_entries,
    missing_phase,
    waveform_traded_for_mel,
    rising_loss,
    idle_codebooks,
    dominant_loss,
)
