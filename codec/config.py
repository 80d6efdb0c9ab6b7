"""`CodecConfig`: the shape of a model, and the numbers that follow from it.

This module imports no torch, so that it loads at once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from codec.codes import Codebook, Geometry
from codec.errors import ConfigError
from codec.settings import check_keys, check_settings, convert, setting

MAX_CODEBOOKS = 255  # one byte in the stream header
MAX_CODEBOOK_SIZE = 2**16
MAX_HOP_LENGTH = 2**16
MAX_CHANNELS_TOGETHER = 16
"""With more, readers would take frames of few bits for those of a forged file."""

BOTTLENECKS = ("vq", "fsq", "vae")
RECURRENT = ("none", "gru", "lstm")


@dataclass(frozen=True, kw_only=True)
class CodecConfig(Geometry):
    """Shape of a codec. A constructed config is a valid one.

    The encoder downsamples by ``strides`` from left to right, the decoder upsamples by them from
    right to left. Each level has its own width and its own list of dilations (one residual unit
    each) in the encoder and in the decoder, so the two share the strides but not the size: a
    small encoder costs almost no quality.

    The description of every field, with its limits, is in its metadata:
    ``codec.settings.settings_of(CodecConfig)``.

    Raises:
        ConfigError: a value is of the wrong type, out of range, or does not fit the others.

    Example:
        >>> config = CodecConfig(
        ...     sample_rate=24_000,
        ...     strides=(240, 2),
        ...     encoder_channels=(64, 64),
        ...     decoder_channels=(64, 64),
        ...     encoder_dilations=((1,), (1,)),
        ...     decoder_dilations=((1, 3), (1,)),
        ...     kernel_size=3,
        ...     lapped_transform=True,
        ...     latent_dim=64,
        ...     num_codebooks=6,
        ...     codebook_size=256,
        ...     codebook_dim=8,
        ... )
        >>> config.hop_length, float(config.frame_rate), int(config.plain_bitrate(6))
        (480, 50.0, 2400)
        >>> config.codebooks_for(1000)
        2
        >>> CodecConfig.from_dict(config.to_dict()) == config
        True
    """

    sample_rate: int = field(
        metadata=setting("samples per second at which the model works", 1000, 384_000)
    )
    strides: tuple[int, ...] = field(
        metadata=setting(
            "downsampling factor of each level; their product is the hop length",
            1,
            8192,
            length=(1, 16),
        )
    )
    encoder_channels: tuple[int, ...] = field(
        metadata=setting("width of each encoder level, one per stride", 1, 8192)
    )
    decoder_channels: tuple[int, ...] = field(
        metadata=setting(
            "width of each decoder level, one per stride, in the order of strides", 1, 8192
        )
    )
    encoder_dilations: tuple[tuple[int, ...], ...] = field(
        metadata=setting("for each encoder level, the dilations of its residual units", 1, 1024)
    )
    decoder_dilations: tuple[tuple[int, ...], ...] = field(
        metadata=setting("for each decoder level, the dilations of its residual units", 1, 1024)
    )
    kernel_size: int = field(
        metadata=setting(
            "taps of the dilated convolution of a residual unit, in frames of its level", 1, 64
        )
    )
    lapped_transform: bool = field(
        metadata=setting(
            "whether the first level is an MDCT with companded coefficients and the last its "
            "inverse, both fixed; otherwise both are learned convolutions"
        )
    )
    latent_dim: int = field(
        metadata=setting(
            "channels of the latent between encoder, bottleneck and decoder, one vector per frame",
            1,
            8192,
        )
    )
    num_codebooks: int = field(
        metadata=setting("stages of the residual quantizer; a VAE ignores it", 1, MAX_CODEBOOKS)
    )
    codebook_size: int = field(
        metadata=setting(
            "entries per codebook, a power of two; a VAE ignores it", 2, MAX_CODEBOOK_SIZE
        )
    )
    codebook_dim: int = field(
        metadata=setting(
            "dimensions of a codebook's entries (fsq uses at most as many as a code has bits), "
            "or of a VAE's latents",
            1,
        )
    )
    # Fields that were added later have the value that earlier models imply as their default.
    bottleneck: str = field(
        default="vq",
        metadata=setting(
            "vq and fsq quantize the latent with codebooks of vectors or with scalar levels; vae "
            "keeps it continuous and has no codes",
            choices=BOTTLENECKS,
        ),
    )
    recurrent: str = field(
        default="none",
        metadata=setting(
            "gru or lstm adds one such layer at the frame rate to encoder and decoder; none keeps "
            "the memory of both finite",
            choices=RECURRENT,
        ),
    )
    decoder_fine_stride: int = field(
        default=0,
        metadata=setting(
            "samples per frame of a second synthesis stage for voices, with an excitation at their "
            "pitch; divides the first stride, needs a lapped transform; 0 for none",
            0,
            8192,
        ),
    )
    decoder_fine_channels: int = field(
        default=112, metadata=setting("width of the second synthesis stage", 4, 8192)
    )
    decoder_fine_dilations: tuple[int, ...] = field(
        default=(1, 2, 4, 8, 16, 1),
        metadata=setting("dilations of the residual units of the second synthesis stage", 1, 1024),
    )
    lookahead: int = field(
        default=0,
        metadata=setting(
            "samples that the decoder may see beyond what its layers need; they add to the delay",
            0,
        ),
    )
    channels: int = field(
        default=1,
        metadata=setting(
            "channels that are coded together, 2 for stereo; more than 1 needs lapped_transform = "
            "false",
            1,
            MAX_CHANNELS_TOGETHER,
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)
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
        _in_range("hop length (product of strides)", self.hop_length, 1, MAX_HOP_LENGTH)
        _in_range("lookahead", self.lookahead, 0, 16 * self.hop_length)
        if self.codebook_size & (self.codebook_size - 1):
            raise ConfigError(
                f"codebook_size is {self.codebook_size}: it must be a power of two, "
                "so that a code is a whole number of bits"
            )
        if self.channels > 1 and self.lapped_transform:
            raise ConfigError(
                f"channels is {self.channels}: a lapped transform takes one, give lapped_transform "
                "= false"
            )
        _in_range("codebook_dim", self.codebook_dim, 1, self.latent_dim)
        if self.decoder_fine_stride:
            if not self.lapped_transform:
                raise ConfigError(
                    f"decoder_fine_stride is {self.decoder_fine_stride}: it needs lapped_transform"
                )
            if self.strides[0] % self.decoder_fine_stride:
                raise ConfigError(
                    f"decoder_fine_stride is {self.decoder_fine_stride}: it must divide the first "
                    f"stride, {self.strides[0]}"
                )

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def delay(self) -> int:
        """Samples by which decoded audio trails: the latency of the layers plus `lookahead`.

        The network derives it from its layers (`Codec.delay`), which needs PyTorch.
        """
        overlap = self.strides[0] if self.lapped_transform else 0
        return overlap + self.decoder_fine_stride + self.lookahead

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        """The codebooks, the coarsest first. A VAE has none, and streams need some."""
        if self.bottleneck == "vae":
            return ()
        return (Codebook(self.codebook_size),) * self.num_codebooks

    @property
    def channels_coded_together(self) -> int:
        """Channels that share their codes."""
        return self.channels

    @property
    def embedding_dim(self) -> int:
        """Channels of the output of `Codec.embed`."""
        return self.latent_dim if self.has_codes else self.codebook_dim

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values that JSON and TOML can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CodecConfig:
        """Build a config from plain values, such as a table of a JSON or TOML file.

        Files of earlier versions have the key ``delay``, the whole delay of the codec in samples.
        What it has beyond the delay of the layers becomes `lookahead`.

        Args:
            values: the value of each field by its name. Fields with a default may be left out.

        Raises:
            ConfigError: a key is unknown or missing, or a value is wrong.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"a codec config must be a table of values, not {values!r}")
        known = {name: value for name, value in values.items() if name != "delay"}
        check_keys(cls, known, "the codec config")
        config = cls(**known)
        return config._with_delay(values["delay"]) if "delay" in values else config

    def _with_delay(self, delay: Any) -> CodecConfig:
        """The config with the ``delay`` of a file of an earlier version as its lookahead."""
        delay = convert("delay", delay, int)
        least = self.delay - self.lookahead  # earlier versions required at least this much
        if self.lookahead:
            raise ConfigError(
                f"both delay ({delay}) and lookahead ({self.lookahead}) are given: leave out delay"
            )
        if delay < least:
            raise ConfigError(
                f"delay is {delay} but the layers have {least} samples: leave out delay, it "
                "follows from them"
            )
        return dataclasses.replace(self, lookahead=delay - least)


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}: it must lie in {low}..{high}")
