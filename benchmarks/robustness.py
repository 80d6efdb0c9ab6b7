"""Robustness to packet loss, bit errors, background noise and tandem coding.

    pip install -e ".[bench]"
    python benchmarks/robustness.py --quick
    python benchmarks/robustness.py --data DIR [--model M] [--every N] [--only NAME ...] [--out OUT]

Experiments with the speech recordings of a folder (class of sound "speech", see `aecodec
evaluate`), compared with Opus at the nearest bitrate where that makes sense; without --data, with
the bundled recording. Prints Markdown tables of means; with --out, writes all figures of every file
to robustness.json and a plot of each experiment (PNG and SVG, with 95 % bootstrap confidence
intervals).

- Packet loss: packets of 20 ms, lost at random or in bursts of 1, 2 or 4 packets on average
  (Gilbert, 1960, and Elliott, 1963: a Markov chain with a state without losses and a state in which
  every packet is lost), the same packets for all. In "strata", 10 % of the packets are lost in
  bursts of up to 120 ms, of 140 to 320 ms, or of 340 ms to 1 s (Diener et al., arXiv:2204.05222).
  Ours at `LOSS_BITRATES`, and at the higher of them with a part of it for redundancy
  (`Redundancy.for_loss`), as if the receiver waited for it.
  Opus without and with in-band forward error correction for that loss, by libopus, which leaves it
  out below 14 to 20 kbit/s, depending on loss and bandwidth: then both have the same packets. As a
  redundancy that does work at such bitrates, "sent twice" has packets of half the bitrate, each of
  which is sent again with the next one (RFC 2198). Neither libopus here has deep redundancy.
- Bit errors: independent bit flips in the bytes of a stream after its header, which is then read as
  the command reads it: packets whose checksum fails are lost. Opus has no checksum of its own.
- Background noise: recordings of the class "sound" in the folder, or pink noise if there are none,
  at a signal-to-noise ratio over the clip. The decoded audio is compared with the clean speech and
  with the noisy mixture that was coded; "uncoded" compares the mixture with the clean speech.
- Tandem coding: decoded audio is coded again, with frames at other positions each time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from tqdm import tqdm

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Contender, Encoded, align
from benchmarks.contenders.ffmpeg import Opus
from benchmarks.shared import recordings
from benchmarks.shared.metrics import (
    METRICS,
    level_difference,
    mean_with_interval,
    pesq_wb,
    si_sdr,
    visqol_speech,
)
from benchmarks.shared.plots import COLOURS, Line, draw_lines, label_lines, new_figure, save
from benchmarks.shared.processes import run_in_processes
from benchmarks.shared.recordings import Recording
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.resampling import resample
from benchmarks.shared.tables import markdown_table
from codec.errors import CodecError, FormatError
from codec.format.container import Gap, Header
from codec.format.reading import read_packets
from codec.format.summary import StreamSummary
from codec.io.outputs import atomic_output
from codec.model_folder import DEFAULT_MODEL
from codec.quality.metrics import SILENCE, mel_distance, rms, short_time_intelligibility
from codec.quality.naturalness import can_rate_naturalness, plcmos
from codec.rate.redundancy import Redundancy
from codec.registry import load_model
from codec.session.decoder import StreamDecoder

SHOWN = ("pesq_wb", "stoi", "si_sdr", "mel")
SHOWN_OF_LOSS = ("pesq_wb", "plcmos", "visqol_speech", "stoi")
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
BIT_ERRORS = (0.0, 1e-5, 1e-4, 1e-3)
PACKET_SECONDS = (0.02, 0.2, 2.0)
SNRS = (20, 10, 0)
GENERATIONS = 3
SI_SDR_FLOOR = -20.0
"""In dB. It is minus infinity where all audio is lost, and would dominate the mean over files."""


class Trial(NamedTuple):
    """Decoded audio of an experiment.

    Attributes:
        series: codec and variant: a line of a plot.
        condition: amount of degradation: a position on the x axis.
        decoded: ``[N]``; None if nothing could be decoded.
        reference: ``[N]``, audio to compare with.
        facts: further figures.
    """

    series: str
    condition: str
    decoded: np.ndarray | None
    reference: np.ndarray
    facts: dict[str, float]


class Subject(NamedTuple):
    """A recording with all that the experiments need.

    Attributes:
        audio: ``[N]`` float32 at the model's rate.
        noise: ``[N]`` float32, at the same rate.
        ours: our codec.
        opus: Opus.
        seed: seed of all random numbers, specific to the file.
        quick: whether to run only the mildest and the most severe condition.
        streams: streams that were made, by what `encode_within` was asked for.
    """

    audio: np.ndarray
    noise: np.ndarray
    ours: Aecodec
    opus: Opus
    seed: int
    quick: bool
    streams: dict[Any, Encoded]

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.ours.sample_rate

    @property
    def bitrate(self) -> int:
        """Bitrate of our codec: its highest."""
        return self.ours.bitrates()[-1]

    @property
    def opus_bitrate(self) -> int:
        """Bitrate of Opus: the nearest to ours."""
        return self.opus.nearest_bitrate(self.bitrate)

    def contenders(self) -> tuple[tuple[Contender, int], ...]:
        """Both codecs with their bitrates."""
        return ((self.ours, self.bitrate), (self.opus, self.opus_bitrate))

    def encode(self, packet_seconds: float) -> Encoded:
        """The stream of our codec, with packets of about this duration."""
        frames = max(1, round(packet_seconds * self.ours.loaded.spec.frame_rate))
        return self.ours.encode(self.audio, self.bitrate, frames_per_packet=frames)

    def random(self, *key: int) -> np.random.Generator:
        """A random generator, the same for equal keys."""
        return np.random.default_rng((self.seed, *key))

    def conditions(self, all_conditions: Sequence[float]) -> Sequence[float]:
        """The conditions to run."""
        return (all_conditions[0], all_conditions[-1]) if self.quick else all_conditions


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


def loss_pattern(
    rate: float, mean_burst: float | None, num_packets: int, rng: np.random.Generator
) -> np.ndarray:
    """Which packets are lost.

    A Markov chain with two states (Gilbert, 1960), started in its stationary distribution. With
    generators of the same seed, packets that are lost at one rate are also lost at higher ones.

    Args:
        rate: share of lost packets.
        mean_burst: mean number of packets in a burst; None for independent losses.
        num_packets: number of packets.
        rng: random generator.

    Returns:
        ``[num_packets]`` booleans.

    Example:
        >>> lost = loss_pattern(0.1, 3.0, 100_000, np.random.default_rng(0))
        >>> f"{lost.mean():.2f}"
        '0.10'
    """
    stay = rate if mean_burst is None else 1 - 1 / mean_burst
    enter = rate * (1 - stay) / (1 - rate)
    draws = rng.random(num_packets)
    lost = np.zeros(num_packets, bool)
    probability = rate
    for number, draw in enumerate(draws):
        lost[number] = draw < probability
        probability = stay if lost[number] else enter
    return lost


def burst_pattern(
    rate: float, shortest: int, longest: int, num_packets: int, rng: np.random.Generator
) -> np.ndarray:
    """Which packets are lost, in bursts of uniformly distributed length.

    Args:
        rate: share of lost packets.
        shortest: fewest packets in a burst.
        longest: most packets in a burst.
        num_packets: number of packets.
        rng: random generator.

    Returns:
        ``[num_packets]`` booleans.

    Example:
        >>> lost = burst_pattern(0.1, 7, 16, 100_000, np.random.default_rng(0))
        >>> f"{lost.mean():.2f}"
        '0.10'
    """
    gap = (shortest + longest) / 2 * (1 - rate) / rate
    lost = np.zeros(num_packets, bool)
    position = rng.uniform(0, gap)
    while position < num_packets:
        length = int(rng.integers(shortest, longest + 1))
        lost[int(position) : int(position) + length] = True
        position += length + rng.uniform(0.5, 1.5) * gap
    return lost


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


def flip_bits(data: bytes, rate: float, rng: np.random.Generator) -> bytes:
    """``data`` with each bit inverted with probability ``rate``.

    Example:
        >>> list(flip_bits(bytes([0, 255]), 1.0, np.random.default_rng(0)))
        [255, 0]
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return np.packbits(bits ^ (rng.random(len(bits)) < rate)).tobytes()


def decode_damaged(ours: Aecodec, header: Header, data: bytes) -> tuple[np.ndarray | None, float]:
    """Decode a damaged stream as the command does.

    Args:
        ours: the codec.
        header: header of the stream.
        data: packets of the stream.

    Returns:
        ``[N]`` float32, or None if nothing can be decoded; and the share of lost packets.
    """
    decoder, summary, pieces = StreamDecoder(header, ours.loaded), StreamSummary(header), []
    try:
        for item in read_packets(io.BytesIO(data), summary):
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


class Settings(NamedTuple):
    """What is the same for all files.

    Attributes:
        model: name of a packaged model, or folder of a model.
        seconds: duration used of each recording, from its start.
        noises: recordings of noise; pink noise is used if there are none.
        quick: whether to run only the mildest and the most severe conditions.
        names: experiments to run, keys of `EXPERIMENTS`.
    """

    model: str
    seconds: float
    noises: tuple[Recording, ...]
    quick: bool
    names: tuple[str, ...] = tuple(EXPERIMENTS)


def experiments_on(recording: Recording, settings: Settings) -> list[dict[str, Any]]:
    """All experiments with one recording, a row per trial.

    Raises:
        CodecError: the recording starts with silence.
    """
    ours, opus = Aecodec(settings.model), Opus()
    seed = zlib.crc32(recording.name.encode())
    audio = load(recording, settings.seconds, ours.sample_rate)
    if rms(audio) < SILENCE:
        raise CodecError(
            f"{recording.name} starts with {settings.seconds:g} s of silence: leave it out"
        )
    noise = make_noise(settings.noises, len(audio), ours.sample_rate, seed)
    subject = Subject(audio, noise, ours, opus, seed, settings.quick, {})
    rows = []
    for name in settings.names:
        # By sound and reference: where codecs give the same sound, it is measured once.
        last: dict[tuple[int, int], tuple[Trial, dict[str, float]]] = {}
        for trial in EXPERIMENTS[name].run(subject):
            if any(other.condition != trial.condition for other, _ in last.values()):
                last = {}
            key = id(trial.decoded), id(trial.reference)
            if key not in last:
                figures = quality(trial, ours.sample_rate, EXPERIMENTS[name].shown)
                last[key] = trial, figures
            rows.append(
                {
                    "file": recording.name,
                    "experiment": name,
                    "series": trial.series,
                    "condition": trial.condition,
                    "facts": trial.facts,
                    "metrics": last[key][1],
                }
            )
    return rows


FIGURES: dict[str, Callable[[np.ndarray, np.ndarray, int], float | None]] = {
    "pesq_wb": pesq_wb,
    "visqol_speech": visqol_speech,
    "stoi": short_time_intelligibility,
    "mel": mel_distance,
}
"""Functions of decoded audio, original audio and sample rate, by the name of the metric."""


def quality(trial: Trial, sample_rate: int, shown: Sequence[str] = SHOWN) -> dict[str, float]:
    """Figures of a trial, those that are shown; none if nothing was decoded.

    The level is matched, as in `measure`.
    """
    if trial.decoded is None or rms(trial.reference) < SILENCE:
        return {}
    gain = level_difference(trial.decoded, trial.reference)
    decoded = trial.decoded * np.float32(10 ** (gain / 20))
    figures: dict[str, float | None] = {}
    for name in shown:
        if name in FIGURES:
            figures[name] = FIGURES[name](decoded, trial.reference, sample_rate)
    if "si_sdr" in shown:
        ratio = si_sdr(decoded, trial.reference)
        figures["si_sdr"] = None if ratio is None else max(ratio, SI_SDR_FLOOR)
    if "plcmos" in shown and can_rate_naturalness():
        figures["plcmos"] = plcmos(decoded, sample_rate)
    return {name: value for name, value in figures.items() if value is not None}


def load(recording: Recording, seconds: float, sample_rate: int) -> np.ndarray:
    """The beginning of a recording: ``[N]`` float32 at ``sample_rate``."""
    return resample(recording.load(seconds), recordings.SAMPLE_RATE, sample_rate)


def make_noise(
    noises: Sequence[Recording], num_samples: int, sample_rate: int, seed: int
) -> np.ndarray:
    """Noise from a random recording, repeated to length, or pink noise if there are none.

    Args:
        noises: recordings of noise; silent ones are not used.
        num_samples: number of samples.
        sample_rate: sample rate in Hz.
        seed: seed of the choice and of pink noise.

    Returns:
        ``[num_samples]`` float32.
    """
    rng = np.random.default_rng(seed)
    for number in rng.permutation(len(noises)):
        noise = np.resize(load(noises[number], num_samples / sample_rate, sample_rate), num_samples)
        if rms(noise) > SILENCE:
            return noise
    # Pink: power proportional to 1 / frequency, above 20 Hz.
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / sample_rate), 20)
    pink = np.fft.irfft(spectrum / np.sqrt(frequencies), num_samples)
    return np.asarray(0.1 * pink / np.sqrt(np.square(pink).mean()), np.float32)


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over files with confidence intervals, in the order of the experiments."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = (row["experiment"], row["series"], row["condition"])
        groups.setdefault(key, []).append(row)
    summary = []
    for (experiment, series, condition), members in groups.items():
        metrics = {}
        for name in METRICS:
            values = [row["metrics"][name] for row in members if name in row["metrics"]]
            if values:
                mean, low, high = mean_with_interval(values)
                metrics[name] = {"mean": mean, "low": low, "high": high, "files": len(values)}
        facts = {
            name: float(np.mean([row["facts"][name] for row in members]))
            for name in EXPERIMENTS[experiment].facts
        }
        summary.append(
            {
                "experiment": experiment,
                "series": series,
                "condition": condition,
                "files": len(members),
                "facts": facts,
                "metrics": metrics,
            }
        )
    return summary


def report(figures: dict[str, Any]) -> str:
    """All means as Markdown."""
    parts = [
        f"Means over {len(figures['files'])} speech files of at most {figures['seconds']:g} s. "
        "Packets last 20 ms, in the experiment with bit errors as stated; the noise is "
        f"{figures['noise']}. SI-SDR is limited to at least {SI_SDR_FLOOR:g} dB. PESQ is undefined "
        "for silence: where not all files have a value, their number is given."
    ]
    for name in dict.fromkeys(row["experiment"] for row in figures["summary"]):
        experiment = EXPERIMENTS[name]
        rows = [row for row in figures["summary"] if row["experiment"] == name]
        parts.append(f"### {experiment.title}")
        if experiment.wide:
            parts += _wide_tables(experiment, rows)
        else:
            parts.append(_experiment_table(experiment, rows))
    return "\n\n".join(parts) + "\n"


def _wide_tables(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table of the conditions, and one for each metric: series by condition."""
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    series = list(dict.fromkeys(row["series"] for row in rows))
    found = {(row["series"], row["condition"]): row for row in rows}
    cells = [
        [title, *(f"{found[series[0], condition]['facts'][fact]:.1f}" for condition in conditions)]
        for fact, title in experiment.facts.items()
        if fact != "payload"
    ]
    for name in series:
        rates = [found[name, condition]["facts"]["payload"] for condition in conditions]
        cells.append([f"{name}: kbit/s", *(f"{rate:.1f}" for rate in rates)])
    yield markdown_table([experiment.condition, *conditions], cells)
    for metric in experiment.shown:
        yield markdown_table(
            [f"{METRICS[metric].title}; {experiment.condition}", *conditions],
            [
                [name, *(_cell(found[name, condition], metric) for condition in conditions)]
                for name in series
            ],
        )


def _experiment_table(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> str:
    titles = [METRICS[metric].title for metric in experiment.shown]
    header = ["series", experiment.condition, *experiment.facts.values(), *titles]
    cells = [
        [
            row["series"],
            row["condition"],
            *(f"{row['facts'][fact]:.1f}" for fact in experiment.facts),
            *(_cell(row, metric) for metric in experiment.shown),
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def _cell(row: dict[str, Any], metric: str) -> str:
    """A mean, with the number of files if some have no value."""
    if metric not in row["metrics"]:
        return "-"
    value = row["metrics"][metric]
    cell = f"{value['mean']:.{METRICS[metric].decimals}f}"
    return cell if value["files"] == row["files"] else f"{cell} ({value['files']} files)"


def plot(summary: Sequence[dict[str, Any]], name: str, out: Path) -> str:
    """Write the plot of an experiment, a panel per metric; return the name of the PNG file."""
    experiment = EXPERIMENTS[name]
    rows = [row for row in summary if row["experiment"] == name]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure, panels = new_figure(len(experiment.shown), 2, experiment.title)
    for axes, metric in zip(panels, experiment.shown, strict=True):
        lines = []
        for series in dict.fromkeys(row["series"] for row in rows):
            points = [
                (conditions.index(row["condition"]), *map(row["metrics"][metric].get, POINT))
                for row in rows
                if row["series"] == series and metric in row["metrics"]
            ]
            if points:
                lines.append(Line(series, *zip(*points, strict=True)))
        better = METRICS[metric].better
        draw_lines(
            axes,
            lines,
            x_title=experiment.condition,
            y_title=f"{METRICS[metric].title}, {better} is better",
        )
        axes.set_xticks(range(len(conditions)), conditions)
        _style(axes)
    label_lines(figure)
    return save(figure, out, f"robustness_{name}")


KEPT = "robustness_rows"
"""Folder in the output folder with what was measured of each recording. A run that was interrupted
continues with it; delete it to measure again after a change of the code."""
POINT = ("mean", "low", "high")
STYLES = ((0.0, "solid"), (0.4, "dashed"), (0.6, "dotted"), (0.2, "dashdot"))
"""How much paler than the first one the lines of a codec are, and their dashes."""


def _style(axes: Axes) -> None:
    """The same colour for all series of a codec, those after the first paler and dashed."""
    seen: Counter[str] = Counter()
    for container in axes.containers:
        line, caps, bars = container
        codec = str(container.get_label()).split()[0]
        paler, dashes = STYLES[seen[codec] % len(STYLES)]
        solid = np.array(to_rgb(COLOURS.get(codec, "seagreen")))
        colour = tuple(solid + paler * (1 - solid))
        for artist in (line, *caps, *bars):
            artist.set_color(colour)
        for cap in caps:
            cap.set_markeredgecolor(colour)
        line.set_linestyle(dashes)
        seen[codec] += 1


def finished_or_run(
    recording: Recording, settings: Settings, folder: Path | None
) -> list[dict[str, Any]]:
    """Rows of a recording, from a run before that was interrupted if it had the same settings.

    Args:
        recording: the recording.
        settings: what is measured.
        folder: where rows are kept; None to keep none.
    """
    if folder is None:
        return experiments_on(recording, settings)
    fingerprint = load_model(settings.model).spec.fingerprint.hex()
    key = [recording.digest(), fingerprint, repr(settings)]
    path = folder / f"{recording.name.replace('/', '_')}.json"
    if path.is_file():
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            rows: list[dict[str, Any]] = kept["rows"]
            return rows
    rows = experiments_on(recording, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(path, force=True) as file:
        file.write(json.dumps({"key": key, "rows": rows}).encode())
    return rows


def run(
    chosen: Sequence[Recording], settings: Settings, jobs: int, folder: Path | None = None
) -> list[dict[str, Any]]:
    """Rows of all recordings, in their order; those in ``folder`` are not measured again."""
    work = partial(finished_or_run, settings=settings, folder=folder)
    found = tqdm(run_in_processes(work, chosen, jobs), total=len(chosen), unit="file", disable=None)
    return [row for _, rows in sorted(found, key=lambda result: result[0]) for row in rows]


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of recordings (default: the bundled one)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model of aecodec, name or folder")
    parser.add_argument(
        "--seconds", type=float, default=10, help="duration used of each file (default: 10)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), help="experiments"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of speech")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of processes (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two files, mildest and most severe conditions only"
    )
    parser.add_argument("--out", type=Path, help="folder for robustness.json and plots")
    return parser.parse_args(words)


def choose_recordings(
    data: Path | None, every: int, limit: int | None
) -> tuple[list[Recording], tuple[Recording, ...]]:
    """Recordings of speech and of noise.

    Args:
        data: folder of recordings; None for the bundled recording, without noise.
        every: take only every n-th recording of speech.
        limit: maximum number of recordings of speech; None for all.

    Raises:
        CodecError: the folder contains no speech.
    """
    if data is None:
        return [recordings.EXAMPLE], ()
    found = recordings.by_class(recordings.find(data))
    if "speech" not in found:
        raise CodecError(
            f"{data} holds no speech: put it in a folder speech/, or name its files speech_*"
        )
    return found["speech"][::every][:limit], tuple(found.get("sound", ()))


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse_arguments(words)
    model, seconds, quick, out = (
        arguments.model,
        arguments.seconds,
        arguments.quick,
        arguments.out,
    )
    try:
        limit = 2 if quick else None
        speech, noises = choose_recordings(arguments.data, arguments.every, limit)
        figures = origin([model])
        settings = Settings(model, seconds, noises, quick, tuple(arguments.only))
        rows = run(speech, settings, arguments.jobs, out and out / KEPT)
    except CodecError as error:
        sys.exit(f"error: {error}")
    figures |= {
        "files": {recording.name: recording.digest() for recording in speech},
        "seconds": seconds,
        "noise": "recordings of sounds" if noises else "pink noise",
        "summary": summarise(rows),
        "rows": rows,
    }
    section = report(figures)
    print(section)
    if out:
        plots = [plot(figures["summary"], name, out) for name in arguments.only]
        write_report(out, "robustness", figures, section, plots)


if __name__ == "__main__":
    main()
