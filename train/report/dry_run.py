"""Description of a recipe without training it: ``aecodec train --dry-run``."""

from __future__ import annotations

from codec.bitrate import format_bitrate
from codec.config import CodecConfig
from codec.corpus.index import Index
from codec.network.model import Codec
from train.recipe.loading import to_toml
from train.recipe.sections import TrainConfig
from train.report.macs import multiply_accumulates


def describe(recipe: TrainConfig, index: Index | None = None) -> str:
    """The recipe with every value, size and cost of its model, and the data found for it.

    Args:
        recipe: the recipe.
        index: index of the training data; left out if None.

    Example:
        >>> from train.recipe.loading import load_recipe
        >>> print(describe(load_recipe("tiny")).splitlines()[-3])
        latency               30 ms
    """
    lines = {**_model_facts(recipe.model), "a step": _step(recipe), **_data_facts(index)}
    width = max(map(len, lines))
    return to_toml(recipe) + "\n" + "\n".join(f"{k:<{width}}  {v}" for k, v in lines.items())


def _model_facts(config: CodecConfig) -> dict[str, str]:
    codec = Codec(config).eval()
    parts = {name: getattr(codec, name) for name in ("encoder", "quantizer", "decoder")}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    macs = multiply_accumulates(codec)
    field = codec.span.receptive_field
    rates = [format_bitrate(rate).removesuffix(" kbit/s") for rate in config.plain_bitrates]
    return {
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
    }


def _step(recipe: TrainConfig) -> str:
    seconds = recipe.crop_samples / recipe.model.sample_rate
    return f"{recipe.data.batch_size} crops of {seconds:.2f} s"


def _data_facts(index: Index | None) -> dict[str, str]:
    if index is None:
        return {}
    hours = ", ".join(f"{name} {value:.2f}" for name, value in index.hours_by_class.items())
    return {
        "data": f"{index.hours:.2f} hours ({hours})",
        "skipped": f"{len(index.skipped)} files",
    }
