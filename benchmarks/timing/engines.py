"""The engines compared: milliseconds of a step, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.timing.rounds import interleave, speech
from codec.engines.base import Engine
from codec.engines.names import BACKENDS
from codec.registry import load_model
from codec.session.packing import PACKET_SECONDS


def engines(model: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of a packet on every engine, engines in turn; without packing.

    Args:
        model: model of aecodec.
        seconds: duration of the audio.
        rounds: number of rounds, of which the best counts.
    """
    loaded = {name: load_model(model, backend=name).engine for name in BACKENDS}
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
        again = encode_blocks(loaded["core"], blocks)
        same = np.mean([np.mean(a == b) for a, b in zip(codes, again, strict=True)])
        sounds = {name: np.hstack(decode_blocks(each, codes)) for name, each in loaded.items()}
        levels = [
            np.square(each).mean() for each in (sounds["torch"], sounds["core"] - sounds["torch"])
        ]
        best = {what: 1000 * min(taken) / num_steps for what, taken in times.items()}
        rows.append(
            {
                "frames": frames,
                "milliseconds": best,
                "same_codes": float(same),
                "difference_db": float(10 * np.log10(levels[1] / levels[0])),
            }
        )
    return {"threads": torch.get_num_threads(), "rows": rows}


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
