"""Packet loss: both codecs, without and with redundancy, and the same packets lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.contenders.base import Encoded, align
from benchmarks.contenders.ffmpeg import Opus
from benchmarks.degradation.patterns import burst_pattern, loss_pattern
from benchmarks.degradation.subject import Subject, Trial
from benchmarks.shared.resampling import resample
from codec.rate.redundancy import Redundancy

LOSSES = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
STRATA = {"up to 120": (1, 6), "120 to 320": (7, 16), "over 320": (17, 50)}
"""Shortest and longest bursts in packets, by what is said of them in ms."""
STRATA_LOSS = 0.1
MEAN_BURSTS = (None, 1.0, 2.0, 4.0)
"""Packets; None for losses that do not depend on each other."""
LOSS_BITRATES = (6_000, 9_000)
"""In bits per second, ours: of all codes, redundancy included."""
OPUS_LOSS_BITRATES = (9_000, 12_000)
OPUS_TWICE_BITRATE = 12_000


def packet_loss(subject: Subject, mean_burst: float | None = None) -> Iterator[Trial]:
    """Losses at random or in bursts, of up to 30 % of the packets."""
    most = num_packets(subject)
    for rate in subject.conditions(LOSSES if mean_burst is None else LOSSES[1:]):
        lost = loss_pattern(rate, mean_burst, most, subject.random(round(mean_burst or 0)))
        yield from lossy(subject, lost, rate, f"{100 * rate:g}")


def strata_loss(subject: Subject) -> Iterator[Trial]:
    """Losses in bursts of some range of lengths."""
    for number, (condition, lengths) in enumerate(STRATA.items()):
        lost = burst_pattern(STRATA_LOSS, *lengths, num_packets(subject), subject.random(number))
        yield from lossy(subject, lost, STRATA_LOSS, condition)


def num_packets(subject: Subject) -> int:
    """Packets of one frame of ours or 20 ms of Opus, and some for delays."""
    return 3 + len(subject.audio) // min(subject.ours.hop_length, subject.sample_rate // 50)


def lossy(subject: Subject, lost: np.ndarray, expected: float, condition: str) -> Iterator[Trial]:
    """Both codecs, without and with redundancy, and the same packets lost.

    Args:
        subject: the recording.
        lost: ``[num_packets]`` booleans.
        expected: share of lost packets for which the redundancy is chosen.
        condition: of the trials.
    """
    kbits = subject.sample_rate / len(subject.audio) / 1000
    decoded: dict[str, tuple[float, np.ndarray]] = {}
    low, high = (f"aecodec {bitrate / 1000:g}" for bitrate in LOSS_BITRATES)
    for name, bitrate, redundancy in (
        (low, LOSS_BITRATES[0], None),
        (high, LOSS_BITRATES[1], None),
        (f"{high} with redundancy", LOSS_BITRATES[1], Redundancy.for_loss(expected)),
    ):
        encoded = encode_within(subject, bitrate, redundancy)
        audio = subject.ours.decode_with_losses(encoded, lost)
        decoded[name] = encoded.payload_bits, audio
    # In bursts of 20 ms the copy of a packet is lost if the next packet is.
    both = lost & np.append(lost[1:], False)
    rates: list[tuple[int, str, float | None, np.ndarray]] = [
        *((bitrate, "", None, lost) for bitrate in OPUS_LOSS_BITRATES),
        *((bitrate, " with FEC", expected, lost) for bitrate in OPUS_LOSS_BITRATES),
        (OPUS_TWICE_BITRATE, " sent twice", None, both),
    ]
    for bitrate, variant, fec, gone in rates:
        times = 2 if gone is both else 1
        opus = Opus(expected_loss=fec)
        plain = f"opus {bitrate / 1000:g}"
        encoded = encode_opus(subject, opus, bitrate // times, fec)
        # Where nothing is recovered it is the same sound, which is decoded and measured once.
        if fec is not None and same_packets(subject, encoded, bitrate):
            decoded[plain + variant] = decoded[plain]
            continue
        audio = opus.decode_with_losses(encoded, gone)
        audio = resample(audio, opus.sample_rate, subject.sample_rate)
        decoded[plain + variant] = times * encoded.payload_bits, audio
    aligned: dict[int, np.ndarray] = {}
    for name, (bits, audio) in decoded.items():
        if id(audio) not in aligned:
            aligned[id(audio)], _ = align(audio, subject.audio, subject.sample_rate)
        facts = {"payload": kbits * bits, "lost": 100 * float(lost.mean())}
        yield Trial(name, condition, aligned[id(audio)], subject.audio, facts)


def encode_opus(subject: Subject, opus: Opus, bitrate: int, fec: float | None) -> Encoded:
    """The packets of Opus, made once."""
    key = "opus", bitrate, fec
    if key not in subject.streams:
        audio = resample(subject.audio, subject.sample_rate, opus.sample_rate)
        subject.streams[key] = opus.encode(audio, bitrate)
    return subject.streams[key]


def same_packets(subject: Subject, encoded: Encoded, bitrate: int) -> bool:
    """Whether packets with forward error correction carry none."""
    plain = encode_opus(subject, Opus(), bitrate, None)
    same: bool = encoded.content.packets == plain.content.packets
    return same


def encode_within(subject: Subject, bitrate: int, redundancy: Redundancy | None = None) -> Encoded:
    """The stream in packets of one frame with the most codebooks whose payload is in ``bitrate``.

    Entropy coding makes room for more codebooks, redundancy for fewer.
    """
    key = "aecodec", bitrate, redundancy
    if key not in subject.streams:
        subject.streams[key] = _largest_within(subject, bitrate, redundancy)
    return subject.streams[key]


def _largest_within(subject: Subject, bitrate: int, redundancy: Redundancy | None) -> Encoded:
    ours, offered = subject.ours, subject.ours.bitrates()

    def encode(count: int) -> Encoded:
        nominal = offered[count - 1]
        return ours.encode(subject.audio, nominal, frames_per_packet=1, redundancy=redundancy)

    def fits(encoded: Encoded) -> bool:
        return encoded.payload_bits * subject.sample_rate <= bitrate * len(subject.audio)

    left = float(bitrate - (redundancy.bitrate if redundancy else 0))
    count = max(1, sum(each <= left for each in offered))
    encoded = encode(count)
    while not fits(encoded) and count > 1:  # whole bytes, and one that says what is redundant
        count -= 1
        encoded = encode(count)
    for more in range(count + 1, len(offered) + 1):
        larger = encode(more)
        if not fits(larger):
            break
        encoded = larger
    return encoded
