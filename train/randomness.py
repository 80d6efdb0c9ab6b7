"""The random streams of a training run: the only module that derives generators from the seed.

Every draw of a run follows from the recipe's seed, the rank of the process, a number (of a step, or
of a run of file reads) and the stream that it belongs to. So nothing random has to be saved for a
run to be resumed to the bit, and no stream repeats the draws of another one.
"""

from __future__ import annotations

import enum

import numpy as np
import torch


class Stream(enum.IntEnum):
    """What random numbers are drawn for. Each number is used once: it is part of the seed.

    The numbers of the streams are fixed. With other numbers a recipe would give another model.
    """

    BATCH = 0
    """Crops and augmentation of a step."""
    READ = 1
    """Places in the files that a run of steps is cut from."""
    CODEBOOKS = 2
    """Crops from which the codebooks are initialised."""
    STEP = 3
    """Numbers of codebooks, spectral windows and torch's own draws in a step."""
    CALIBRATION = 4
    """Crops that a model is calibrated with before it is written."""
    CONTEXT = 5
    """Numbers of codes in a step of fitting a context model."""


def generator(seed: int, stream: Stream, *, rank: int = 0, number: int = 0) -> np.random.Generator:
    """The generator of one stream of a process at one step.

    Args:
        seed: the recipe's seed.
        stream: what the numbers are drawn for.
        rank: rank of the process in a run of several processes.
        number: number of the step, or of the run of file reads.

    Example:
        >>> first = generator(0, Stream.STEP, number=7).random()
        >>> first == generator(0, Stream.STEP, number=7).random()
        True
        >>> first == generator(0, Stream.CALIBRATION, number=7).random()
        False
    """
    return np.random.default_rng((seed, rank, number, int(stream)))


def seed_torch(rng: np.random.Generator) -> None:
    """Seed torch's global generator by one draw from ``rng``."""
    torch.manual_seed(int(rng.integers(2**62)))


def seed_weights(seed: int) -> None:
    """Seed torch's global generator for the random weights of a new model."""
    torch.manual_seed(seed)
