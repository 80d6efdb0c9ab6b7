"""`CodecConfig`: everything that shapes a model, and the numbers that follow from it.

No torch here, so that asking for a bitrate costs no second of import time.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, get_type_hints

from codec.bitrate import FrameRates, ceil_div
from codec.errors import ConfigError

MAX_CODEBOOKS = 255  # one byte in the stream header
MAX_CODEBOOK_SIZE = 2**16
MAX_HOP_LENGTH = 2**16

BOTTLENECKS = ("vq", "fsq", "vae")
RECURRENT = ("none", "gru", "lstm")


@dataclass(frozen=True, kw_only=True)
class CodecConfig(FrameRates):
    """Shape of a codec. A constructed config is a valid one.

    The encoder walks ``strides`` from the left, the decoder walks them back. Level *i* has its
    own width and its own list of dilations (one residual unit each) on either side, so encoder
    and decoder share the ladder but not the size: a small encoder costs almost no quality.

    Attributes:
        sample_rate: samples per second the model works at.
        strides: downsampling factor of each level; their product is the hop length.
        encoder_channels: width of each encoder level, one per stride.
        decoder_channels: width of each decoder level, one per stride, in the order of `strides`.
        encoder_dilations: for each level, the dilations of its residual units.
        decoder_dilations: the same for the decoder.
        kernel_size: taps of a residual unit's dilated convolution, in frames of its level.
        lapped_transform: the first level is an MDCT with companded coefficients, the last its
            inverse, both fixed. False: plain convolutions.
        delay: samples by which decoded sound trails its input. A lapped transform of
            stride *s* overlaps by *s* samples and needs that much.
        latent_dim: width of the frame-rate latent between encoder, quantizer and decoder.
        num_codebooks: stages of the residual quantizer.
        codebook_size: entries per codebook, a power of two.
        codebook_dim: dimensions in which a code is looked up (``fsq`` uses at most as many as a
            code has bits), or those of a VAE's latents.
        bottleneck: ``vq`` and ``fsq`` quantize the latent, to vectors of codebooks or to levels of
            scalars; ``vae`` keeps it continuous and has no codes (the numbers of codebooks and
            of their entries mean nothing to it).
        recurrent: ``gru`` or ``lstm`` puts one such layer at the frame rate into encoder and
            decoder; ``none`` leaves both with a finite memory.

    Raises:
        ConfigError: a value is of the wrong type, out of range, or does not fit the others.
    """

    sample_rate: int
    strides: tuple[int, ...]
    encoder_channels: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    encoder_dilations: tuple[tuple[int, ...], ...]
    decoder_dilations: tuple[tuple[int, ...], ...]
    kernel_size: int
    lapped_transform: bool
    delay: int
    latent_dim: int
    num_codebooks: int
    codebook_size: int
    codebook_dim: int
    # What came later has the value that models had before as its default.
    bottleneck: str = "vq"
    recurrent: str = "none"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), str(kind)))
        _in_range("sample_rate", self.sample_rate, 1000, 384_000)
        _in_range("number of strides", len(self.strides), 1, 16)
        for name in ("strides", "encoder_channels", "decoder_channels"):
            for value in getattr(self, name):
                _in_range(name, value, 1, 8192)
        levels = len(self.strides)
        for name in (
            "encoder_channels",
            "decoder_channels",
            "encoder_dilations",
            "decoder_dilations",
        ):
            if len(getattr(self, name)) != levels:
                raise ConfigError(
                    f"{name} has {len(getattr(self, name))} levels but strides has {levels}: "
                    "give one entry per stride"
                )
        for name in ("encoder_dilations", "decoder_dilations"):
            for level in getattr(self, name):
                for value in level:
                    _in_range(name, value, 1, 1024)
        _in_range("kernel_size", self.kernel_size, 1, 64)
        _in_range("hop length (product of strides)", self.hop_length, 1, MAX_HOP_LENGTH)
        _in_range("delay", self.delay, 0, 16 * self.hop_length)
        if self.lapped_transform and self.delay < self.strides[0]:
            raise ConfigError(
                f"delay is {self.delay} but a lapped transform of stride {self.strides[0]} "
                f"overlaps by {self.strides[0]} samples: set delay to at least that"
            )
        _in_range("latent_dim", self.latent_dim, 1, 8192)
        _in_range("num_codebooks", self.num_codebooks, 1, MAX_CODEBOOKS)
        _in_range("codebook_size", self.codebook_size, 2, MAX_CODEBOOK_SIZE)
        if self.codebook_size & (self.codebook_size - 1):
            raise ConfigError(
                f"codebook_size is {self.codebook_size}: it must be a power of two, "
                "so that a code is a whole number of bits"
            )
        _in_range("codebook_dim", self.codebook_dim, 1, self.latent_dim)
        _one_of("bottleneck", self.bottleneck, BOTTLENECKS)
        _one_of("recurrent", self.recurrent, RECURRENT)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def latency(self) -> int:
        """Algorithmic latency with one-frame packets, in samples: one frame plus the delay."""
        return self.hop_length + self.delay

    @property
    def latency_seconds(self) -> float:
        return self.latency / self.sample_rate

    @property
    def flush_frames(self) -> int:
        """Empty frames the decoder is given at the end, to bring out the delayed samples."""
        return ceil_div(self.delay, self.hop_length)

    @property
    def encoder_receptive_field(self) -> int | None:
        """Samples that can influence one frame of the latent, up to the last of that frame.

        None with a recurrent layer: it forgets nothing for good.
        """
        if self.recurrent != "none":
            return None
        samples, frame = 1, 1
        for stride, dilations in zip(self.strides, self.encoder_dilations, strict=True):
            samples += (2 * stride - 1) * frame
            frame *= stride
            samples += (self.kernel_size - 1) * sum(dilations) * frame
        return samples

    @property
    def decoder_receptive_field(self) -> int | None:
        """Most frames of the latent that can influence one decoded sample; see above for None."""
        if self.recurrent != "none":
            return None
        frames = 1
        for stride, dilations in zip(self.strides, self.decoder_dilations, strict=True):
            # A run of samples touches most frames if it ends with the first sample of one; and
            # the frame before the first that it touches reaches into it by half.
            frames = -(-(frames - 1) // stride) + 2
            frames += (self.kernel_size - 1) * sum(dilations)
        return frames + self.kernel_size - 1

    @property
    def receptive_field(self) -> int | None:
        """Samples of input that can influence one decoded sample; None if there is no limit."""
        if self.encoder_receptive_field is None or self.decoder_receptive_field is None:
            return None
        return (self.decoder_receptive_field - 1) * self.hop_length + self.encoder_receptive_field

    @property
    def has_codes(self) -> bool:
        """Whether frames become codes, and so can be streamed. The latents of a VAE do not."""
        return self.bottleneck != "vae"

    @property
    def embedding_dim(self) -> int:
        """Channels of what `Codec.embed` gives."""
        return self.latent_dim if self.has_codes else self.codebook_dim

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodecConfig:
        """Build from plain values.

        Unknown keys are errors, and so are missing ones, but for fields that have a default.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"a codec config must be a table of values, not {values!r}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                near = difflib.get_close_matches(str(name), fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(fields)}"
                raise ConfigError(f"unknown codec setting {name!r}: {hint}")
        for name, field in fields.items():
            if name not in values and field.default is dataclasses.MISSING:
                raise ConfigError(f"codec setting {name!r} is missing")
        return cls(**values)


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}: it must lie in {low}..{high}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        names = ", ".join(f'"{item}"' for item in known)
        raise ConfigError(f"{name} is {value!r}: it must be one of {names}")


def _typed(name: str, value: Any, kind: str) -> Any:
    """``value`` with lists turned into tuples, or a ConfigError if it is not of ``kind``."""

    def integer(item: Any) -> int:
        if isinstance(item, bool) or not isinstance(item, int):
            raise ConfigError(f"{name} holds {item!r}: it must be a whole number")
        return item

    def integers(items: Any) -> tuple[int, ...]:
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{name} holds {items!r}: it must be a list of whole numbers")
        return tuple(integer(item) for item in items)

    if "str" in kind:
        if not isinstance(value, str):
            raise ConfigError(f"{name} is {value!r}: it must be a string")
        return value
    if "bool" in kind:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} is {value!r}: it must be true or false")
        return value
    if "tuple[tuple" in kind:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} is {value!r}: it must be a list of lists")
        return tuple(integers(item) for item in value)
    return integers(value) if "tuple" in kind else integer(value)
