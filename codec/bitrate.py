"""Bitrates: exact numbers, how they are written, and what the frames of a codec make possible."""

from __future__ import annotations

import numbers
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from codec.arguments import check_number, shown
from codec.errors import ConfigError

Bitrate: TypeAlias = int | Fraction
"""Bits per second, exact."""

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
        return [self.bitrate(count) for count in self.codebook_counts]

    def num_frames(self, num_samples: int) -> int:
        """Frames that hold ``num_samples`` samples; the last one may be partly padding."""
        return ceil_div(num_samples, self.hop_length)

    def bitrate(self, num_codebooks: int) -> Fraction:
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
        return max(count for count in self.codebook_counts if self.bitrate(count) <= bitrate)


def parse_bitrate(text: str) -> Fraction:
    """Bits per second of ``"6000"``, ``"6k"`` or ``"2.4k"``.

    Raises:
        ConfigError: not a positive number.

    Example:
        >>> parse_bitrate("2.4k")
        Fraction(2400, 1)
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([kK]?)", text.strip())
    bits = Fraction(match[1]) * (1000 if match[2] else 1) if match else Fraction(0)
    if bits <= 0:
        raise ConfigError(
            f"bitrate {text!r} is not a positive number of bits per second: write 6000, 6k or 2.4k"
        )
    return bits


def checked_bitrate(bitrate: Any) -> Bitrate:
    """A bitrate as an exact number; NumPy's numbers and floats count.

    Raises:
        ConfigError: it is none, such as a string, or not positive.

    Example:
        >>> checked_bitrate(6e3)
        Fraction(6000, 1)
    """
    if isinstance(bitrate, str):
        raise ConfigError(f"bitrate {shown(bitrate)} is a string: give bits per second as 6000")
    value = check_number("bitrate", bitrate, 0, 1e12)
    if value <= 0:
        raise ConfigError(f"bitrate is {bitrate}: give bits per second as 6000")
    if isinstance(bitrate, numbers.Integral):
        return int(bitrate)
    return bitrate if isinstance(bitrate, Fraction) else Fraction(value)


def format_bitrate(bits_per_second: Fraction | float) -> str:
    """Bits per second in kbit/s, for messages.

    Example:
        >>> format_bitrate(2400)
        '2.4 kbit/s'
    """
    return f"{float(bits_per_second) / 1000:.6g} kbit/s"


def ceil_div(numerator: int, denominator: int) -> int:
    """Integer division rounded up.

    Example:
        >>> ceil_div(481, 480)
        2
    """
    return -(-numerator // denominator)
