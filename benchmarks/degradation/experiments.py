"""All experiments; those with packet loss are in `packet_loss`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import align
from benchmarks.degradation.packet_loss import MEAN_BURSTS, packet_loss, strata_loss
from benchmarks.degradation.patterns import flip_bits
from benchmarks.degradation.subject import Subject, Trial
from codec.errors import FormatError
from codec.evaluation.metrics import rms
from codec.format.container import Gap, Header
from codec.format.reading import read_streams
from codec.session.decoder import StreamDecoder

SHOWN = ("pesq_wb", "stoi", "si_sdr", "mel")
SHOWN_OF_LOSS = ("pesq_wb", "plcmos", "visqol_speech", "stoi")
BIT_ERRORS = (0.0, 1e-5, 1e-4, 1e-3)
PACKET_SECONDS = (0.02, 0.2, 2.0)
SNRS = (20, 10, 0)
GENERATIONS = 3


def bit_errors(subject: Subject) -> Iterator[Trial]:
    """Our codec only, with short and long packets."""
    for seconds in PACKET_SECONDS:
        header, packets = subject.encode(seconds).content
        for rate in subject.conditions(BIT_ERRORS):
            rng = subject.random(int(1000 * seconds))
            damaged = flip_bits(b"".join(packets), rate, rng)
            decoded, lost = decode_damaged(subject.ours, header, damaged)
            if decoded is not None:
                decoded, _ = align(decoded, subject.audio, subject.sample_rate)
            facts = {"lost": 100 * lost, "unreadable": 100.0 * (decoded is None)}
            series = f"aecodec {1000 * seconds:g} ms"
            yield Trial(series, f"{rate:g}", decoded, subject.audio, facts)


def decode_damaged(ours: Aecodec, header: Header, data: bytes) -> tuple[np.ndarray | None, float]:
    """Decode a damaged stream as the command does.

    Args:
        ours: the codec.
        header: header of the stream.
        data: packets of the stream.

    Returns:
        ``[N]`` float32, or None if nothing can be decoded; and the share of lost packets.
    """
    decoder, pieces = StreamDecoder(header, ours.loaded), []
    stream = next(read_streams(io.BytesIO(header.to_bytes() + data)))
    summary = stream.summary
    try:
        for item in (item for batch in stream.batches for item in batch):
            if isinstance(item, Gap):
                pieces.append(decoder.lost(item.num_packets))
            else:
                pieces.append(decoder.push(item))
        if summary.num_samples is None:
            pieces.append(decoder.finish())
        decoded = np.concatenate(pieces, axis=1)[0]
    except FormatError:
        decoded = None
    return decoded, summary.num_lost / max(1, summary.num_lost + summary.num_packets)


def background_noise(subject: Subject) -> Iterator[Trial]:
    """Both codecs and the uncoded mixture, compared with the clean speech and the mixture."""
    for snr in subject.conditions(SNRS):
        wanted = rms(subject.audio) * 10 ** (-snr / 20)
        mixture = subject.audio + subject.noise * np.float32(wanted / rms(subject.noise))
        mixture /= max(1.0, float(np.abs(mixture).max()))  # to avoid clipping
        yield Trial("uncoded to clean", f"{snr}", mixture, subject.audio, {})
        for codec, bitrate in subject.contenders():
            decoded = codec.code(mixture, subject.sample_rate, bitrate).audio
            yield Trial(f"{codec.name} to clean", f"{snr}", decoded, subject.audio, {})
            yield Trial(f"{codec.name} to noisy", f"{snr}", decoded, mixture, {})


def tandem(subject: Subject) -> Iterator[Trial]:
    """Both codecs, each coding its own output again, shifted by a part of a frame every time."""
    hop = subject.ours.hop_length
    for codec, bitrate in subject.contenders():
        audio, rng = subject.audio, subject.random()
        for generation in range(1, GENERATIONS + 1):
            shift = int(rng.integers(1, hop))
            coded = codec.code(np.pad(audio, (shift, 0)), subject.sample_rate, bitrate)
            audio = coded.audio[shift:]
            yield Trial(codec.name, f"{generation}", audio, subject.audio, {})


class Experiment(NamedTuple):
    """An experiment and its presentation.

    Attributes:
        run: function that yields the trials of a subject.
        title: heading.
        condition: title of the x axis, with the unit.
        facts: titles of the facts of its trials, by name.
        shown: metrics that are shown.
        wide: whether each metric has a table with a column for each condition.
    """

    run: Callable[[Subject], Iterator[Trial]]
    title: str
    condition: str
    facts: dict[str, str]
    shown: tuple[str, ...] = SHOWN
    wide: bool = False


EXPERIMENTS = {
    "loss" if burst is None else f"bursts_{burst:g}": Experiment(
        partial(packet_loss, mean_burst=burst),
        f"Packet loss {'at random' if burst is None else f'in bursts of {burst:g} on average'}",
        "packets lost (%)",
        {"payload": "payload, kbit/s", "lost": "actually lost, %"},
        SHOWN_OF_LOSS,
        wide=True,
    )
    for burst in MEAN_BURSTS
} | {
    "strata": Experiment(
        strata_loss,
        "Packet loss in bursts of some length",
        "length of bursts (ms)",
        {"payload": "payload, kbit/s", "lost": "actually lost, %"},
        SHOWN_OF_LOSS,
        wide=True,
    ),
    "bit_errors": Experiment(
        bit_errors,
        "Bit errors",
        "bit error rate",
        {"lost": "packets lost, %", "unreadable": "files unreadable, %"},
    ),
    "noise": Experiment(background_noise, "Background noise", "signal-to-noise ratio (dB)", {}),
    "tandem": Experiment(tandem, "Tandem coding", "generation", {}),
}
