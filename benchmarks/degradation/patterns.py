"""Which packets are lost and which bits are flipped: random, but the same for equal seeds."""

from __future__ import annotations

import numpy as np


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


def flip_bits(data: bytes, rate: float, rng: np.random.Generator) -> bytes:
    """``data`` with each bit inverted with probability ``rate``.

    Example:
        >>> list(flip_bits(bytes([0, 255]), 1.0, np.random.default_rng(0)))
        [255, 0]
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return np.packbits(bits ^ (rng.random(len(bits)) < rate)).tobytes()
