"""Live sessions: single pushes, the first packet, and many sessions at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.timing.rounds import speech
from codec.engines.base import Engine
from codec.registry import load_model
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import Packing

PUSHES_MS = (20, 40, 100, 1000)


def streaming(model: str, seconds: float) -> list[dict[str, Any]]:
    """Time of single pushes at sender and receiver, with packets as long as the pushes."""
    engine = load_model(model)
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


def first_packet(model: str) -> dict[str, float]:
    """Processing time until the first packet and its audio, in a new process and later."""
    began = time.perf_counter()
    engine = load_model(model)
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


def live_streams(model: str, num_steps: int) -> dict[str, Any]:
    """How many live sessions are carried in time when all of them share a step.

    In time: 99.9 % of the steps of one frame take at most as long as a frame lasts. The number is
    doubled until it is too large, then bisected to an eighth.

    Args:
        model: model of aecodec.
        num_steps: number of steps that are timed.
    """
    engine = load_model(model).engine
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
