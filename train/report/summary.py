"""A validation report as text for the terminal."""

from __future__ import annotations

from codec.bitrate import format_bitrate
from codec.config import CodecConfig
from codec.evaluation.evaluate import typical_codebook_counts
from train.recipe.sections import METRICS
from train.report.validation import Report


def summary(report: Report, model: CodecConfig) -> str:
    """A few lines: losses, use of the codebooks, quality at each bitrate, shares of the gradient.

    Args:
        report: figures of the training steps and of `train.report.validation.validate`.
        model: shape of the model.
    """
    lines = [
        _losses_and_codebooks(report),
        *(_quality(report, model, count) for count in typical_codebook_counts(model) or [0]),
        *_gradient_shares(report),
    ]
    return "\n".join(lines)


def _losses_and_codebooks(report: Report) -> str:
    line = [f"step {report['step']:.0f}", f"loss {report['loss']:.3f}"]
    line.append(f"validation {report['validation_loss']:.3f}")
    if used := _named(report, "used_"):
        effective = _named(report, "perplexity_").values()
        line.append(
            f"codebooks {100 * min(used.values()):.0f} to {100 * max(used.values()):.0f} % used"
        )
        line.append(f"perplexity {min(effective):.0f} to {max(effective):.0f}")
        line.append(f"efficiency {100 * report['efficiency']:.0f} %")
        bits = " ".join(f"{each:.1f}" for each in _named(report, "bits_").values())
        line.append(f"bits per code {bits}")
    return ", ".join(line)


def _quality(report: Report, model: CodecConfig, count: int) -> str:
    """Quality with ``count`` codebooks, 0 for continuous latents."""
    names = [f"{name}_{count}" if count else f"validation_{name}" for name in METRICS]
    mel, distortion, stoi = (report.get(name) for name in names)
    label = format_bitrate(model.plain_bitrate(count)) if count else "continuous latents"
    line = f"  {label}: SI-SDR {distortion:.2f} dB, mel {mel:.3f}"
    return line if stoi is None else f"{line}, STOI {stoi:.3f}"


def _gradient_shares(report: Report) -> list[str]:
    shares = [f"{name} {100 * share:.0f} %" for name, share in _named(report, "share_").items()]
    return [f"  gradient at the audio: {', '.join(shares)}"] if shares else []


def _named(report: Report, prefix: str) -> Report:
    return {k.removeprefix(prefix): v for k, v in report.items() if k.startswith(prefix)}
