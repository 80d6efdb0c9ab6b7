"""Payloads of a stream: codes to the bytes of packets and back, plain or with a context model."""

from __future__ import annotations

from collections.abc import Sequence

from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import ContextModel, ContextState
from codec.format.container import Coding, Header, Packet
from codec.format.payload import Codes, pack_codes, unpack_codes

CHAIN_SECONDS = 1.0
"""In a chained stream a packet that depends on no other follows at least this often."""


class PayloadEncoder:
    """Codes of one packet after another to bytes.

    Args:
        header: of the stream.
        context: the context model that it names; None in format 1.
    """

    def __init__(self, header: Header, context: ContextModel | None) -> None:
        self._header, self._context = header, context
        self._state: ContextState | None = None
        frames = CHAIN_SECONDS * header.sample_rate / header.hop_length
        self._chain = max(1, int(frames / header.frames_per_packet))
        self._chained = 0  # packets since the last one that depends on no other

    def encode(self, codes: Codes) -> tuple[bytes, Coding | None]:
        """The payload of codes ``[C, K, T]``, and how it is written: whatever is shorter.

        In a variable stream codes may be `NO_CODE`, and are never written plain.
        """
        plain = b"" if self._header.variable else pack_codes(codes, self._header)
        if self._context is None:
            return plain, None if self._header.format == 1 else Coding.PLAIN
        begins = not self._header.chained or self._state is None or self._chained >= self._chain
        state = None if begins else self._state
        (coded,), state = encode_packets(
            self._context,
            codes[None],
            state,
            segments=self._header.segments,
            variable=self._header.variable,
            pauses=self._header.pauses,
        )
        if len(coded) >= len(plain) and not self._header.variable:
            if not begins:  # a decoder remembers a plain packet alone
                _, state = encode_packets(self._context, codes[None])
            self._state, self._chained = state, 1
            return plain, Coding.PLAIN
        self._state, self._chained = state, 1 if begins else self._chained + 1
        return coded, Coding.CODED if begins else Coding.CHAINED


class PayloadDecoder:
    """The inverse of `PayloadEncoder`.

    Args:
        header: of the stream.
        context: the context model that it names; None in format 1.
    """

    def __init__(self, header: Header, context: ContextModel | None) -> None:
        self._header, self._context = header, context
        self._state: ContextState | None = None

    def lost(self) -> None:
        """A packet did not arrive: the next one must depend on no other."""
        self._state = None

    def decode(self, packets: Sequence[Packet]) -> list[Codes | None]:
        """Codes ``[C, K, T]`` of packets that follow one another.

        Packets that do not depend on each other are decoded side by side, which is much faster than
        one after the other. None stands for a packet that depends on one that was lost.

        Raises:
            FormatError: a packet does not fit the header.
        """
        if self._header.chained:
            return [self._next(packet) for packet in packets]
        coded = [packet for packet in packets if packet.coding == Coding.CODED]
        decoded = iter(self._decode(coded)[0] if coded else ())
        return [
            next(decoded)
            if packet.coding == Coding.CODED
            else unpack_codes(packet.payload, packet.num_frames, self._header)
            for packet in packets
        ]

    def _next(self, packet: Packet) -> Codes | None:
        """Codes of the next packet of a chained stream."""
        if packet.coding == Coding.PLAIN:
            plain = unpack_codes(packet.payload, packet.num_frames, self._header)
            assert self._context is not None
            _, self._state = encode_packets(self._context, plain[None])
            return plain
        if packet.coding == Coding.CHAINED and self._state is None:
            return None
        state = self._state if packet.coding == Coding.CHAINED else None
        (codes,), self._state = self._decode([packet], state)
        return codes

    def _decode(
        self, packets: Sequence[Packet], state: ContextState | None = None
    ) -> tuple[list[Codes], ContextState]:
        assert self._context is not None
        header = self._header
        return decode_packets(
            self._context,
            [packet.payload for packet in packets],
            [packet.num_frames for packet in packets],
            header.channels,
            header.num_codebooks,
            state,
            segments=header.segments,
            variable=header.variable,
            pauses=header.pauses,
        )
