"""A range coder: symbols of known probabilities to bytes and back (Martin, 1979).

The coder narrows an interval of integers by every symbol, in proportion to its frequency, and
writes the leading bytes of the interval as soon as they are certain. Frequencies are integers that
sum to `TOTAL`; model and coder share nothing else.
"""

from __future__ import annotations

from bisect import bisect_right

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
"""Sum of the frequencies of all symbols."""

# The interval has 32 bits. It is refilled by bytes as soon as 24 bits or fewer are left, so that
# even the rarest symbol keeps at least 2^8 values.
_TOP = 1 << 32
_REFILL = 1 << 24


class RangeEncoder:
    """Symbols to bytes.

    Example:
        >>> encoder = RangeEncoder()
        >>> for start, frequency in ((0, 60_000), (0, 60_000), (60_000, 5_536)):
        ...     encoder.encode(start, frequency)
        >>> encoder.finish().hex()
        'c5'
    """

    def __init__(self) -> None:
        self._low = 0
        self._range = _TOP
        self._bytes = bytearray()

    def encode(self, start: int, frequency: int) -> None:
        """Encode one symbol.

        Args:
            start: sum of the frequencies of all symbols before it.
            frequency: its frequency, above 0.
        """
        unit = self._range >> TOTAL_BITS
        self._low += unit * start
        self._range = unit * frequency
        if self._low >= _TOP:
            self._low -= _TOP
            self._carry()
        while self._range <= _REFILL:
            self._bytes.append(self._low >> 24)
            self._low = (self._low << 8) & (_TOP - 1)
            self._range <<= 8

    def finish(self) -> bytes:
        """The fewest bytes that stand for all symbols; zeros follow them in thought."""
        for num_bytes in range(5):
            # The smallest number with so many leading bytes in the interval, zeros after them.
            unit = 1 << (32 - 8 * num_bytes)
            number = -(-self._low // unit) * unit
            if number < self._low + self._range:
                break
        if number >= _TOP:
            number -= _TOP
            self._carry()
        self._bytes += number.to_bytes(4, "big")[:num_bytes]
        return bytes(self._bytes).rstrip(b"\0")

    def _carry(self) -> None:
        """Add one to the number that the bytes so far are."""
        position = len(self._bytes) - 1
        while self._bytes[position] == 0xFF:
            self._bytes[position] = 0
            position -= 1
        self._bytes[position] += 1


class RangeDecoder:
    """Bytes to symbols, the inverse of `RangeEncoder`.

    Any bytes decode to some symbols: damage is found by the checksums of the format.

    Example:
        >>> decoder = RangeDecoder(bytes.fromhex("c5"))
        >>> [decoder.decode([60_000, 65_536]) for _ in range(3)]
        [0, 0, 1]
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 4
        self._range = _TOP
        # Relative to the lower end of the interval.
        self._number = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def decode(self, ends: list[int]) -> int:
        """The next symbol.

        Args:
            ends: sums of the frequencies of all symbols up to and with each one; the last is
                `TOTAL`.
        """
        unit = self._range >> TOTAL_BITS
        # The remainder of the division of the interval belongs to the last symbol.
        symbol = bisect_right(ends, self._number // unit, 0, len(ends) - 1)
        start = ends[symbol - 1] if symbol else 0
        self._number -= unit * start
        self._range = unit * (ends[symbol] - start)
        while self._range <= _REFILL:
            byte = self._data[self._position] if self._position < len(self._data) else 0
            self._number = self._number << 8 | byte
            self._range <<= 8
            self._position += 1
        return symbol
