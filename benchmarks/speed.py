"""Speed, start-up and memory of the codec on this machine, beside other codecs in the same run.

    pip install -e ".[bench]"
    python benchmarks/speed.py [--model M] [--quick] [--out OUT]

Prints Markdown tables; with --out, writes every figure to OUT/speed.json. Each number of threads
has a fresh process, and so has each command. Codecs are interleaved: every round runs each of them
once, so that all meet the same moods of the machine, and the best round counts, because whatever
else runs there only adds time. In every round there is a plain matrix product as well: the share of
its rate that a network reaches is what to compare between machines.

All code speech at the bitrate nearest to our highest. Ours goes through a stream, packing and
checksums included. The networks of others have random weights, on which speed does not depend, and
run as Hugging Face's ``transformers`` runs them, on a whole clip at once, their weight norm folded.
Opus, by PyAV, includes its Ogg file and resampling from 48 kHz. Multiply-accumulates are counted as
they are run, those of looking up codes included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch.nn.utils import parametrize

# Run as a script, the repository itself is not among the places to import from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders.codecs import (
    PACKET_SECONDS,
    Aecodec,
    open_peer,
    random_transformer,
    resample,
)
from benchmarks.shared import recordings
from benchmarks.shared.report import installed, origin, write_report
from codec.errors import CodecError
from codec.format.container import Header, Packet
from codec.model_folder import DEFAULT_MODEL
from codec.network.weights import load_codec
from codec.quality.macs import macs_per_frame
from codec.stream import StreamDecoder, StreamEncoder

REPOSITORY = Path(__file__).resolve().parent.parent
PUSHES_MS = (20, 40, 100, 1000)
NEURAL_PEERS = ("encodec", "dac", "mimi")
PEERS = ("opus", *NEURAL_PEERS)
OURS = "aecodec"

# A process's peak memory starts from that of its parent, so a small go-between starts it.
GO_BETWEEN = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - began
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Contender(NamedTuple):
    """A codec as it is timed.

    Attributes:
        name: for tables.
        sample_rate: that it works at.
        bitrate: that it is run at.
        encode: ``[N]`` float32 -> whatever `decode` takes.
        decode: and back.
        num_parameters: of the network; None if there is none.
        hop_length: samples per frame of the network.
    """

    name: str
    sample_rate: int
    bitrate: int
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], object]
    num_parameters: int | None = None
    hop_length: int = 0


def open_ours(model: str) -> Contender:
    """The model at its highest bitrate, through a stream with the packets of files."""
    ours = Aecodec(model)

    def encode(audio: np.ndarray) -> tuple[Header, list[bytes]]:
        frames_per_packet = int(PACKET_SECONDS * ours.codec.config.frame_rate)
        encoder = StreamEncoder(ours.codec, frames_per_packet=frames_per_packet)
        packets = encoder.push(audio[None]) + encoder.finish()
        return encoder.header, [packet.to_bytes() for packet in packets]

    def decode(coded: tuple[Header, list[bytes]]) -> None:
        header, packets = coded
        decoder = StreamDecoder(ours.codec, header)
        for packet in packets:
            decoder.push(Packet.from_bytes(packet))

    return Contender(
        OURS,
        ours.sample_rate,
        ours.bitrates()[-1],
        encode,
        decode,
        sum(parameter.numel() for parameter in ours.codec.parameters()),
        ours.codec.config.hop_length,
    )


def open_contender(name: str, bitrate: int) -> Contender:
    """A peer, at the bitrate it has that is nearest."""
    if name == "opus":
        opus: Any = open_peer("opus", speech=True)
        rate = min(opus.bitrates(), key=lambda offered: abs(offered - bitrate))
        return Contender(
            name, opus.sample_rate, rate, lambda audio: opus.encode(audio, rate)[1], opus.decode
        )
    neural = random_transformer(name)
    for module in neural.model.modules():
        for folded in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, folded)
    nearest = min(neural.bitrates(), key=lambda offered: abs(offered - bitrate))
    return Contender(
        name,
        neural.sample_rate,
        nearest,
        lambda audio: neural.encode(audio, nearest),
        neural.decode,
        neural.num_parameters,
        neural.hop_length,
    )


def speech(sample_rate: int, num_samples: int) -> np.ndarray:
    """``[N]`` float32: the recording of the repository, over and over."""
    audio = resample(recordings.load(recordings.EXAMPLE), recordings.SAMPLE_RATE, sample_rate)
    return np.resize(audio, num_samples)


def macs_per_second(contender: Contender) -> dict[str, float]:
    """Multiply-accumulates per second of audio on each side."""

    def audio(num_frames: int) -> np.ndarray:
        return speech(contender.sample_rate, num_frames * contender.hop_length)

    per_frame = macs_per_frame(contender.encode, contender.decode, audio)
    frame_rate = contender.sample_rate / contender.hop_length
    return {side: count * frame_rate for side, count in per_frame.items()}


def interleave(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each piece of work in every round; one more round before warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def offline(
    model: str, peers: Sequence[str], seconds: float, neural_seconds: float, rounds: int
) -> dict[str, Any]:
    """Whole clips: how many times faster than real time, with all codecs in every round."""
    ours = open_ours(model)
    contenders = [ours, *(open_contender(name, ours.bitrate) for name in peers)]
    matrix = torch.randn(1024, 1024)
    works: dict[str, Callable[[], object]] = {"matrix product": lambda: matrix @ matrix}
    duration: dict[str, float] = {}
    for one in contenders:
        duration[one.name] = neural_seconds if one.name in NEURAL_PEERS else seconds
        audio = speech(one.sample_rate, round(duration[one.name] * one.sample_rate))
        coded = one.encode(audio)
        works[f"{one.name} encode"] = lambda one=one, audio=audio: one.encode(audio)
        works[f"{one.name} decode"] = lambda one=one, coded=coded: one.decode(coded)
    times = interleave(works, rounds)
    product = 1024**3 / min(times["matrix product"])
    codecs: dict[str, Any] = {}
    for one in contenders:
        figures: dict[str, Any] = {
            "bitrate": one.bitrate,
            "seconds": duration[one.name],
            "num_parameters": one.num_parameters,
        }
        macs = macs_per_second(one) if one.hop_length else {}
        for side in ("encode", "decode"):
            taken = times[f"{one.name} {side}"]
            speed = duration[one.name] / min(taken)
            of_ours = duration[OURS] / min(times[f"{OURS} {side}"])
            figures[side] = {
                "times_real_time": speed,
                "ratio_to_ours": speed / of_ours,
                "round_seconds": taken,
            }
            if macs:
                figures[side]["mmac_per_second_of_audio"] = macs[side] / 1e6
                figures[side]["share_of_matrix_product"] = macs[side] * speed / product
        codecs[one.name] = figures
    return {
        "threads": torch.get_num_threads(),
        "matrix_product_gmac_per_second": product / 1e9,
        "codecs": codecs,
    }


def streaming(model: str, seconds: float) -> list[dict[str, Any]]:
    """Each push on its own, as sender and receiver run it, with packets as long as the pushes."""
    loaded = load_codec(model)
    config = loaded.config
    audio = speech(config.sample_rate, round(seconds * config.sample_rate))[None]
    rows = []
    for push_ms in PUSHES_MS:
        frames = max(1, push_ms * config.sample_rate // (1000 * config.hop_length))
        push = frames * config.hop_length
        encoder = StreamEncoder(loaded, frames_per_packet=frames)
        decoder = StreamDecoder(loaded, encoder.header)
        packets = []
        taken: dict[str, list[float]] = {"encode": [], "decode": []}
        for start in range(0, audio.shape[1] - push + 1, push):
            began = time.perf_counter()
            packets += encoder.push(audio[:, start : start + push])
            taken["encode"].append(time.perf_counter() - began)
        for packet in packets:
            began = time.perf_counter()
            decoder.push(packet)
            taken["decode"].append(time.perf_counter() - began)
        rows.append(
            {
                "threads": torch.get_num_threads(),
                "push_ms": 1000 * push / config.sample_rate,
                "num_pushes": len(packets),
                "packet_bytes": len(packets[0].to_bytes()),
                "payload_bytes": sum(len(packet.payload) for packet in packets),
                **{
                    side: _of_pushes(steps, push / config.sample_rate)
                    for side, steps in taken.items()
                },
            }
        )
    return rows


def _of_pushes(steps: list[float], push_seconds: float) -> dict[str, float]:
    milliseconds = 1000 * np.array(steps)
    return {
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "worst_ms": float(milliseconds.max()),
        "times_real_time": len(steps) * push_seconds / sum(steps),
    }


def first_packet(model: str) -> dict[str, float]:
    """Time to work before the first packet and the first sound, in a new process and later."""
    began = time.perf_counter()
    loaded = load_codec(model)
    load_seconds = time.perf_counter() - began
    config = loaded.config
    audio = speech(config.sample_rate, config.hop_length)[None]

    def session() -> tuple[float, float]:
        began = time.perf_counter()
        encoder = StreamEncoder(loaded)
        (packet,) = encoder.push(audio)
        encoded = time.perf_counter()
        StreamDecoder(loaded, encoder.header).push(packet)
        return encoded - began, time.perf_counter() - encoded

    cold, *warm = (session() for _ in range(21))
    return {
        "threads": torch.get_num_threads(),
        "latency_ms": 1000 * loaded.latency_seconds,
        "load_ms": 1000 * load_seconds,
        "first_encode_ms": 1000 * cold[0],
        "first_decode_ms": 1000 * cold[1],
        "later_encode_ms": 1000 * float(np.median([encode for encode, _ in warm])),
        "later_decode_ms": 1000 * float(np.median([decode for _, decode in warm])),
    }


def run_command(*command: str | Path) -> tuple[float, float]:
    """Seconds and peak resident memory in MiB of one command, on one thread."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.getenv("PYTHONPATH")))),
    }
    parts = [str(part) for part in command]
    result = subprocess.run(
        [sys.executable, "-S", "-c", GO_BETWEEN, *parts],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise CodecError(f"{' '.join(parts)} failed: {result.stderr.strip().splitlines()[-1]}")
    seconds, peak = result.stdout.split()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return float(seconds), float(peak) / unit


def start_up(model: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds of small commands in processes of their own, one after the other in every round."""
    aecodec = [sys.executable, "-m", "codec.cli"]
    with tempfile.TemporaryDirectory() as name:
        wav, codes, out = (Path(name) / file for file in ("in.wav", "a.codes", "out.wav"))
        soundfile.write(wav, speech(24_000, 24_000), 24_000)
        commands: dict[str, list[str | Path]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
            "aecodec --help": [*aecodec, "--help"],
            "aecodec encode (1 s)": [*aecodec, "encode", wav, codes, "--force", "--model", model],
            "aecodec info": [*aecodec, "info", codes],
            "aecodec decode (1 s)": [*aecodec, "decode", codes, out, "--force", "--model", model],
        }
        runs = [
            {what: run_command(*parts) for what, parts in commands.items()} for _ in range(rounds)
        ]
    return [
        {
            "command": what,
            "seconds": float(np.median([run[what][0] for run in runs])),
            "peak_mib": float(np.median([run[what][1] for run in runs])),
            "rounds": rounds,
        }
        for what in commands
    ]


def memory(model: str, minutes: Sequence[float]) -> list[dict[str, float]]:
    """Peak memory of the command, and seconds, against the length of a mono file."""
    aecodec = [sys.executable, "-m", "codec.cli"]
    sample_rate = load_codec(model).config.sample_rate
    block = (speech(sample_rate, 60 * sample_rate) * 32767).astype(np.int16)
    rows = []
    for length in minutes:
        with tempfile.TemporaryDirectory() as name:
            wav, codes, out = (Path(name) / file for file in ("in.wav", "a.codes", "out.wav"))
            missing = round(60 * length * sample_rate)
            with soundfile.SoundFile(wav, "w", sample_rate, 1, subtype="PCM_16") as file:
                while missing:
                    file.write(block[:missing])
                    missing -= min(missing, len(block))
            encode = run_command(*aecodec, "encode", wav, codes, "--model", model)
            decode = run_command(*aecodec, "decode", codes, out, "--model", model)
            info = run_command(*aecodec, "info", codes)
            row = {"minutes": length, "codes_bytes": codes.stat().st_size}
        for what, (seconds, mib) in {"encode": encode, "decode": decode, "info": info}.items():
            row |= {f"{what}_mib": mib, f"{what}_seconds": seconds}
        rows.append(row)
    return rows


@contextmanager
def fresh_process(threads: int) -> Iterator[Callable[..., Any]]:
    """A new process with that many threads: what it is given with arguments, it runs."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _set_threads, (threads,)) as pool:
        yield lambda work, *arguments: pool.submit(work, *arguments).result()


def _set_threads(threads: int) -> None:
    torch.set_num_threads(threads)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, part after part."""
    quick, model = arguments.quick, arguments.model
    figures: dict[str, Any] = {"first_packet": [], "offline": [], "streaming": []}
    seconds, neural_seconds, rounds = (6.0, 1.0, 1) if quick else (60.0, 3.0, 5)
    for threads in arguments.threads:
        # The slow networks of others run on one thread only.
        peers = [name for name in arguments.peers if threads == 1 or name not in NEURAL_PEERS]
        with fresh_process(threads) as run:
            say(f"first packet, {threads} thread(s)")  # before anything has warmed the process up
            figures["first_packet"].append(run(first_packet, model))
            say(f"streaming, {threads} thread(s)")
            figures["streaming"] += run(streaming, model, seconds)
            say(f"whole clips, {threads} thread(s)")
            clips = run(offline, model, peers, seconds, neural_seconds, rounds)
            figures["offline"].append(clips)
    say("start-up")
    figures["start_up"] = start_up(model, rounds)
    say("memory")
    figures["memory"] = memory(model, arguments.minutes)
    return figures


def say(what: str) -> None:
    """Progress, where it does not get between the results."""
    print(f"speed: {what}", file=sys.stderr, flush=True)


def report(figures: dict[str, Any]) -> str:
    """All results as Markdown."""
    parts = ["### Whole clips", *map(_offline_section, figures["offline"])]
    parts += ["### Streaming", _streaming_section(figures["streaming"])]
    parts.append(_first_packet_section(figures["first_packet"]))
    rows = [
        (f"`{row['command']}`", f"{row['seconds']:.2f}", f"{row['peak_mib']:.0f}")
        for row in figures["start_up"]
    ]
    parts += ["### Start-up, one thread", markdown(("command", "seconds", "peak MiB"), rows)]
    sides = ("encode", "decode", "info")
    header = ("minutes", *(f"{side} MiB" for side in sides), *(f"{side} s" for side in sides))
    lengths = [
        (
            f"{row['minutes']:g}",
            *(f"{row[f'{side}_mib']:.0f}" for side in sides),
            *(f"{row[f'{side}_seconds']:.1f}" for side in sides),
        )
        for row in figures["memory"]
    ]
    parts += ["### Peak memory against length, one thread", markdown(header, lengths)]
    return "\n\n".join(parts) + "\n"


def _offline_section(result: dict[str, Any]) -> str:
    rows = []
    for name, figures in result["codecs"].items():
        network = figures["num_parameters"]
        for side in ("encode", "decode"):
            figure = figures[side]
            rows.append(
                (
                    name,
                    f"{figures['bitrate'] / 1000:g}",
                    f"{network / 1e6:.1f} M" if network else "-",
                    side,
                    _digits(figure["times_real_time"], 3),
                    _digits(figure["ratio_to_ours"], 2),
                    f"{figure['mmac_per_second_of_audio']:.0f}" if network else "-",
                    f"{100 * figure['share_of_matrix_product']:.0f} %" if network else "-",
                )
            )
    header = ("codec", "kbit/s", "parameters", "side", "x real time", "ratio", "MMAC/s", "of peak")
    return (
        f"On {result['threads']} thread(s). Ratio: speed in that of {OURS}. Of peak: the share of "
        f"a matrix product's {result['matrix_product_gmac_per_second']:.1f} GMAC/s.\n\n"
        f"{markdown(header, rows)}"
    )


def _digits(value: float, count: int) -> str:
    """So many digits that count, and no exponent."""
    return f"{float(f'{value:.{count}g}'):g}"


def _streaming_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        cells = [f"{row['threads']}", f"{row['push_ms']:g}", f"{row['num_pushes']}"]
        for side in ("encode", "decode"):
            figure = row[side]
            names = ("median_ms", "p99_ms", "worst_ms")
            cells.append(" / ".join(f"{figure[name]:.2f}" for name in names))
            cells.append(f"{figure['times_real_time']:.0f}")
        rows.append(cells)
    header = ["threads", "push, ms", "pushes"]
    for side in ("encode", "decode"):
        header += [f"{side}, ms: median / p99 / worst", "x real time"]
    return f"A packet is as long as the push that fills it.\n\n{markdown(header, rows)}"


def _first_packet_section(results: list[dict[str, Any]]) -> str:
    names = ("load", "first_encode", "later_encode", "first_decode", "later_decode")
    rows = [
        (f"{row['threads']}", *(f"{row[f'{name}_ms']:.1f}" for name in names)) for row in results
    ]
    first, later = "ms in a new process", "ms in later sessions"
    header = ["threads", "loading the model, ms", f"packet, {first}", f"packet, {later}"]
    header += [f"sound, {first}", f"sound, {later}"]
    return (
        f"The algorithmic latency is {results[0]['latency_ms']:g} ms with one-frame packets. To it "
        "comes the work for a session's first packet, and for its first sound:\n\n"
        f"{markdown(header, rows)}"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--quick", action="store_true", help="short clips, one round, one thread")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 2; quick: 1")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--minutes", type=float, nargs="*", help="for memory; default: 1 10 60")
    parser.add_argument("--out", type=Path, help="folder for speed.json")
    arguments = parser.parse_args(words)
    if arguments.threads is None:
        arguments.threads = [1] if arguments.quick else [1, 2]
    if arguments.minutes is None:
        arguments.minutes = [0.1, 0.5] if arguments.quick else [1, 10, 60]
    if set(arguments.peers) & set(NEURAL_PEERS) and not installed("transformers"):
        say(f"without {', '.join(NEURAL_PEERS)}, which need `pip install transformers`")
        arguments.peers = [name for name in arguments.peers if name not in NEURAL_PEERS]
    try:
        figures = origin([arguments.model])
        if set(arguments.peers) & set(NEURAL_PEERS):
            figures["versions"]["transformers"] = installed("transformers")
        figures |= measure(arguments)
    except CodecError as error:
        sys.exit(f"error: {error}")
    print(report(figures))
    if arguments.out:
        write_report(arguments.out, "speed", figures, report(figures))


if __name__ == "__main__":
    main()
