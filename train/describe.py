"""What a recipe makes, told without training it: ``aecodec train --dry-run``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from codec.config import format_bitrate
from codec.model import Codec
from train.config import TrainConfig, to_toml
from train.index import Index


def describe(recipe: TrainConfig, index: Index | None = None) -> str:
    """The recipe with every value, size and cost of its model, and what data there is for it."""
    config = recipe.model
    codec = Codec(config).eval()
    parts = {name: getattr(codec, name) for name in ("encoder", "quantizer", "decoder")}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    macs = multiply_accumulates(codec)
    field = config.receptive_field
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
        "latency": f"{1000 * config.latency_seconds:g} ms",
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


def multiply_accumulates(codec: Codec) -> dict[str, float]:
    """Multiply-accumulates per second of audio of each side, counted as they are run."""
    config = codec.config
    encode, decode = (
        (codec.encode, codec.decode) if config.has_codes else (codec.embed, codec.synthesize)
    )

    def silence(num_frames: int) -> torch.Tensor:
        return torch.zeros(1, 1, num_frames * config.hop_length)

    per_frame = macs_per_frame(encode, decode, silence)
    return {side: count * float(config.frame_rate) for side, count in per_frame.items()}


def macs_per_frame(
    encode: Callable[[Any], Any], decode: Callable[[Any], object], audio: Callable[[int], Any]
) -> dict[str, float]:
    """Multiply-accumulates of ``encode`` and ``decode``, ``audio`` being of so many frames.

    Counted over 30 frames less over 10, so that nothing of start and end is in it.
    """

    def count(num_frames: int) -> tuple[float, float]:
        sound = audio(num_frames)
        coded = encode(sound)
        return count_macs(lambda: encode(sound)), count_macs(lambda: decode(coded))

    sides = zip(("encode", "decode"), count(30), count(10), strict=True)
    return {side: (more - less) / 20 for side, more, less in sides}


def count_macs(work: Callable[[], object]) -> float:
    """Multiply-accumulates of the matrix products, convolutions and LSTMs in ``work``."""
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    ) as counter:
        work()
    return float(counter.get_total_flops() / 2)


def _lstm_flops(
    x: Sequence[int], input_weight: Sequence[int], state_weight: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of one layer, ``x [T, B, C]``; PyTorch's counter does not know it."""
    steps = x[0] * x[1]
    return 2 * steps * (input_weight[0] * input_weight[1] + state_weight[0] * state_weight[1])
