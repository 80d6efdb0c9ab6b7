"""Speed of a model on this machine: offline, and in streaming steps of one frame.

    python benchmarks/speed.py [--model M] [--threads 1] [--seconds 60] [--json FILE]

Prints how many times faster than real time whole recordings are encoded and decoded, and the
median, 99th percentile and worst time of a streaming step on each side. Machines are noisy, so
the rate of a plain matrix product is measured in the same run and the share of it that coding
reaches is printed beside: compare shares, not seconds, between machines.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from codec.folder import DEFAULT_MODEL
from codec.model import Codec
from codec.store import load_codec
from codec.stream import StreamDecoder, StreamEncoder

ROUNDS = 3


def best_seconds(work: Callable[[], object]) -> float:
    """Shortest of a few rounds: what else runs on the machine only ever adds time."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def matrix_product_rate() -> float:
    """Multiply-accumulates per second of a square float32 product."""
    a = torch.randn(1024, 1024)
    a @ a
    return 1024**3 / best_seconds(lambda: a @ a)


def macs_per_second(codec: Codec) -> dict[str, float]:
    """Multiply-accumulates per second of audio, counted as they are run."""
    seconds = 10
    audio = torch.zeros(1, 1, seconds * codec.config.sample_rate)
    counts = {}
    codes = codec.encode(audio)
    for side, work in (
        ("encode", lambda: codec.encode(audio)),
        ("decode", lambda: codec.decode(codes)),
    ):
        with FlopCounterMode(display=False) as counter:
            work()
        counts[side] = counter.get_total_flops() / 2 / seconds
    return counts


def measure(codec: Codec, seconds: float) -> dict[str, Any]:
    """All figures at the present number of threads."""
    config = codec.config
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal((1, round(seconds * config.sample_rate)))).astype(
        np.float32
    )
    frames_per_packet = int(2 * config.frame_rate)

    def encode() -> tuple[Any, list[Any]]:
        encoder = StreamEncoder(codec, frames_per_packet=frames_per_packet)
        return encoder.header, encoder.push(samples) + encoder.finish()

    header, packets = encode()

    def decode() -> None:
        decoder = StreamDecoder(codec, header)
        for packet in packets:
            decoder.push(packet)

    decode()
    product = matrix_product_rate()
    macs = macs_per_second(codec)
    times = {"encode": best_seconds(encode), "decode": best_seconds(decode)}
    figures: dict[str, Any] = {"matrix_product_gmac_per_second": product / 1e9}
    for side, taken in times.items():
        figures[side] = {
            "times_real_time": seconds / taken,
            "mmac_per_second_of_audio": macs[side] / 1e6,
            "share_of_matrix_product": macs[side] * seconds / taken / product,
        }
    for side, steps in stream_steps(codec, samples).items():
        milliseconds = 1000 * np.array(steps[10:])  # the first steps warm the caches
        figures[side]["step_ms"] = {
            "audio": 1000 * float(1 / config.frame_rate),
            "median": float(np.median(milliseconds)),
            "p99": float(np.percentile(milliseconds, 99)),
            "worst": float(milliseconds.max()),
        }
    return figures


def stream_steps(codec: Codec, samples: np.ndarray) -> dict[str, list[float]]:
    """Seconds of every one-frame step: each side on its own, as sender and receiver run."""
    encoder = StreamEncoder(codec)
    decoder = StreamDecoder(codec, encoder.header)
    hop = codec.config.hop_length
    steps: dict[str, list[float]] = {"encode": [], "decode": []}
    packets = []
    for start in range(0, samples.shape[1] - hop + 1, hop):
        began = time.perf_counter()
        packets += encoder.push(samples[:, start : start + hop])
        steps["encode"].append(time.perf_counter() - began)
    for packet in packets:
        began = time.perf_counter()
        decoder.push(packet)
        steps["decode"].append(time.perf_counter() - began)
    return steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(load_codec(arguments.model), arguments.seconds)
    print(f"{platform.machine()}, torch {torch.__version__}, {arguments.threads} thread(s)")
    print(f"matrix product: {figures['matrix_product_gmac_per_second']:.1f} GMAC/s\n")
    print("| side | x real time | MMAC/s | share of matrix product | step: median | p99 | worst |")
    print("|---|---|---|---|---|---|---|")
    for side in ("encode", "decode"):
        figure, step = figures[side], figures[side]["step_ms"]
        print(
            f"| {side} | {figure['times_real_time']:.0f} "
            f"| {figure['mmac_per_second_of_audio']:.0f} "
            f"| {100 * figure['share_of_matrix_product']:.0f} % "
            f"| {step['median']:.2f} ms | {step['p99']:.2f} ms | {step['worst']:.2f} ms |"
        )
    print(f"\nA step codes {figures['encode']['step_ms']['audio']:.0f} ms of audio.")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
