"""Count the multiply-accumulate operations (MACs) of a codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from codec.network.model import Codec


def multiply_accumulates(codec: Codec) -> dict[str, float]:
    """Count the multiply-accumulates of encoder and decoder by running them.

    Args:
        codec: the model; its weights do not matter.

    Returns:
        ``{"encode": ..., "decode": ...}``, per second of audio.

    Example:
        >>> from codec.network.weights import load_codec
        >>> macs = multiply_accumulates(load_codec())
        >>> {side: round(count / 1e6) for side, count in macs.items()}  # in millions
        {'encode': 128, 'decode': 516}
    """
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
    """Count the multiply-accumulates per frame.

    The count for 10 frames is subtracted from that for 30, so that padding and flushing at the
    start and end are not included.

    Args:
        encode: function from audio to codes.
        decode: function from codes to audio.
        audio: function from a number of frames to audio of that length.

    Returns:
        ``{"encode": ..., "decode": ...}``, per frame.

    Example:
        >>> weight = torch.ones(4, 3)
        >>> macs_per_frame(lambda x: x @ weight.T, lambda y: y @ weight, lambda n: torch.ones(n, 3))
        {'encode': 12.0, 'decode': 12.0}
    """

    def count(num_frames: int) -> tuple[float, float]:
        sound = audio(num_frames)
        coded = encode(sound)
        return count_macs(lambda: encode(sound)), count_macs(lambda: decode(coded))

    sides = zip(("encode", "decode"), count(30), count(10), strict=True)
    return {side: (more - less) / 20 for side, more, less in sides}


def count_macs(work: Callable[[], object]) -> float:
    """Count the multiply-accumulates of matrix products, convolutions and LSTMs in ``work``.

    Example:
        >>> count_macs(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
        24.0
    """
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    ) as counter:
        work()
    return float(counter.get_total_flops() / 2)


def _lstm_flops(
    x: Sequence[int], input_weight: Sequence[int], state_weight: Sequence[int], *_: Any, **__: Any
) -> int:
    """Operations of one LSTM layer on ``x [T, B, C]``, which PyTorch's counter leaves out."""
    steps = x[0] * x[1]
    return 2 * steps * (input_weight[0] * input_weight[1] + state_weight[0] * state_weight[1])
