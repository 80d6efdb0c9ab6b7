"""What a recipe makes, told without training it: ``aecodec train --dry-run``."""

from __future__ import annotations

from codec.bitrate import format_bitrate
from codec.corpus.index import Index
from codec.network.model import Codec
from codec.quality.macs import multiply_accumulates
from train.recipe.sections import TrainConfig, to_toml


def describe(recipe: TrainConfig, index: Index | None = None) -> str:
    """The recipe with every value, size and cost of its model, and what data there is for it."""
    config = recipe.model
    codec = Codec(config).eval()
    parts = {name: getattr(codec, name) for name in ("encoder", "quantizer", "decoder")}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    macs = multiply_accumulates(codec)
    field = codec.span.receptive_field
    rates = [format_bitrate(rate).removesuffix(" kbit/s") for rate in config.bitrates]
    facts = {
        "parameters": f"{sum(sizes.values()):,} ("
        + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        + ")",
        "multiply-accumulates": f"{sum(macs.values()) / 1e6:.1f} M per second of audio ("
        + ", ".join(f"{side} {count / 1e6:.1f}" for side, count in macs.items())
        + ")",
        "frames": f"{float(config.frame_rate):g} per second",
        "bitrates": f"{' '.join(rates)} kbit/s" if rates else "none: its latents are continuous",
        "latency": f"{1000 * codec.latency_seconds:g} ms",
        "receptive field": (
            f"{1000 * field / config.sample_rate:.0f} ms" if field else "without limit"
        ),
        "a step": (
            f"{recipe.data.batch_size} crops of {recipe.crop_samples / config.sample_rate:.2f} s"
        ),
    }
    if index is not None:
        hours = ", ".join(f"{kind} {value:.2f}" for kind, value in index.hours_by_kind.items())
        facts["data"] = f"{index.hours:.2f} hours ({hours})"
        facts["skipped"] = f"{len(index.skipped)} files"
    width = max(map(len, facts))
    return to_toml(recipe) + "\n" + "\n".join(f"{k:<{width}}  {v}" for k, v in facts.items())
