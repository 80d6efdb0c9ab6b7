"""What harm does to the sound: lost packets, bit errors, noise, coding twice, and wrong levels.

    pip install -e ".[bench]"
    python benchmarks/robustness.py --quick
    python benchmarks/robustness.py --data DIR [--model M] [--every N] [--out OUT]

Speech recordings (``speech_*``) go through five experiments, beside Opus at the nearest bitrate
where that makes sense; without --data, the example of this repository does. Prints Markdown tables
of means; with --out, writes every figure of every file as robustness.json and a picture of each
experiment (PNG and SVG, with 95 % bootstrap intervals).

- Packet loss: packets of 20 ms, lost at random or in bursts of `MEAN_BURST` on average (Gilbert,
  1960: a chain of a good state that loses nothing and a bad one that loses all), the same packets
  for both codecs. Ours are concealed by `StreamDecoder.lost`; those of Opus by libopus, for which
  a packet cut down to its first byte is one that was lost (RFC 6716, section 3.2.1).
- Bit errors: independent flips in the bytes of a file after its header, which goes through the
  reader of the command: packets whose checksum fails are lost. Opus has no checksum of its own.
- Noise: recordings of sounds in the folder (``sound_*``), or pink noise where there are none, at a
  ratio of powers over the clip. What is decoded is compared with the clean speech and with the
  noisy mixture that went in; "uncoded" is the mixture itself beside the clean speech.
- Tandem: decoded sound coded again, its frames falling elsewhere each time.
- Level: the peak is set to so many dB of full scale, and back after decoding.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from tqdm import tqdm

# Run as a script, the repository itself is not among the places to import from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders.codecs import Aecodec, FFmpegCodec, align, open_peer, resample
from benchmarks.shared import recordings
from benchmarks.shared.metrics import METRICS, SILENCE, mean_with_interval, measure, rms
from benchmarks.shared.plots import COLOURS, Line, draw_lines, label_lines, new_figure, save
from benchmarks.shared.report import origin, write_report
from codec.errors import CodecError, FormatError
from codec.format.container import Gap, Header
from codec.format.reading import read_packets
from codec.format.summary import StreamSummary
from codec.model_folder import DEFAULT_MODEL
from codec.stream import StreamDecoder, StreamEncoder

SHOWN = ("pesq_wb", "stoi", "si_sdr", "mel")
MEAN_BURST = 3
LOSSES = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2)
BIT_ERRORS = (0.0, 1e-5, 1e-4, 1e-3)
PACKET_SECONDS = (0.02, 0.2, 2.0)
SNRS = (20, 10, 0)
GENERATIONS = 3
LEVELS = (-50, -40, -30, -20, -10, 0)
SI_SDR_FLOOR = -20.0
"""In dB: a sound that is all lost has none, and its logarithm would drown the others' in a mean."""


class Trial(NamedTuple):
    """One sound that came out.

    Attributes:
        series: which codec, and in which way: one line of a plot.
        condition: how much harm: a place on its axis.
        decoded: ``[N]``; None if nothing could be decoded.
        reference: ``[N]``, what it is compared with.
        facts: what else there is to say.
    """

    series: str
    condition: str
    decoded: np.ndarray | None
    reference: np.ndarray
    facts: dict[str, float]


class Subject(NamedTuple):
    """What the experiments are made with.

    Attributes:
        audio: ``[N]`` float32 at the model's rate.
        noise: ``[N]``, likewise.
        ours: our codec.
        opus: Opus.
        seed: of everything random, by file.
        quick: only the mildest and the worst of conditions.
    """

    audio: np.ndarray
    noise: np.ndarray
    ours: Aecodec
    opus: FFmpegCodec
    seed: int
    quick: bool

    @property
    def sample_rate(self) -> int:
        return self.ours.sample_rate

    def contenders(self) -> tuple[tuple[str, Aecodec | FFmpegCodec, int], ...]:
        """Name, codec and bitrate of both."""
        return (
            ("aecodec", self.ours, self.ours.bitrates()[-1]),
            ("opus", self.opus, self.opus_bitrate),
        )

    @property
    def opus_bitrate(self) -> int:
        highest = self.ours.bitrates()[-1]
        return min(self.opus.bitrates(), key=lambda offered: abs(offered - highest))

    def encoder(self, packet_seconds: float) -> StreamEncoder:
        frames = max(1, round(packet_seconds * self.ours.codec.config.frame_rate))
        return StreamEncoder(self.ours.codec, frames_per_packet=frames)

    def random(self, *what: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *what))

    def some(self, conditions: Sequence[float]) -> Sequence[float]:
        return (conditions[0], conditions[-1]) if self.quick else conditions


def packet_loss(subject: Subject) -> Iterator[Trial]:
    """Both codecs, the same packets lost at random and in bursts."""
    encoder = subject.encoder(0.02)
    packets = encoder.push(subject.audio[None]) + encoder.finish()
    opus_packets, opus_file = subject.opus.encode(subject.audio, subject.opus_bitrate)
    kbit = 8 / 1000 / (len(subject.audio) / subject.sample_rate)
    payload = {
        "aecodec": kbit * sum(len(packet.payload) for packet in packets),
        "opus": kbit * sum(len(packet) for packet in opus_packets),
    }
    for kind, burst in (("random", None), ("bursts", MEAN_BURST)):
        for rate in subject.some(LOSSES):
            rng = subject.random(burst or 0)
            lost = loss_pattern(rate, burst, max(len(packets), len(opus_packets)), rng)
            decoder = StreamDecoder(subject.ours.codec, encoder.header)
            pieces = [
                decoder.lost() if is_lost else decoder.push(packet)
                for packet, is_lost in zip(packets, lost, strict=False)
            ]
            if lost[len(packets) - 1]:  # the last packet would have brought out the rest
                pieces.append(decoder.finish())
            heard = {
                "aecodec": np.concatenate(pieces, axis=1)[0],
                "opus": decode_opus(opus_file, lost, subject.sample_rate),
            }
            for name, audio in heard.items():
                aligned, _ = align(audio, subject.audio, subject.sample_rate)
                facts = {"payload": payload[name], "lost": 100 * float(lost.mean())}
                yield Trial(f"{name} {kind}", f"{100 * rate:g}", aligned, subject.audio, facts)


def loss_pattern(
    rate: float, mean_burst: float | None, num_packets: int, rng: np.random.Generator
) -> np.ndarray:
    """Which packets are lost, ``[num_packets]`` booleans.

    A chain of two states (Gilbert, 1960), started in its long-term distribution; losses that are
    independent, for a ``mean_burst`` of None, are the chain whose next state ignores its present.
    From generators of one seed, what is lost at a rate is lost at every higher one too.
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


def decode_opus(file: bytes, lost: np.ndarray, sample_rate: int) -> np.ndarray:
    """``[N]`` float32 of an Ogg Opus file some of whose packets are lost, concealed by libopus.

    The library is told of a lost packet by one of a single byte, which names the kind of packet:
    that of the last one that came.
    """
    with av.open(io.BytesIO(file)) as source:
        stream = source.streams.audio[0]
        decoder = av.CodecContext.create("libopus", "r")
        decoder.extradata = stream.codec_context.extradata
        packets = [bytes(packet) for packet in source.demux(stream) if packet.size]
    pieces, kind = [], packets[0][:1]
    for packet, is_lost in zip(packets, lost, strict=False):
        kind = kind if is_lost else packet[:1]
        for frame in decoder.decode(av.Packet(kind if is_lost else packet)):
            pieces.append(frame.to_ndarray()[0])
            rate = frame.sample_rate
    return resample(np.concatenate(pieces).astype(np.float32) / 32768, rate, sample_rate)


def bit_errors(subject: Subject) -> Iterator[Trial]:
    """Ours alone, with short and long packets."""
    for seconds in PACKET_SECONDS:
        encoder = subject.encoder(seconds)
        packets = encoder.push(subject.audio[None]) + encoder.finish()
        data = b"".join(packet.to_bytes() for packet in packets)
        for rate in subject.some(BIT_ERRORS):
            damaged = flip_bits(data, rate, subject.random(int(1000 * seconds)))
            decoded, lost = decode_damaged(subject.ours, encoder.header, damaged)
            if decoded is not None:
                decoded, _ = align(decoded, subject.audio, subject.sample_rate)
            facts = {"lost": 100 * lost, "unreadable": 100.0 * (decoded is None)}
            series = f"aecodec {1000 * seconds:g} ms"
            yield Trial(series, f"{rate:g}", decoded, subject.audio, facts)


def flip_bits(data: bytes, rate: float, rng: np.random.Generator) -> bytes:
    """``data`` with every bit turned over at that rate."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return np.packbits(bits ^ (rng.random(len(bits)) < rate)).tobytes()


def decode_damaged(ours: Aecodec, header: Header, data: bytes) -> tuple[np.ndarray | None, float]:
    """What the command makes of a stream.

    Returns:
        ``[N]`` float32, or None if it gives up; the share of packets that is lost.
    """
    decoder, scan, pieces = StreamDecoder(ours.codec, header), StreamSummary(header), []
    try:
        for item in read_packets(io.BytesIO(data), scan):
            if isinstance(item, Gap):
                pieces.append(decoder.lost(item.num_packets))
            else:
                pieces.append(decoder.push(item))
        if scan.num_samples is None:
            pieces.append(decoder.finish())
        decoded = np.concatenate(pieces, axis=1)[0]
    except FormatError:
        decoded = None
    return decoded, scan.num_lost / max(1, scan.num_lost + scan.num_packets)


def background_noise(subject: Subject) -> Iterator[Trial]:
    """Both codecs and the mixture itself, against the clean and the noisy sound."""
    for snr in subject.some(SNRS):
        wanted = rms(subject.audio) * 10 ** (-snr / 20)
        mixture = subject.audio + subject.noise * np.float32(wanted / rms(subject.noise))
        mixture /= max(1.0, float(np.abs(mixture).max()))  # so that nothing clips
        yield Trial("uncoded to clean", f"{snr}", mixture, subject.audio, {})
        for name, codec, bitrate in subject.contenders():
            decoded = codec.code(mixture, subject.sample_rate, bitrate).audio
            yield Trial(f"{name} to clean", f"{snr}", decoded, subject.audio, {})
            yield Trial(f"{name} to noisy", f"{snr}", decoded, mixture, {})


def tandem(subject: Subject) -> Iterator[Trial]:
    """Both codecs, each coding again what it decoded, a part of a frame later every time."""
    hop = subject.ours.codec.config.hop_length
    for name, codec, bitrate in subject.contenders():
        audio, rng = subject.audio, subject.random()
        for generation in range(1, GENERATIONS + 1):
            shift = int(rng.integers(1, hop))
            coded = codec.code(np.pad(audio, (shift, 0)), subject.sample_rate, bitrate)
            audio = coded.audio[shift:]
            yield Trial(name, f"{generation}", audio, subject.audio, {})


def input_level(subject: Subject) -> Iterator[Trial]:
    """Both codecs, with the level undone before comparing."""
    for level in subject.some(LEVELS):
        gain = np.float32(10 ** (level / 20) / np.abs(subject.audio).max())
        for name, codec, bitrate in subject.contenders():
            coded = codec.code(subject.audio * gain, subject.sample_rate, bitrate)
            yield Trial(name, f"{level}", coded.audio / gain, subject.audio, {})


class Experiment(NamedTuple):
    """An experiment, and how it is shown.

    Attributes:
        run: makes the trials of one subject.
        title: a heading.
        condition: what its conditions are, with the unit: an axis.
        facts: titles of what it tells besides quality.
    """

    run: Callable[[Subject], Iterator[Trial]]
    title: str
    condition: str
    facts: dict[str, str]


EXPERIMENTS = {
    "loss": Experiment(
        packet_loss,
        "Packet loss",
        "packets lost (%)",
        {"payload": "payload, kbit/s", "lost": "really lost, %"},
    ),
    "bit_errors": Experiment(
        bit_errors,
        "Bit errors",
        "bit error rate",
        {"lost": "packets lost, %", "unreadable": "files unreadable, %"},
    ),
    "noise": Experiment(background_noise, "Background noise", "speech to noise (dB)", {}),
    "tandem": Experiment(tandem, "Tandem coding", "times coded", {}),
    "level": Experiment(input_level, "Input level", "peak level (dBFS)", {}),
}


class Settings(NamedTuple):
    """What is the same for all files.

    Attributes:
        model: name of a packaged model, or folder.
        seconds: of each recording, from its start.
        noises: recordings of noise; pink noise if there are none.
        quick: only the mildest and the worst of conditions.
    """

    model: str
    seconds: float
    noises: tuple[Path, ...]
    quick: bool


def experiments_on(path: Path, settings: Settings) -> list[dict[str, Any]]:
    """Every experiment on one file, a row a trial."""
    torch.set_num_threads(1)
    ours, opus = Aecodec(settings.model), open_peer("opus", speech=True)
    assert isinstance(opus, FFmpegCodec)
    seed = zlib.crc32(path.name.encode())
    audio = load(path, settings.seconds, ours.sample_rate)
    if rms(audio) < SILENCE:
        raise CodecError(f"{path} starts with {settings.seconds:g} s of silence: leave it out")
    noise = make_noise(settings.noises, len(audio), ours.sample_rate, seed)
    subject = Subject(audio, noise, ours, opus, seed, settings.quick)
    return [
        {
            "file": path.name,
            "experiment": name,
            "series": trial.series,
            "condition": trial.condition,
            "facts": trial.facts,
            "metrics": quality(trial, ours.sample_rate),
        }
        for name, experiment in EXPERIMENTS.items()
        for trial in experiment.run(subject)
    ]


def quality(trial: Trial, sample_rate: int) -> dict[str, float]:
    """What `measure` says of a trial; nothing if nothing was decoded."""
    if trial.decoded is None:
        return {}
    figures = measure(trial.decoded, trial.reference, sample_rate, speech=True, visqol=False)
    if "si_sdr" in figures:
        figures["si_sdr"] = max(figures["si_sdr"], SI_SDR_FLOOR)
    return figures


def load(path: Path, seconds: float, sample_rate: int) -> np.ndarray:
    """The beginning of a recording: ``[N]`` float32 at the model's rate."""
    return resample(recordings.load(path, seconds), recordings.SAMPLE_RATE, sample_rate)


def make_noise(noises: Sequence[Path], num_samples: int, sample_rate: int, seed: int) -> np.ndarray:
    """``[N]`` float32 from one of the recordings, over and over; pink noise if there are none."""
    rng = np.random.default_rng(seed)
    for path in rng.permutation(np.array(noises, object)):
        noise = np.resize(load(path, num_samples / sample_rate, sample_rate), num_samples)
        if rms(noise) > SILENCE:
            return noise
    # Pink: power in proportion to 1 / frequency, above 20 Hz.
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / sample_rate), 20)
    noise = np.fft.irfft(spectrum / np.sqrt(frequencies), num_samples)
    return (0.1 * noise / rms(noise)).astype(np.float32)


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over files, with intervals, in the order of the experiments."""
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
        f"Packets last 20 ms, under bit errors as long as said; bursts are of {MEAN_BURST} packets "
        f"on average; the noise is {figures['noise']}. SI-SDR counts as no less than "
        f"{SI_SDR_FLOOR:g} dB. PESQ cannot rate silence: where fewer files than all have a value, "
        "their number is given."
    ]
    for name, experiment in EXPERIMENTS.items():
        titles = [METRICS[metric].title for metric in SHOWN]
        table = [["series", experiment.condition, *experiment.facts.values(), *titles]]
        table.append(["---"] * len(table[0]))
        for row in figures["summary"]:
            if row["experiment"] == name:
                facts = [f"{row['facts'][fact]:.1f}" for fact in experiment.facts]
                metrics = [_cell(row, metric) for metric in SHOWN]
                table.append([row["series"], row["condition"], *facts, *metrics])
        parts.append(f"### {experiment.title}")
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in table))
    return "\n\n".join(parts) + "\n"


def _cell(row: dict[str, Any], metric: str) -> str:
    """A mean; how many files it stands for, if that is not all of them."""
    if metric not in row["metrics"]:
        return "-"
    value = row["metrics"][metric]
    cell = f"{value['mean']:.{METRICS[metric].decimals}f}"
    return cell if value["files"] == row["files"] else f"{cell} ({value['files']} files)"


def plot(summary: Sequence[dict[str, Any]], name: str, out: Path) -> str:
    """One experiment, a panel a metric; returns the name of the PNG."""
    experiment = EXPERIMENTS[name]
    rows = [row for row in summary if row["experiment"] == name]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure, panels = new_figure(len(SHOWN), 2, experiment.title)
    for axes, metric in zip(panels, SHOWN, strict=True):
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


POINT = ("mean", "low", "high")


def _style(axes: Axes) -> None:
    """A colour for each codec; its further series dashed and paler, their names too."""
    seen: Counter[str] = Counter()
    for container in axes.containers:
        line, caps, bars = container
        codec = str(container.get_label()).split()[0]
        paler, dashes = ((0.0, "solid"), (0.4, "dashed"), (0.6, "dotted"))[seen[codec]]
        solid = np.array(to_rgb(COLOURS.get(codec, "seagreen")))
        colour = tuple(solid + paler * (1 - solid))
        for artist in (line, *caps, *bars):
            artist.set_color(colour)
        for cap in caps:
            cap.set_markeredgecolor(colour)
        line.set_linestyle(dashes)
        seen[codec] += 1


def run(paths: Sequence[Path], settings: Settings, jobs: int) -> list[dict[str, Any]]:
    """Rows of all files, in order."""
    work = partial(experiments_on, settings=settings)
    # The threads of a process that was forked after torch had started some may hang.
    with ProcessPoolExecutor(min(jobs, len(paths)), multiprocessing.get_context("spawn")) as pool:
        results = tqdm(pool.map(work, paths), total=len(paths), unit="file", disable=None)
        return [row for rows in results for row in rows]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=recordings.EXAMPLE.parent, metavar="DIR")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=10, help="of each file, from its start")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quick", action="store_true", help="two files, extreme conditions only")
    parser.add_argument("--out", type=Path, help="folder for robustness.json and pictures")
    arguments = parser.parse_args(words)
    try:
        paths = recordings.find(arguments.data)
        speech = [path for path in paths if recordings.kind_of(path) == "speech"]
        speech = speech[:: arguments.every][: 2 if arguments.quick else None]
        if not speech:
            raise CodecError(f"{arguments.data} holds no speech: name its files speech_*")
        noises = tuple(path for path in paths if recordings.kind_of(path) == "sound")
        settings = Settings(arguments.model, arguments.seconds, noises, arguments.quick)
        figures = origin([arguments.model])
        rows = run(speech, settings, arguments.jobs)
    except CodecError as error:
        sys.exit(f"error: {error}")
    figures |= {
        "files": {path.name: recordings.digest(path) for path in speech},
        "seconds": arguments.seconds,
        "noise": "recordings of sounds" if noises else "pink noise",
        "summary": summarise(rows),
        "rows": rows,
    }
    print(report(figures))
    if arguments.out:
        plots = [plot(figures["summary"], name, arguments.out) for name in EXPERIMENTS]
        write_report(arguments.out, "robustness", figures, report(figures), plots)


if __name__ == "__main__":
    main()
