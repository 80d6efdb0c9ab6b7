"""`Span`: stride, latency and receptive field of a layer, and of layers in sequence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Span:
    """How the output of a layer relates to its input in time. All numbers count input frames.

    A frame is one position in time of a tensor ``[B, T, C]``: a sample at the input of an encoder
    and at the output of a decoder.

    Attributes:
        stride: input frames per output frame: *s* for a layer that downsamples by *s*, ``1 / s``
            for one that upsamples by *s*.
        latency: input frames by which the output trails the input when the layer passes its input
            through. Learned layers are causal and can pass their newest input at once: 0. An
            inverse lapped transform completes the samples of a frame when the next one arrives: 1.
        receptive_field: the most input frames that can influence one output frame; None if it is
            unbounded, as in a recurrent layer.
    """

    stride: Fraction = Fraction(1)
    latency: Fraction = Fraction(0)
    receptive_field: int | None = 1


def compose(spans: Iterable[Span]) -> Span:
    """The span of layers in sequence.

    For a layer *a* followed by a layer (or several layers) *b*, all in input frames of *a*::

        stride           stride(a) * stride(b)
        latency          latency(a) + stride(a) * latency(b)
        receptive field  field(a) + ceil(stride(a) * (field(b) - 1))

    The newest frame that *b* needs depends on ``field(a)`` input frames, and each of the
    ``field(b) - 1`` frames before it begins ``stride(a)`` input frames earlier. If *a* upsamples,
    that may be a fraction of an input frame, which needs the whole frame. This rounding is why
    layers are added from the last one to the first.

    Example:
        A decoder: a convolution over three frames at 50 Hz, a transposed convolution to 100 Hz, and
        an inverse transform to 24 kHz.

        >>> layers = Span(receptive_field=3), Span(Fraction(1, 2), receptive_field=2)
        >>> compose([*layers, Span(Fraction(1, 240), Fraction(1), 2)])
        Span(stride=Fraction(1, 480), latency=Fraction(1, 2), receptive_field=5)
    """
    total = Span()
    for span in reversed(list(spans)):
        field = None
        if span.receptive_field is not None and total.receptive_field is not None:
            earlier = math.ceil(span.stride * (total.receptive_field - 1))
            field = span.receptive_field + earlier
        total = Span(
            stride=span.stride * total.stride,
            latency=span.latency + span.stride * total.latency,
            receptive_field=field,
        )
    return total
