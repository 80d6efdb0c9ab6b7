"""Decode damaged packets: any outcome is right except an error that is not a `CodecError`.

    python benchmarks/fuzz.py [--packets 1000000] [--seed 0]

Packets of streams of each kind are damaged in two ways: their payloads with a correct checksum, as
if by someone who forges them, and the bytes of whole streams, which the checksums must find. The
context model is a small random one. An unexpected error ends the run with its traceback; the seed
repeats it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from codec.entropy.context import ContextModel, ContextShape
from codec.entropy.payload import MAX_FRAMES, PayloadDecoder, earlier_counts, layout
from codec.errors import CodecError
from codec.format.bitpack import packed_size
from codec.format.container import (
    CODED_FORMAT,
    MAX_EARLIER,
    Coding,
    Gap,
    Header,
    Packet,
    PacketReader,
)

SHAPE = ContextShape(4, 64, 3, width=8, hidden=6, dilations=(1, 2))
TOGETHER = 512
"""Packets that are decoded side by side."""


def small_context(rng: np.random.Generator) -> ContextModel:
    """A context model of random small integers."""
    tensors = {
        name: rng.integers(-25, 26, size).astype(np.int32) for name, size in SHAPE.tensors.items()
    }
    orders = [rng.permutation(SHAPE.codebook_size) for _ in range(SHAPE.num_codebooks)]
    return ContextModel(SHAPE, tensors | {"order": np.stack(orders)}, b"smallest")


def headers() -> list[Header]:
    """Streams of each kind."""
    plain = Header(
        channels=2,
        num_codebooks=4,
        bits_per_code=6,
        frames_per_packet=6,
        sample_rate=8_000,
        original_sample_rate=8_000,
        hop_length=160,
        fingerprint=bytes(16),
    )
    coded = replace(plain, context=b"smallest")
    variable = replace(coded, variable=True)
    single = replace(plain, frames_per_packet=1, format=2)
    return [
        plain,
        coded,
        replace(coded, segments=3),
        replace(coded, chained=True),
        variable,
        replace(variable, chained=True),
        replace(variable, segments=2, pauses=True),
        single,
        replace(single, context=coded.context),
        replace(single, context=coded.context, variable=True),
    ]


def random_packet(rng: np.random.Generator, header: Header, number: int) -> Packet:
    """A packet of random bytes of a size that the header allows, mostly of the right form."""
    full = header.frames_per_packet
    num_frames = full if rng.random() < 0.9 else int(rng.integers(0, full + 1))
    coding = None
    if header.format == CODED_FORMAT:
        kinds = [Coding.CODED] * bool(header.context) + [Coding.PLAIN] * (not header.variable)
        kinds += [Coding.CHAINED] * header.chained
        if header.can_have_earlier:
            kinds += [Coding(kind + Coding.PLAIN_WITH_EARLIER) for kind in kinds]
        coding = kinds[rng.integers(len(kinds))]
    size, most = header.payload_size(num_frames), header.max_payload(num_frames)
    if coding in (Coding.CODED, Coding.CHAINED) or rng.random() < 0.05:
        size = int(rng.integers(0, most + 1))
    head = b""
    if coding is not None and coding.has_earlier:
        frames, newest = int(rng.integers(1, MAX_FRAMES + 1)), int(rng.integers(1, 5))
        head = bytes([frames << 4 | (newest - 1)])
        codes = header.channels * (header.num_codebooks + sum(layout(frames, newest)))
        size = packed_size(header.bits_per_code, codes)
        if coding == Coding.CODED_WITH_EARLIER or rng.random() < 0.05:
            size = int(rng.integers(0, most + MAX_EARLIER * header.channels))
    # Runs of zeros and ones lead to the ends of intervals.
    kind = rng.random()
    payload = rng.bytes(size) if kind < 0.8 else bytes([0 if kind < 0.9 else 255]) * size
    payload = head + payload if rng.random() < 0.95 else payload
    return Packet(number % header.sequence_count, num_frames, payload, None, coding)


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """A stream with some bytes flipped, cut out, repeated or put in."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 20))):
        place = int(rng.integers(len(found) + 1))
        length = int(rng.integers(1, 40))
        kind = rng.integers(4)
        if kind == 0 and place < len(found):
            found[place] ^= int(rng.integers(1, 256))
        elif kind == 1:
            del found[place : place + length]
        elif kind == 2:
            found[place:place] = found[place : place + length]
        else:
            found[place:place] = rng.bytes(length)
    return bytes(found)


def decode(header: Header, context: ContextModel, packets: list[Packet]) -> int:
    """Decode packets; the number of those that were refused."""
    if header.chained:
        return decode_together(header, context, packets)
    # Side by side where it saves time: one that does not fit makes the others wait.
    coded = [packet for packet in packets if packet.coding == Coding.CODED]
    others = [[packet] for packet in packets if packet.coding != Coding.CODED]
    return sum(decode_together(header, context, each) for each in [coded, *others])


def decode_together(header: Header, context: ContextModel, packets: list[Packet]) -> int:
    """Decode packets with one decoder, and in halves if one does not fit."""
    decoder = PayloadDecoder(header, context if header.context else None)
    try:
        found = decoder.decode(packets)
    except CodecError:
        if len(packets) == 1:
            return 1
        half = len(packets) // 2
        return sum(
            decode_together(header, context, each) for each in (packets[:half], packets[half:])
        )
    for packet in packets:
        for age in range(1, 1 + len(earlier_counts(packet))):
            assert decoder.decode_earlier(packet, age) is not None
    for packet, codes in zip(packets, found, strict=True):
        if codes is not None:
            shape = (header.channels, header.num_codebooks, packet.num_frames)
            assert codes.shape == shape, (codes.shape, shape)
            assert codes.max(initial=0) < 1 << header.bits_per_code
            assert codes.min(initial=0) >= (-1 if header.variable else 0)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    context, kinds = small_context(rng), headers()
    began, done, refused, gaps, rounds = time.monotonic(), 0, 0, 0, 0
    while done < arguments.packets:
        header = kinds[rounds % len(kinds)]
        together = TOGETHER if not header.chained else TOGETHER // 16
        packets = [random_packet(rng, header, number) for number in range(together)]
        refused += decode(header, context, packets)
        reader = PacketReader(header)
        data = damaged(rng, b"".join(packet.to_bytes() for packet in packets))
        survivors: list[Packet] = []
        try:
            for item in [*reader.push(data), *reader.finish()]:
                if isinstance(item, Gap):
                    gaps += 1
                else:
                    survivors.append(item)
        except CodecError:
            refused += 1
        refused += decode(header, context, survivors)
        done += len(packets) + len(survivors)
        rounds += 1
        if rounds % 10 == 0:
            print(f"{done} packets, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{done} packets decoded, {refused} of them refused, {gaps} gaps, no other error")


if __name__ == "__main__":
    main()
