"""Multiply-accumulates of a codec, counted as they are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from codec.network.model import Codec


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
