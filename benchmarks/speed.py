"""Speed, start-up time and memory of the codec on this machine, compared with other codecs.

    pip install -e ".[bench]"
    python benchmarks/speed.py [--model M] [--quick] [--out OUT]

Prints Markdown tables; with --out, writes all figures to OUT/speed.json. Every number of threads is
measured in a new process, and so is every command. Codecs are interleaved: each round runs each of
them once, so that a change of the machine's speed affects all of them, and the best round counts,
because other load only adds time. Every round also includes a matrix product: the share of its rate
that a network reaches is what can be compared between machines.

All codecs code speech, at the bitrate nearest to our highest. Ours runs through a stream, including
packing and checksums. The networks of other codecs have random weights, on which speed does not
depend, and run in Hugging Face's ``transformers`` on a whole clip, with the weight norm folded.
Opus, by PyAV, includes its Ogg file and resampling from 48 kHz. Multiply-accumulates are counted
while running and include the codebook search.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Contender
from benchmarks.contenders.registry import find_contender, peers
from benchmarks.shared import recordings
from benchmarks.shared.processes import process_pool
from benchmarks.shared.report import installed, origin, write_report
from benchmarks.shared.resampling import resample
from benchmarks.shared.tables import markdown_table
from codec.engines.base import Engine
from codec.engines.names import BACKENDS
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL, find_model, has_graphs
from codec.quality.macs import macs_per_frame
from codec.registry import load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import PACKET_SECONDS, Packing

REPOSITORY = Path(__file__).resolve().parent.parent
PUSHES_MS = (20, 40, 100, 1000)
DEFAULT_PEERS = ("opus", "encodec", "dac", "mimi", "snac")
OURS = Aecodec.name

# The peak memory of a process starts at that of its parent, so a small process starts commands.
STARTER = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.perf_counter() - began
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Timed(NamedTuple):
    """A contender as it is timed.

    Attributes:
        contender: the codec.
        bitrate: bitrate that it runs at, in bits per second.
        seconds: duration of the audio.
    """

    contender: Contender
    bitrate: int
    seconds: float

    @property
    def name(self) -> str:
        """Name of the contender."""
        return self.contender.name

    def audio(self) -> np.ndarray:
        """Speech of that duration: ``[N]`` float32 at the contender's rate."""
        rate = self.contender.sample_rate
        return speech(rate, round(self.seconds * rate))


def speech(sample_rate: int, num_samples: int) -> np.ndarray:
    """The bundled recording, repeated: ``[N]`` float32."""
    audio = resample(recordings.EXAMPLE.load(), recordings.SAMPLE_RATE, sample_rate)
    return np.resize(audio, num_samples)


def macs_per_second(contender: Contender, bitrate: int) -> dict[str, float]:
    """Multiply-accumulates per second of audio, of "encode" and "decode"."""

    def audio(num_frames: int) -> np.ndarray:
        return speech(contender.sample_rate, num_frames * contender.hop_length)

    counted = contender.countable()
    per_frame = macs_per_frame(partial(counted.encode, bitrate=bitrate), counted.decode, audio)
    frame_rate = contender.sample_rate / contender.hop_length
    return {side: count * frame_rate for side, count in per_frame.items()}


def interleave(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in every round; an additional first round is for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def offline(
    model: str, names: Sequence[str], seconds: float, neural_seconds: float, rounds: int
) -> dict[str, Any]:
    """Speed on whole clips, with all codecs in every round.

    Args:
        model: model of aecodec.
        names: contenders to compare with.
        seconds: duration of the clips.
        neural_seconds: duration of the clips for neural networks of others, which are slow.
        rounds: number of rounds.
    """
    ours = Aecodec(model, threads=torch.get_num_threads())
    highest = ours.bitrates()[-1]
    timed = [Timed(ours, highest, seconds)]
    for name in names:
        peer = find_contender(name).open_for_timing()
        duration = neural_seconds if peer.needs_weights else seconds
        timed.append(Timed(peer, peer.nearest_bitrate(highest), duration))
    matrix = torch.randn(1024, 1024)
    works: dict[str, Callable[[], object]] = {"matrix product": lambda: matrix @ matrix}
    for one in timed:
        audio = one.audio()
        encoded = one.contender.encode(audio, one.bitrate)
        works[f"{one.name} encode"] = partial(one.contender.encode, audio, one.bitrate)
        works[f"{one.name} decode"] = partial(one.contender.decode, encoded)
    times = interleave(works, rounds)
    product = 1024**3 / min(times["matrix product"])
    return {
        "threads": torch.get_num_threads(),
        "matrix_product_gmac_per_second": product / 1e9,
        "codecs": {one.name: _figures(one, timed[0], times, product) for one in timed},
    }


def _figures(
    one: Timed, ours: Timed, times: dict[str, list[float]], product: float
) -> dict[str, Any]:
    """Speed of one codec, relative to ours and to the matrix product."""
    contender = one.contender
    figures: dict[str, Any] = {
        "bitrate": one.bitrate,
        "seconds": one.seconds,
        "num_parameters": contender.num_parameters,
    }
    macs = macs_per_second(contender, one.bitrate) if contender.hop_length else {}
    for side in ("encode", "decode"):
        taken = times[f"{one.name} {side}"]
        speed = one.seconds / min(taken)
        speed_of_ours = ours.seconds / min(times[f"{ours.name} {side}"])
        figures[side] = {
            "times_real_time": speed,
            "ratio_to_ours": speed / speed_of_ours,
            "round_seconds": taken,
        }
        if macs:
            figures[side]["mmac_per_second_of_audio"] = macs[side] / 1e6
            figures[side]["share_of_matrix_product"] = macs[side] * speed / product
    return figures


def streaming(model: str, seconds: float) -> list[dict[str, Any]]:
    """Time of single pushes at sender and receiver, with packets as long as the pushes."""
    engine = load_model(model, threads=torch.get_num_threads())
    spec = engine.spec
    audio = speech(spec.sample_rate, round(seconds * spec.sample_rate))[None]
    rows = []
    for push_ms in PUSHES_MS:
        frames = max(1, push_ms * spec.sample_rate // (1000 * spec.hop_length))
        push = frames * spec.hop_length
        encoder = StreamEncoder(engine, packing=Packing.live(frames))
        decoder = StreamDecoder(encoder.header, engine)
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
                "push_ms": 1000 * push / spec.sample_rate,
                "num_pushes": len(packets),
                "packet_bytes": len(packets[0].to_bytes()),
                "payload_bytes": sum(len(packet.payload) for packet in packets),
                **{
                    side: _push_times(steps, push / spec.sample_rate)
                    for side, steps in taken.items()
                },
            }
        )
    return rows


def _push_times(steps: list[float], push_seconds: float) -> dict[str, float]:
    milliseconds = 1000 * np.array(steps)
    return {
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "worst_ms": float(milliseconds.max()),
        "times_real_time": len(steps) * push_seconds / sum(steps),
    }


def engines(model: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of a packet on every engine, engines in turn; without packing.

    Args:
        model: model of aecodec.
        seconds: duration of the audio.
        rounds: number of rounds, of which the best counts.
    """
    threads = torch.get_num_threads()
    loaded = {name: load_model(model, backend=name, threads=threads).engine for name in BACKENDS}
    spec = loaded["torch"].spec
    rows = []
    for frames in (1, int(PACKET_SECONDS * spec.frame_rate)):
        step = frames * spec.hop_length
        num_steps = max(1, round(seconds * spec.sample_rate) // step)
        blocks = np.split(speech(spec.sample_rate, num_steps * step)[None], num_steps, axis=1)
        codes = encode_blocks(loaded["torch"], blocks)
        works: dict[str, Callable[[], object]] = {}
        for name, engine in loaded.items():
            works[f"encode {name}"] = partial(encode_blocks, engine, blocks)
            works[f"decode {name}"] = partial(decode_blocks, engine, codes)
        times = interleave(works, rounds)
        again = encode_blocks(loaded["onnx"], blocks)
        same = np.mean([np.mean(a == b) for a, b in zip(codes, again, strict=True)])
        sounds = [np.hstack(decode_blocks(engine, codes)) for engine in loaded.values()]
        best = {what: 1000 * min(taken) / num_steps for what, taken in times.items()}
        rows.append(
            {
                "frames": frames,
                "milliseconds": best,
                "same_codes": float(same),
                "largest_difference": float(np.abs(sounds[0] - sounds[1]).max()),
            }
        )
    return {"threads": threads, "rows": rows}


def encode_blocks(engine: Engine, blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Codes of the blocks of a signal, one step each."""
    state, found = engine.init_encoder(1), []
    for block in blocks:
        codes, state = engine.encode_step(np.ascontiguousarray(block), state)
        found.append(codes)
    return found


def decode_blocks(engine: Engine, blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Audio of blocks of codes, one step each."""
    state, found = engine.init_decoder(1), []
    for block in blocks:
        audio, state = engine.decode_step(block, state)
        found.append(audio)
    return found


def live_streams(model: str, num_steps: int) -> dict[str, Any]:
    """How many live sessions are carried in time when all of them share a step.

    In time: 99.9 % of the steps of one frame take at most as long as a frame lasts. The number is
    doubled until it is too large, then bisected to an eighth.

    Args:
        model: model of aecodec.
        num_steps: number of steps that are timed.
    """
    engine = load_model(model, threads=torch.get_num_threads()).engine
    spec = engine.spec
    frame_ms = 1000 * spec.hop_length / spec.sample_rate
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "frame_ms": frame_ms,
        "num_steps": num_steps,
    }
    for side in ("encode", "decode", "both"):
        found, too_many = {"sessions": 0, "median_ms": 0.0, "p999_ms": 0.0}, 0
        count = 1
        while not too_many or too_many - found["sessions"] > max(1, found["sessions"] // 8):
            taken = 1000 * shared_steps(engine, side, count, num_steps)
            slowest = float(np.percentile(taken, 99.9))
            if slowest <= frame_ms:
                found = {
                    "sessions": count,
                    "median_ms": float(np.median(taken)),
                    "p999_ms": slowest,
                }
            else:
                too_many = count
            lowest = int(found["sessions"])
            count = (lowest + too_many) // 2 if too_many else 2 * count
        figures[side] = found
    return figures


def shared_steps(engine: Engine, side: str, sessions: int, num_steps: int) -> np.ndarray:
    """Seconds of each step of one frame, for all sessions at once.

    Args:
        engine: the model.
        side: "encode", "decode" or "both", one after the other.
        sessions: number of sessions, one channel each.
        num_steps: number of steps; a few more come first, for warming up.
    """
    assert engine.can_join
    spec, warm_up = engine.spec, 5
    audio = speech(spec.sample_rate, (num_steps + warm_up) * spec.hop_length)
    encoder = engine.join_states([engine.init_encoder(1)] * sessions)
    decoder = engine.join_states([engine.init_decoder(1)] * sessions)
    codes = np.zeros((sessions, spec.num_codebooks, 1), np.int64)
    taken = []
    for frame in audio.reshape(-1, spec.hop_length):
        block = np.tile(frame, (sessions, 1))
        began = time.perf_counter()
        if side != "decode":
            codes, encoder = engine.encode_step(block, encoder)
        if side != "encode":
            _, decoder = engine.decode_step(codes, decoder)
        taken.append(time.perf_counter() - began)
    return np.array(taken[warm_up:])


def first_packet(model: str) -> dict[str, float]:
    """Processing time until the first packet and its audio, in a new process and later."""
    began = time.perf_counter()
    engine = load_model(model, threads=torch.get_num_threads())
    load_seconds = time.perf_counter() - began
    spec = engine.spec
    audio = speech(spec.sample_rate, spec.hop_length)[None]

    def session() -> tuple[float, float]:
        began = time.perf_counter()
        encoder = StreamEncoder(engine)
        (packet,) = encoder.push(audio)
        encoded = time.perf_counter()
        StreamDecoder(encoder.header, engine).push(packet)
        return encoded - began, time.perf_counter() - encoded

    cold, *warm = (session() for _ in range(21))
    return {
        "threads": torch.get_num_threads(),
        "latency_ms": 1000 * spec.latency / spec.sample_rate,
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
        [sys.executable, "-S", "-c", STARTER, *parts],
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
    """Seconds and memory of short commands, one after the other in every round."""
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
    """Peak memory and seconds of the command for mono files of several lengths."""
    aecodec = [sys.executable, "-m", "codec.cli"]
    sample_rate = load_model(model).spec.sample_rate
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
    """A new process with a number of threads: a function that calls another one there."""
    with process_pool(1, threads) as pool:
        yield lambda work, *arguments: pool.submit(work, *arguments).result()


def measure(
    model: str, peers: Sequence[str], threads: Sequence[int], minutes: Sequence[float], quick: bool
) -> dict[str, Any]:
    """All figures.

    Args:
        model: model of aecodec.
        peers: contenders to compare with.
        threads: numbers of threads; neural networks of others run on one thread only.
        minutes: lengths of files for which memory is measured.
        quick: whether to use short clips and one round.
    """
    parts = ("first_packet", "offline", "streaming", "engines", "sessions")
    figures: dict[str, Any] = {part: [] for part in parts}
    seconds, neural_seconds, rounds = (6.0, 1.0, 1) if quick else (60.0, 3.0, 5)
    for count in threads:
        names = [name for name in peers if count == 1 or not find_contender(name).needs_weights]
        with fresh_process(count) as run:
            report_progress(f"first packet, {count} thread(s)")  # first: the process is still cold
            figures["first_packet"].append(run(first_packet, model))
            report_progress(f"streaming, {count} thread(s)")
            figures["streaming"] += run(streaming, model, seconds)
            if has_graphs(find_model(model)):
                report_progress(f"engines, {count} thread(s)")
                figures["engines"].append(run(engines, model, min(seconds, 6.0), rounds))
            report_progress(f"live sessions, {count} thread(s)")
            figures["sessions"].append(run(live_streams, model, 20 if quick else 1000))
            report_progress(f"whole clips, {count} thread(s)")
            clips = run(offline, model, names, seconds, neural_seconds, rounds)
            figures["offline"].append(clips)
    report_progress("start-up")
    figures["start_up"] = start_up(model, rounds)
    report_progress("memory")
    figures["memory"] = memory(model, minutes)
    return figures


def report_progress(part: str) -> None:
    """Print which part is running, on standard error."""
    print(f"speed: {part}", file=sys.stderr, flush=True)


def report(figures: dict[str, Any]) -> str:
    """All figures as Markdown."""
    parts = [
        "### Whole clips",
        *map(_offline_section, figures["offline"]),
        "### Streaming",
        _streaming_section(figures["streaming"]),
        _first_packet_section(figures["first_packet"]),
        "### Engines",
        _engines_section(figures["engines"]),
        "### Many live sessions",
        _sessions_section(figures["sessions"]),
        "### Start-up, one thread",
        _start_up_table(figures["start_up"]),
        "### Peak memory against length, one thread",
        _memory_table(figures["memory"]),
    ]
    return "\n\n".join(parts) + "\n"


def _start_up_table(results: list[dict[str, Any]]) -> str:
    rows = [
        (f"`{row['command']}`", f"{row['seconds']:.2f}", f"{row['peak_mib']:.0f}")
        for row in results
    ]
    return markdown_table(("command", "seconds", "peak MiB"), rows)


def _memory_table(results: list[dict[str, Any]]) -> str:
    sides = ("encode", "decode", "info")
    header = ("minutes", *(f"{side} MiB" for side in sides), *(f"{side} s" for side in sides))
    rows = [
        (
            f"{row['minutes']:g}",
            *(f"{row[f'{side}_mib']:.0f}" for side in sides),
            *(f"{row[f'{side}_seconds']:.1f}" for side in sides),
        )
        for row in results
    ]
    return markdown_table(header, rows)


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
                    significant(figure["times_real_time"], 3),
                    significant(figure["ratio_to_ours"], 2),
                    f"{figure['mmac_per_second_of_audio']:.0f}" if network else "-",
                    f"{100 * figure['share_of_matrix_product']:.0f} %" if network else "-",
                )
            )
    header = ("codec", "kbit/s", "parameters", "side", "x real time", "ratio", "MMAC/s", "of peak")
    return (
        f"On {result['threads']} thread(s). Ratio: speed relative to {OURS}. MMAC/s: millions of "
        "multiply-accumulates per second of audio. Of peak: share of the rate of a matrix product, "
        f"{result['matrix_product_gmac_per_second']:.1f} GMAC/s.\n\n{markdown_table(header, rows)}"
    )


def significant(value: float, digits: int) -> str:
    """A number with this many significant digits, without an exponent.

    Example:
        >>> significant(1234.5, 3), significant(0.0123, 2)
        ('1230', '0.012')
    """
    return f"{float(f'{value:.{digits}g}'):g}"


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
    return f"Each push fills one packet.\n\n{markdown_table(header, rows)}"


def _engines_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        for row in result["rows"]:
            cells = [f"{result['threads']}", f"{row['frames']}"]
            for side in ("encode", "decode"):
                slow, fast = (row["milliseconds"][f"{side} {name}"] for name in ("torch", "onnx"))
                cells += [f"{slow:.2f} / {fast:.2f}", f"{slow / fast:.2f}"]
            cells += [f"{100 * row['same_codes']:.2f} %", f"{row['largest_difference']:.1e}"]
            rows.append(cells)
    header = ["threads", "frames"]
    for side in ("encode", "decode"):
        header += [f"{side}, ms: torch / onnx", "ratio"]
    header += ["same codes", "difference"]
    return (
        "One step of so many frames with PyTorch and with onnxruntime, in turn. "
        "Difference: the largest between samples decoded from equal codes.\n\n"
        f"{markdown_table(header, rows)}"
    )


def _sessions_section(results: list[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        cells = [f"{row['threads']}"]
        for side in ("encode", "decode", "both"):
            figure = row[side]
            cells.append(f"{figure['sessions']}")
            cells.append(f"{figure['median_ms']:.1f} / {figure['p999_ms']:.1f}")
        rows.append(cells)
    header = ["threads"]
    for side in ("encode", "decode", "both"):
        header += [side, "ms: median / p99.9"]
    return (
        "Sessions whose states are joined, so that they share every step of one frame: the largest "
        f"number for which 99.9 % of {results[0]['num_steps']} steps take at most "
        f"{results[0]['frame_ms']:g} ms, the duration of a frame.\n\n{markdown_table(header, rows)}"
    )


def _first_packet_section(results: list[dict[str, Any]]) -> str:
    names = ("load", "first_encode", "later_encode", "first_decode", "later_decode")
    rows = [
        (f"{row['threads']}", *(f"{row[f'{name}_ms']:.1f}" for name in names)) for row in results
    ]
    first, later = "ms in a new process", "ms in later sessions"
    header = ["threads", "loading the model, ms", f"packet, {first}", f"packet, {later}"]
    header += [f"audio, {first}", f"audio, {later}"]
    return (
        f"The algorithmic latency is {results[0]['latency_ms']:g} ms with one-frame packets. The "
        "processing time for the first packet of a session, and for its audio, is added to it:\n\n"
        f"{markdown_table(header, rows)}"
    )


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the defaults that depend on ``--quick`` filled in."""
    # Starting the programs of other codecs would take most of their time.
    choices = [name for name, peer in peers().items() if not peer.programs]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model of aecodec, name or folder")
    parser.add_argument("--quick", action="store_true", help="short clips, one round, one thread")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="numbers of threads (default: 1 2; quick: 1)"
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=choices,
        default=DEFAULT_PEERS,
        help=f"codecs to compare with (default: {' '.join(DEFAULT_PEERS)})",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="*",
        help="lengths of files to measure memory for (default: 1 10 60; quick: 0.1 0.5)",
    )
    parser.add_argument("--out", type=Path, help="folder for speed.json")
    arguments = parser.parse_args(words)
    if arguments.threads is None:
        arguments.threads = [1] if arguments.quick else [1, 2]
    if arguments.minutes is None:
        arguments.minutes = [0.1, 0.5] if arguments.quick else [1, 10, 60]
    return arguments


def without_missing(names: Sequence[str]) -> list[str]:
    """Those of the contenders whose Python packages are installed; the others are reported."""
    found = []
    for name in names:
        contender = find_contender(name)
        if all(map(installed, contender.packages)):
            found.append(name)
        else:
            report_progress(f'without {name}: pip install "aecodec[{contender.extra}]"')
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse_arguments(words)
    model, names = arguments.model, without_missing(arguments.peers)
    try:
        figures = origin([model])
        figures |= measure(model, names, arguments.threads, arguments.minutes, arguments.quick)
    except CodecError as error:
        sys.exit(f"error: {error}")
    section = report(figures)
    print(section)
    if arguments.out:
        write_report(arguments.out, "speed", figures, section)


if __name__ == "__main__":
    main()
