"""Whole clips, of all codecs: their speed beside that of a matrix product, and their operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.contenders.aecodec import Aecodec
from benchmarks.contenders.base import Contender
from benchmarks.contenders.registry import find_contender
from benchmarks.timing.rounds import interleave, speech
from train.report.macs import macs_per_frame


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


def macs_per_second(contender: Contender, bitrate: int) -> dict[str, float]:
    """Multiply-accumulates per second of audio, of "encode" and "decode"."""

    def audio(num_frames: int) -> np.ndarray:
        return speech(contender.sample_rate, num_frames * contender.hop_length)

    counted = contender.countable()
    per_frame = macs_per_frame(partial(counted.encode, bitrate=bitrate), counted.decode, audio)
    frame_rate = contender.sample_rate / contender.hop_length
    return {side: count * frame_rate for side, count in per_frame.items()}


def offline(
    model: str, peers: Mapping[str, str], seconds: float, neural_seconds: float, rounds: int
) -> dict[str, Any]:
    """Speed on whole clips, with all codecs in every round.

    Args:
        model: model of aecodec.
        peers: contenders to compare with, and the folders of their weights; "" for the neural
            networks of others without weights, and for those that have none.
        seconds: duration of the clips.
        neural_seconds: duration of the clips for those without weights, which are slow.
        rounds: number of rounds.
    """
    ours = Aecodec(model)
    highest = ours.bitrates()[-1]
    timed = [Timed(ours, highest, seconds)]
    for name, folder in peers.items():
        contender = find_contender(name)
        peer = contender.open(folder) if folder else contender.open_for_timing()
        duration = neural_seconds if peer.needs_weights and not folder else seconds
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
