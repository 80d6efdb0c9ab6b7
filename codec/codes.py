"""`CodecSpec`: the geometry of a model's codes, and the numbers that follow from it.

Codes are arrays ``[G, K, T]``: groups of channels that are coded together, codes of a frame,
frames. Most models code every channel on its own, so that G is the number of channels.

The K codes of a frame are those of whole codebooks, the coarsest codebook first, and within a
codebook in the order of time. Most codebooks have one code per frame, so that K is the number of
codebooks; where they work at several rates, it is larger. Whatever is called ``codebooks`` or
``num_codebooks`` counts codebooks, as do all options of rates; ``num_codes`` counts codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from codec.bitrate import Bitrate, ceil_div, checked_bitrate, format_bitrate
from codec.errors import ConfigError

NO_CODES = (
    "this model has continuous latents and no codes: use Codec.embed() and Codec.synthesize(), "
    'or train one with bottleneck = "vq" or "fsq"'
)


class Codebook(NamedTuple):
    """One codebook of a residual quantizer.

    Attributes:
        size: number of entries, a power of two.
        per_frame: codes of it in a frame; more than one where it works at a higher rate.

    Example:
        >>> Codebook(4_096).bits
        12
    """

    size: int
    per_frame: int = 1

    @property
    def bits(self) -> int:
        """Bits of one of its codes, without entropy coding."""
        return self.size.bit_length() - 1


class Geometry:
    """What follows from the codebooks and frames of anything that has codes.

    A mixin for classes with the attributes below.

    Attributes:
        sample_rate: samples per second of the audio that is coded.
        hop_length: samples per frame.
        codebooks: the coarsest first; none for a model with continuous latents.
        channels_coded_together: channels that share their codes.
    """

    if TYPE_CHECKING:

        @property
        def sample_rate(self) -> int: ...
        @property
        def hop_length(self) -> int: ...
        @property
        def codebooks(self) -> tuple[Codebook, ...]: ...
        @property
        def channels_coded_together(self) -> int: ...

    @property
    def has_codes(self) -> bool:
        """Whether frames become codes; a model with continuous latents has none."""
        return bool(self.codebooks)

    def check_has_codes(self) -> None:
        """Raise a ConfigError for a model with continuous latents."""
        if not self.has_codes:
            raise ConfigError(NO_CODES)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact: 44100 / 512 is not an integer, and rounding it would drift."""
        return Fraction(self.sample_rate, self.hop_length)

    @cached_property
    def bits(self) -> tuple[int, ...]:
        """Bits of each code of a frame, without entropy coding."""
        return tuple(each.bits for each in self.codebooks for _ in range(each.per_frame))

    @property
    def has_simple_codes(self) -> bool:
        """Whether codebooks have one size and one code per frame, and channels codes of their own.

        Context models, and so variable bitrates, need it.
        """
        alike = {Codebook(each.size) for each in self.codebooks[:1]} == set(self.codebooks)
        return alike and self.channels_coded_together == 1

    def num_codes(self, num_codebooks: int | None = None) -> int:
        """Codes of a frame, K, of that many codebooks from the first one on; of all if None.

        Example:
            >>> from codec import load_model
            >>> load_model().spec.num_codes(12)
            12
        """
        if num_codebooks is None:
            return len(self.bits)
        return sum(each.per_frame for each in self.codebooks[:num_codebooks])

    def codebooks_of(self, num_codes: int) -> int:
        """The inverse of `num_codes`.

        Raises:
            ConfigError: so many codes are not those of whole codebooks.
        """
        for count in range(1, len(self.codebooks) + 1):
            if self.num_codes(count) == num_codes:
                return count
        counts = ", ".join(str(self.num_codes(n + 1)) for n in range(len(self.codebooks)))
        raise ConfigError(f"{num_codes} codes per frame are not whole codebooks: give {counts}")

    def num_groups(self, channels: int) -> int:
        """Groups, G, in which so many channels are coded; the last one may be incomplete."""
        return ceil_div(channels, self.channels_coded_together)

    @property
    def plain_bitrates(self) -> list[Fraction]:
        """The bitrates of plain codes, of one codebook to all of them; none without codes."""
        return [self.plain_bitrate(count + 1) for count in range(len(self.codebooks))]

    def num_frames(self, num_samples: int) -> int:
        """Frames that hold ``num_samples`` samples; the last one may be partly padding."""
        return ceil_div(num_samples, self.hop_length)

    def plain_bitrate(self, num_codebooks: int | None = None) -> Fraction:
        """Bits per second and channel of that many codebooks, without entropy coding or container.

        Args:
            num_codebooks: codebooks from the first one on; all if None.
        """
        bits = sum(self.bits[: self.num_codes(num_codebooks)])
        return self.frame_rate * bits / self.channels_coded_together

    def codebooks_for(self, bitrate: Bitrate | None) -> int:
        """Most codebooks whose plain bitrate does not exceed ``bitrate``.

        Args:
            bitrate: in bits per second and channel, without entropy coding or container; None for
                the highest.

        Raises:
            ConfigError: ``bitrate`` is out of range, or there are no codes at all.
        """
        self.check_has_codes()
        if bitrate is None:
            return len(self.codebooks)
        bitrate, bitrates = checked_bitrate(bitrate), self.plain_bitrates
        lowest, highest = bitrates[0], bitrates[-1]
        if not lowest <= bitrate <= highest:
            steps = f"in steps of {format_bitrate(lowest)}"
            if len(set(self.codebooks)) > 1:
                steps = "in the steps that aecodec info lists"
            raise ConfigError(
                f"bitrate {format_bitrate(bitrate)} is out of range: this model codes "
                f"{format_bitrate(lowest)} to {format_bitrate(highest)} per channel, {steps}"
            )
        return max(n for n, plain in enumerate(bitrates, 1) if plain <= bitrate)


@dataclass(frozen=True, kw_only=True)
class CodecSpec(Geometry):
    """What must be known about a model to use its codes.

    Attributes:
        name: name of the model, for people.
        sample_rate: samples per second of the audio that is coded.
        hop_length: samples per frame.
        codebooks: the coarsest first; none for a model with continuous latents, which cannot make
            streams.
        channels_coded_together: channels that share their codes: 2 for a model of stereo audio.
        delay: samples by which decoded audio trails the audio that was encoded.
        fingerprint: 16 bytes that identify the model in streams; empty if it was never saved.
        lookahead: samples after a step that its codes depend on, whole frames.
        tail: samples of silence after a recording that must be coded too, so that its end is
            decoded and not extrapolated: the delay, unless `Engine.flush_step` needs no more codes.

    Example:
        >>> from codec import load_model
        >>> spec = load_model().spec
        >>> spec.codebooks_for(3_000), spec.bits[:3], spec.latency
        (6, (10, 10, 10), 780)
    """

    name: str
    sample_rate: int
    hop_length: int
    codebooks: tuple[Codebook, ...]
    delay: int
    fingerprint: bytes
    channels_coded_together: int = 1
    lookahead: int = 0
    tail: int = 0

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks."""
        return len(self.codebooks)

    @property
    def latency(self) -> int:
        """Algorithmic latency with one-frame packets in samples: a frame, lookahead and delay."""
        return self.hop_length + self.lookahead + self.delay

    @property
    def flush_frames(self) -> int:
        """Frames that a decoder needs after the last code to give out the delayed samples."""
        return ceil_div(self.delay, self.hop_length)

    def num_frames_with_tail(self, num_samples: int) -> int:
        """Frames of a recording of ``num_samples`` samples and of the silence after it.

        Example:
            >>> from codec import load_model
            >>> spec = load_model().spec
            >>> spec.num_frames(480), spec.num_frames_with_tail(480), spec.num_frames_with_tail(0)
            (1, 2, 0)
        """
        return self.num_frames(num_samples + self.tail) if num_samples else 0
