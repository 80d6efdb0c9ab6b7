"""The six laws: split invariance, the stream is enough, prefix, lengths, bytes, local damage."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from codec.format.container import Header, Packet, PacketReader
from codec.network.model import Codec
from codec.stream import StreamDecoder, StreamEncoder
from tests.conftest import GOLDEN, sound


def encode(
    codec: Codec,
    samples: np.ndarray,
    steps: Iterable[int],
    frames_per_packet: int = 3,
    **options: Any,
) -> tuple[Header, list[Packet]]:
    """Push ``samples`` in pieces of the lengths ``steps``, then the rest at once."""
    encoder = StreamEncoder(
        codec, channels=len(samples), frames_per_packet=frames_per_packet, **options
    )
    packets, start = [], 0
    for step in steps:
        packets += encoder.push(samples[:, start : start + step])
        start += step
    packets += encoder.push(samples[:, start:])
    return encoder.header, packets + encoder.finish()


def decode(codec: Codec, header: Header, packets: list[Packet], **options: Any) -> np.ndarray:
    decoder = StreamDecoder(codec, header, **options)
    return np.concatenate([decoder.push(packet) for packet in packets], axis=1)


def lengths(codec: Codec) -> list[int]:
    hop = codec.config.hop_length
    return [0, 1, hop - 1, hop, hop + 1, 7 * hop, 997]


# Law 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames_per_packet", [1, 4])
def test_bytes_do_not_depend_on_how_the_audio_was_pushed(
    codec: Codec, channels: int, frames_per_packet: int
) -> None:
    samples = sound(997, channels)
    _, whole = encode(codec, samples, [], frames_per_packet)
    for steps in ([1] * 997, [0, 13, 17, 0, 101, 499], [996]):
        _, pushed = encode(codec, samples, steps, frames_per_packet)
        assert [packet.to_bytes() for packet in pushed] == [p.to_bytes() for p in whole]


@pytest.mark.parametrize("step", [1, 3, 50])
def test_decoded_samples_do_not_depend_on_how_bytes_arrived(codec: Codec, step: int) -> None:
    header, packets = encode(codec, sound(997, 2), [])
    data = b"".join(packet.to_bytes() for packet in packets)
    reader, decoder, pieces = PacketReader(header), StreamDecoder(codec, header), []
    for start in range(0, len(data), step):
        for packet in reader.push(data[start : start + step]):
            assert isinstance(packet, Packet)
            pieces.append(decoder.push(packet))
    assert np.array_equal(np.concatenate(pieces, axis=1), decode(codec, header, packets))


def test_streamed_and_whole_agree(codec: Codec) -> None:
    """A near tie may fall either way in another block size, so this compares what is before it."""
    hop = codec.config.hop_length
    audio = torch.from_numpy(sound(24 * hop, 2))[:, None]
    latent, state = [], codec.encoder.init_state(2)
    for block in audio.split([hop, 6 * hop, 17 * hop], dim=-1):
        piece, state = codec.encoder(block.mT, state)
        latent.append(piece)
    torch.testing.assert_close(
        torch.cat(latent, 1), codec.encode_latent(audio), rtol=1e-4, atol=1e-4
    )

    codes = codec.encode(audio)
    pieces, state = [], codec.decoder.init_state(2)
    for part in codes.split([1, 6, 17], dim=-1):
        piece, state = codec.decode_step(part, state)
        pieces.append(piece)
    pieces.append(codec.flush_step(2, state))
    delay = codec.config.delay
    streamed = torch.cat(pieces, -1)[..., delay : delay + 24 * hop]
    torch.testing.assert_close(streamed, codec.decode(codes), rtol=1e-4, atol=1e-4)


def test_two_sessions_on_one_model_do_not_meet(codec: Codec) -> None:
    a, b = sound(500, seed=1), sound(500, seed=2)
    expected = [encode(codec, samples, [])[1] for samples in (a, b)]
    first, second = (
        StreamEncoder(codec, frames_per_packet=3),
        StreamEncoder(codec, frames_per_packet=3),
    )
    packets: tuple[list[Packet], list[Packet]] = ([], [])
    for start in range(0, 500, 50):
        packets[0].extend(first.push(a[:, start : start + 50]))
        packets[1].extend(second.push(b[:, start : start + 50]))
    assert [[*packets[0], *first.finish()], [*packets[1], *second.finish()]] == expected


# Law 2 (test_cli.py also decodes in a process that is told nothing but the file)


def test_a_header_names_everything_the_decoder_needs(codec: Codec) -> None:
    header, packets = encode(codec, sound(300), [])
    again = Header.from_bytes(header.to_bytes())
    parsed = [Packet.from_bytes(packet.to_bytes()) for packet in packets]
    assert np.array_equal(decode(codec, again, parsed), decode(codec, header, packets))


# Law 3


def test_the_first_codebooks_are_the_stream_of_a_lower_bitrate(codec: Codec) -> None:
    config, samples = codec.config, sound(997)
    header, packets = encode(codec, samples, [])
    full = codec.encode(torch.from_numpy(samples)[None])
    for count in range(1, config.num_codebooks + 1):
        bitrate = config.bitrate(count)
        low_header, low_packets = encode(codec, samples, [], bitrate=bitrate)
        assert low_header.num_codebooks == count
        from_low = decode(codec, low_header, low_packets)
        from_full = decode(codec, header, packets, bitrate=bitrate)
        assert np.array_equal(from_low, from_full)
        assert torch.equal(codec.encode(torch.from_numpy(samples)[None], count), full[:, :count])


# Law 4


@pytest.mark.parametrize("frames_per_packet", [1, 2, 50])
def test_frames_and_decoded_length_are_exact(codec: Codec, frames_per_packet: int) -> None:
    for num_samples in lengths(codec):
        samples = sound(num_samples, 2)
        header, packets = encode(codec, samples, [num_samples // 3], frames_per_packet)
        num_frames = sum(packet.num_frames for packet in packets)
        assert num_frames == -(-num_samples // codec.config.hop_length)
        assert packets[-1].num_samples == num_samples
        assert decode(codec, header, packets).shape == (2, num_samples)


def test_whole_audio_of_any_length_comes_back_as_long(codec: Codec) -> None:
    for num_samples in lengths(codec):
        codes = codec.encode(torch.from_numpy(sound(num_samples))[None])
        num_frames = codec.config.num_frames(num_samples)
        assert codes.shape == (1, codec.config.num_codebooks, num_frames)
        assert codec.decode(codes, num_samples).shape == (1, 1, num_samples)


# Law 5


def test_golden_streams_hold_the_codes_they_always_held() -> None:
    """If this fails, either it is a bug or the format version must move with it."""
    from codec.format import bitpack

    facts = json.loads((GOLDEN / "golden.json").read_text())
    assert facts
    for name, expected in facts.items():
        data = (GOLDEN / name).read_bytes()
        header = Header.from_bytes(data)
        packets = list(PacketReader(header).push(data[Header.SIZE :]))
        shape = (header.channels, header.num_codebooks)
        codes = []
        for packet in packets:
            assert isinstance(packet, Packet)
            count = packet.num_frames * header.channels * header.num_codebooks
            flat = bitpack.unpack(packet.payload, header.bits_per_code, count)
            codes += flat.reshape(-1, *shape).tolist()
        assert codes == expected["codes"]
        assert isinstance(packets[-1], Packet)
        assert packets[-1].num_samples == expected["num_samples"]
        rebuilt = header.to_bytes() + b"".join(p.to_bytes() for p in packets)  # type: ignore[union-attr]
        assert rebuilt == data


# Law 6


def test_a_lost_packet_costs_its_time_and_a_warm_up(codec: Codec) -> None:
    hop, lost = codec.config.hop_length, 10
    header, packets = encode(codec, sound(120 * hop), [], frames_per_packet=2)
    expected = decode(codec, header, packets)
    decoder, pieces = StreamDecoder(codec, header), []
    for number, packet in enumerate(packets):
        pieces.append(decoder.lost() if number == lost else decoder.push(packet))
    concealed = np.concatenate(pieces, axis=1)
    assert concealed.shape == expected.shape
    delay = codec.config.delay
    start = lost * 2 * hop - delay
    assert np.array_equal(concealed[:, :start], expected[:, :start])
    assert not np.array_equal(
        concealed[:, start : start + 2 * hop], expected[:, start : start + 2 * hop]
    )
    # The network's memory is finite, and the gain is back at one.
    warm = start + 60 * hop
    np.testing.assert_allclose(concealed[:, warm:], expected[:, warm:], atol=1e-5)


def test_concealment_does_not_click(codec: Codec) -> None:
    """No jump between samples is larger than the signal's own largest, wherever a loss begins."""
    hop = codec.config.hop_length
    header, packets = encode(codec, sound(60 * hop), [], frames_per_packet=1)
    largest = np.abs(np.diff(decode(codec, header, packets))).max()
    for lost in (10, 11, 17):
        decoder, pieces = StreamDecoder(codec, header), []
        for number, packet in enumerate(packets):
            gone = lost <= number < lost + 4
            pieces.append(decoder.lost() if gone else decoder.push(packet))
        assert np.abs(np.diff(np.concatenate(pieces, axis=1))).max() <= 1.1 * largest


def test_a_stream_that_ends_in_a_loss_does_not_click(codec: Codec) -> None:
    """A slow sine has small steps, so a jump would show."""
    hop = codec.config.hop_length
    sine = 0.5 * np.sin(np.arange(40 * hop) / hop)[None].astype(np.float32)
    header, packets = encode(codec, sine, [], frames_per_packet=1)
    largest = np.abs(np.diff(decode(codec, header, packets))).max()
    for num_lost in (1, 3, 30):
        decoder = StreamDecoder(codec, header)
        pieces = [decoder.push(packet) for packet in packets[: 40 - num_lost]]
        pieces += [decoder.lost(num_lost), decoder.push(packets[-1])]
        heard = np.concatenate(pieces, axis=1)
        assert heard.shape == sine.shape
        assert np.abs(np.diff(heard)).max() <= 1.3 * largest


def test_a_long_loss_fades_to_silence(codec: Codec) -> None:
    header, packets = encode(codec, sound(400), [], frames_per_packet=1)
    decoder = StreamDecoder(codec, header)
    for packet in packets[:5]:
        decoder.push(packet)
    assert np.abs(decoder.lost(500)[:, -codec.config.hop_length :]).max() == 0
