"""Payloads of a stream: codes to the bytes of packets and back, plain or with a context model.

A packet with the first codes of earlier frames begins with a byte that says how many: the number of
those frames times 16, plus the number of codebooks of the newest of them less one (`layout` gives
those of the others). All frames follow as if they were one packet of frames with different numbers
of codes, the oldest first. So the context model knows the earlier frames when it codes the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from codec.arrays import Codes
from codec.bitrate import ceil_div
from codec.entropy.coding import decode_packets, encode_packets
from codec.entropy.context import NO_CODE, Bytes, ContextModel
from codec.errors import FormatError
from codec.format import bitpack
from codec.format.container import Coding, Header, Packet
from codec.format.payload import pack_codes, unpack_codes
from codec.threads import in_threads

MAX_FRAMES = 15
"""Most redundant frames in a packet."""
MAX_EARLIER_CODEBOOKS = 16
"""Most codebooks of one of them."""
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
        self._state: Bytes | None = None
        frames = CHAIN_SECONDS * header.sample_rate / header.hop_length
        self._chain = max(1, int(frames / header.frames_per_packet))
        self._chained = 0  # packets since the last one that depends on no other

    def encode(self, codes: Codes) -> tuple[bytes, Coding | None]:
        """The payload of codes ``[G, K, T]``, and how it is written: whatever is shorter.

        In a variable stream codes may be `NO_CODE`, and are never written plain.
        """
        plain = b"" if self._header.variable else pack_codes(codes, self._header)
        if self._context is None:
            return plain, None if self._header.format == 1 else Coding.PLAIN
        state = self._state if self._header.chained and self._chained < self._chain else None
        begins = state is None
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
                state = self._context.state_after(codes)
            self._state, self._chained = state, 1
            return plain, Coding.PLAIN
        self._state, self._chained = state, 1 if begins else self._chained + 1
        # A decoder reads zeros after the end, and refuses a file of too many frames in few bytes.
        coded = coded.ljust(self._header.least_payload(codes.shape[2]), b"\0")
        return coded, Coding.CODED if begins else Coding.CHAINED

    def encode_with_earlier(self, codes: Codes, earlier: Codes) -> tuple[bytes, Coding, float]:
        """The payload of one frame and of some frames before it.

        Args:
            codes: ``[G, K, 1]``.
            earlier: ``[G, k, n]``, the oldest frame first, `NO_CODE` where one is absent; from
                `RedundancyControl`, at least one frame, of whole codebooks.

        Returns:
            The payload, how it is written, and the bits that the earlier codes took of it.
        """
        header, (channels, most, frames) = self._header, earlier.shape
        head = bytes([frames << 4 | (header.codebooks_of(most) - 1)])
        present = earlier >= 0
        widths = np.broadcast_to(header.bits[:most], (channels, most))
        flat = [*(earlier[:, :, t][present[:, :, t]] for t in range(frames)), codes.reshape(-1)]
        bits = [*(widths[present[:, :, t]] for t in range(frames)), header.bits * channels]
        plain = head
        if not header.variable:
            plain += bitpack.pack(np.concatenate(flat), np.concatenate(bits))
        if self._context is not None:
            absent = header.num_codes() - most
            padded = np.pad(earlier, ((0, 0), (0, absent), (0, 0)), constant_values=NO_CODE)
            of_frames = np.empty((1, frames + 1))
            (coded,), _ = encode_packets(
                self._context,
                np.concatenate((padded, codes), axis=2)[None],
                variable=header.variable,
                bits=of_frames,
            )
            if header.variable or len(head + coded) < len(plain):
                taken = float(of_frames[0, :frames].sum())
                return head + coded, Coding.CODED_WITH_EARLIER, taken
        return plain, Coding.PLAIN_WITH_EARLIER, float(sum(each.sum() for each in bits[:-1]))

    def encode_noise(self, codes: Codes) -> bytes:
        """The payload of a packet of comfort noise.

        Args:
            codes: ``[G, k, n]`` of the packet's own frame and the frames before it, the oldest
                first; 16 at most, of 16 whole codebooks at most.
        """
        _, count, frames = codes.shape
        head = bytes([(frames - 1) << 4 | (self._header.codebooks_of(count) - 1)])
        return head + bitpack.pack(codes.transpose(2, 0, 1), self._header.bits[:count])


class PayloadDecoder:
    """The inverse of `PayloadEncoder`.

    Args:
        header: of the stream.
        context: the context model that it names; None in format 1.
        threads: threads among which many packets are divided.
    """

    def __init__(self, header: Header, context: ContextModel | None, *, threads: int = 1) -> None:
        self._header, self._context, self._threads = header, context, threads
        self._state: Bytes | None = None
        self._last: tuple[Packet, list[Codes]] | None = None

    def lost(self) -> None:
        """A packet did not arrive: the next one must depend on no other."""
        self._state = None

    def decode(self, packets: Sequence[Packet]) -> list[Codes | None]:
        """Codes ``[G, K, T]`` of packets that follow one another.

        Packets that do not depend on each other are decoded side by side, which is much faster than
        one after the other. None stands for a packet that depends on one that was lost.

        Raises:
            FormatError: a packet does not fit the header.
        """
        if self._header.chained:
            return [self._next(packet) for packet in packets]
        coded = [(each.payload, each.num_frames) for each in packets if each.coding == Coding.CODED]
        # A thread decodes eight packets at least, as they take less time side by side.
        size = max(8, ceil_div(len(coded), self._threads))
        groups = [coded[start : start + size] for start in range(0, len(coded), size)]
        decoded = chain(*in_threads(lambda group: self._decode(group)[0], groups, self._threads))
        return [
            next(decoded) if packet.coding == Coding.CODED else self._alone(packet)
            for packet in packets
        ]

    def decode_earlier(self, packet: Packet, age: int) -> Codes | None:
        """The first codes ``[G, k, 1]`` of an earlier frame.

        Args:
            packet: any packet.
            age: number of frames before the packet's own, from 1.

        Returns:
            The codes; None if the packet does not have them.

        Raises:
            FormatError: the packet does not fit the header.
        """
        if packet.coding is None or not packet.coding.has_earlier:
            return None
        *earlier, _ = self._frames(packet)
        return earlier[-age] if 1 <= age <= len(earlier) else None

    def decode_noise(self, packet: Packet) -> Codes:
        """Codes ``[G, k, n]`` of a packet of comfort noise, the oldest frame first.

        Raises:
            FormatError: the packet does not fit the header.
        """
        header, payload = self._header, packet.payload
        head = payload[0] if payload else 0
        frames, codebooks = (head >> 4) + 1, (head & 15) + 1
        bits = header.bits[: header.num_codes(codebooks)]
        widths = np.broadcast_to(bits, (frames, header.num_groups(header.channels), len(bits)))
        fits = header.dtx and packet.num_frames == 1 and codebooks <= header.num_codebooks
        if not fits or len(payload) != 1 + bitpack.packed_size(widths):
            raise FormatError("a packet of comfort noise does not fit the stream's header")
        return bitpack.unpack(payload[1:], widths).transpose(1, 2, 0)

    def _alone(self, packet: Packet) -> Codes:
        """Codes of a plain packet, or of the own frame of one with other frames."""
        if packet.coding == Coding.COMFORT_NOISE:
            return self.decode_noise(packet)[:, :, -1:]
        if packet.coding is not None and packet.coding.has_earlier:
            return self._frames(packet)[-1]
        return unpack_codes(packet.payload, packet.num_frames, self._header)

    def _frames(self, packet: Packet) -> list[Codes]:
        """Codes of earlier frames, the oldest first, and of the packet's own frame."""
        if self._last is not None and self._last[0] is packet:
            return self._last[1]  # what brings back several lost frames is decoded once
        header, payload = self._header, packet.payload
        groups, codebooks = header.num_groups(header.channels), earlier_counts(packet)[::-1]
        fits = packet.num_frames == 1 and header.can_have_earlier
        if not fits or not codebooks or max(codebooks) > header.num_codebooks:
            raise FormatError("a packet with earlier frames does not fit the stream's header")
        most = header.num_codes()
        counts = [*map(header.num_codes, codebooks), most]
        if packet.coding == Coding.PLAIN_WITH_EARLIER:
            widths = np.concatenate([header.bits[:count] * groups for count in counts])
            if len(payload) != 1 + bitpack.packed_size(widths) or header.variable:
                raise FormatError(
                    f"a packet with {len(counts) - 1} earlier frames in {len(payload)} bytes "
                    "does not fit the stream's header"
                )
            flat = bitpack.unpack(payload[1:], widths)
            ends = np.cumsum([groups * each for each in counts])[:-1]
            frames = [each.reshape(groups, -1, 1) for each in np.split(flat, ends)]
        else:
            numbers = [most] * len(counts) if header.variable else counts
            (codes,), _ = self._decode([(payload[1:], len(counts))], num_codebooks=numbers)
            frames = [codes[:, :each, t : t + 1] for t, each in enumerate(counts)]
        self._last = packet, frames
        return frames

    def _next(self, packet: Packet) -> Codes | None:
        """Codes of the next packet of a chained stream."""
        if packet.coding not in (Coding.PLAIN, Coding.CODED, Coding.CHAINED):
            raise FormatError("a packet with several frames does not fit a chained stream")
        if packet.coding == Coding.PLAIN:
            plain = unpack_codes(packet.payload, packet.num_frames, self._header)
            assert self._context is not None
            self._state = self._context.state_after(plain)
            return plain
        if packet.coding == Coding.CHAINED and self._state is None:
            return None
        state = self._state if packet.coding == Coding.CHAINED else None
        (codes,), self._state = self._decode([(packet.payload, packet.num_frames)], state)
        return codes

    def _decode(
        self,
        packets: Sequence[tuple[bytes, int]],
        state: Bytes | None = None,
        num_codebooks: int | Sequence[int] | None = None,
    ) -> tuple[list[Codes], Bytes]:
        """Codes of payloads with their numbers of frames, and the state after them."""
        if self._context is None:
            raise FormatError("a packet is coded, but its stream names no context model")
        return decode_packets(
            self._context,
            packets,
            self._header.channels,
            self._header.num_codebooks if num_codebooks is None else num_codebooks,
            state,
            segments=self._header.segments,
            variable=self._header.variable,
            pauses=self._header.pauses,
        )


def earlier_counts(packet: Packet) -> tuple[int, ...]:
    """Codebooks of the earlier frames in a packet, the newest first; none in most packets.

    Example:
        >>> earlier_counts(Packet(4, 1, bytes([0x22]), coding=Coding.PLAIN_WITH_EARLIER))
        (3, 2)
    """
    if packet.coding is None or not packet.coding.has_earlier or not packet.payload:
        return ()
    frames, newest = packet.payload[0] >> 4, (packet.payload[0] & 15) + 1
    return layout(frames, newest) if frames else ()


def layout(frames: int, newest: int) -> tuple[int, ...]:
    """Codebooks of earlier frames, the newest first: evenly fewer with age, at least one.

    Args:
        frames: number of earlier frames.
        newest: codebooks of the newest one.

    Example:
        >>> layout(frames=3, newest=6)
        (6, 4, 2)
    """
    return tuple(ceil_div(newest * (frames - age), frames) for age in range(frames))
