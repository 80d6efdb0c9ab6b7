"""`CodecSpec`: the geometry of a model's codes, and the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from codec.bitrate import Bitrate, ceil_div, checked_bitrate, format_bitrate
from codec.errors import ConfigError

NO_CODES = (
    "this model has continuous latents and no codes: use Codec.embed() and Codec.synthesize(), "
    'or train one with bottleneck = "vq" or "fsq"'
)


class FrameRates:
    """Frame rate and bitrates of anything that codes fixed frames with residual codebooks.

    A mixin for classes with the attributes below.

    Attributes:
        sample_rate: samples per second of the audio that is coded.
        hop_length: samples per frame.
        num_codebooks: codebooks of a frame.
        codebook_size: entries of a codebook, a power of two.
        has_codes: whether frames become codes; a model with continuous latents has none.
    """

    if TYPE_CHECKING:

        @property
        def sample_rate(self) -> int: ...
        @property
        def hop_length(self) -> int: ...
        @property
        def num_codebooks(self) -> int: ...
        @property
        def codebook_size(self) -> int: ...
        @property
        def has_codes(self) -> bool: ...

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact: 44100 / 512 is not an integer, and rounding it would drift."""
        return Fraction(self.sample_rate, self.hop_length)

    @property
    def bits_per_code(self) -> int:
        """Bits of one code, without entropy coding."""
        return self.codebook_size.bit_length() - 1

    @property
    def codebook_counts(self) -> Sequence[int]:
        """Numbers of codebooks that can be coded, ascending; none without codes."""
        return range(1, self.num_codebooks + 1) if self.has_codes else ()

    @property
    def bitrates(self) -> list[Fraction]:
        """Every bitrate per channel that can be coded, ascending; none without codes."""
        return [self.plain_bitrate(count) for count in self.codebook_counts]

    def num_frames(self, num_samples: int) -> int:
        """Frames that hold ``num_samples`` samples; the last one may be partly padding."""
        return ceil_div(num_samples, self.hop_length)

    def plain_bitrate(self, num_codebooks: int) -> Fraction:
        """Bits per second and channel of that many codebooks, without container overhead."""
        return self.frame_rate * self.bits_per_code * num_codebooks

    def codebooks_for(self, bitrate: Bitrate | None) -> int:
        """Most codebooks whose bitrate does not exceed ``bitrate``.

        Args:
            bitrate: target in bits per second and channel, without container overhead; None for
                the highest.

        Returns:
            One of `codebook_counts`.

        Raises:
            ConfigError: ``bitrate`` is out of range, or there are no codes at all.
        """
        if not self.has_codes:
            raise ConfigError(NO_CODES)
        if bitrate is None:
            return self.num_codebooks
        bitrate = checked_bitrate(bitrate)
        lowest, highest = self.bitrates[0], self.bitrates[-1]
        if not lowest <= bitrate <= highest:
            steps = f"in steps of {format_bitrate(lowest)}"
            if len(self.codebook_counts) < self.num_codebooks:
                steps = "in the steps that aecodec info lists"
            raise ConfigError(
                f"bitrate {format_bitrate(bitrate)} is out of range: this model codes "
                f"{format_bitrate(lowest)} to {format_bitrate(highest)} per channel, {steps}"
            )
        return max(count for count in self.codebook_counts if self.plain_bitrate(count) <= bitrate)


class Codebook(NamedTuple):
    """One codebook of a residual quantizer.

    Attributes:
        size: number of entries, a power of two.
        per_frame: codes of it in a frame; more than one where it works at a higher rate.
    """

    size: int
    per_frame: int = 1


@dataclass(frozen=True, kw_only=True)
class CodecSpec(FrameRates):
    """What must be known about a model to use its codes.

    Attributes:
        name: name of the model, for people.
        sample_rate: samples per second of the audio that is coded.
        hop_length: samples per frame.
        codebooks: the coarsest first; none for a model with continuous latents, which cannot make
            streams.
        delay: samples by which decoded audio trails the audio that was encoded.
        fingerprint: 16 bytes that identify the model in streams; empty if it was never saved.
        lookahead: samples after a step that its codes depend on, whole frames.
        tail: samples of silence after a recording that must be coded too, so that its end is
            decoded and not extrapolated: the delay, unless `Engine.flush_step` needs no more codes.

    Example:
        >>> from codec import load_model
        >>> spec = load_model().spec
        >>> spec.codebooks_for(3_000), spec.bits_per_code, spec.latency
        (6, 10, 780)
    """

    name: str
    sample_rate: int
    hop_length: int
    codebooks: tuple[Codebook, ...]
    delay: int
    fingerprint: bytes
    lookahead: int = 0
    tail: int = 0

    @property
    def num_codebooks(self) -> int:
        """Codes of a frame."""
        return sum(each.per_frame for each in self.codebooks)

    @property
    def codebook_size(self) -> int:
        """Entries of a codebook; 1 if there are none."""
        return max((each.size for each in self.codebooks), default=1)

    @property
    def has_codes(self) -> bool:
        """Whether frames become codes; a model with continuous latents has none."""
        return bool(self.codebooks)

    @property
    def codebook_counts(self) -> Sequence[int]:
        """Numbers of codes of a frame that can be coded, ascending: those of whole codebooks."""
        return tuple(accumulate(each.per_frame for each in self.codebooks))

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
