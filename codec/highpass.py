"""The high-pass before coding: rumble that nobody hears would take codes from all that is heard.

A constant of a tenth of full scale, or 15 Hz at -12 dBFS, costs a network that has not learned to
ignore them most of its quality. A high-pass that takes away enough of them turns the phase of low
voices by a radian. That is not heard, but adds up to 3 dB to the error of the waveform, and leaves
something of a bass when a recording has faded out. So the filter acts as far as there is rumble:
a low-pass measures what lies below 25 Hz, over half a second. Up to -50 dBFS nothing is changed,
not even a bit, and from -44 dBFS on the high-pass acts fully.

Sessions filter what they code, and with them files, tokens and the page. Both filters begin at
rest, as if there had been silence before the first sample.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Floats, Samples
from codec.bitrate import ceil_div

# Analog filters in sections: frequencies in Hz of a pair of zeros on the imaginary axis and of a
# pair of poles, and the quality of the poles; with a quality of 0.5 it is a single zero and pole.
Sections: TypeAlias = tuple[tuple[float, float, float], ...]

HIGH_PASS: Sections = ((0.0, 52.18, 0.5), (15.38, 43.74, 0.8852), (23.65, 37.83, 3.483))
"""Elliptic, of fifth order. From 44 Hz on it changes levels by 0.02 dB at most, below 25 Hz it
leaves less than 1 %, and of a constant nothing."""
LOW_PASS: Sections = ((154.8, 13.78, 0.7966), (66.16, 24.89, 3.888))
LOW_PASS_GAIN = 0.001
"""Elliptic, of fourth order, with that gain at high frequencies."""

RUMBLE = 10 ** (-50 / 20)
"""Root mean square of what lies below 25 Hz from which on the high-pass acts; at the double it acts
fully."""
MEMORY_SECONDS = 0.5
"""Time constant of that mean."""
NEGLIGIBLE = 1e-9
"""A state that has become so small is zero: processors are slow with far smaller numbers."""

Complex: TypeAlias = npt.NDArray[np.complex128]

FilterState: TypeAlias = Complex
"""What the filter remembers: ``[C, 6]``, a value for each of five poles, and the power of the
rumble. The states of several sessions are joined along their channels."""


class HighPass:
    """The filter, in steps of whole frames, with its state as a value.

    To the bit, the result does not depend on how a signal is divided into steps, nor on what other
    channels are in them.

    Args:
        sample_rate: samples per second.
        hop_length: samples per frame.

    Example:
        >>> high_pass = HighPass(24_000, 480)
        >>> voice = np.sin(np.arange(24_000, dtype=np.float32) * np.float32(0.06))[None] / 5
        >>> filtered, state = high_pass.step(voice, high_pass.init_state(channels=1))
        >>> bool((filtered == voice).all())
        True
        >>> filtered, state = high_pass.step(voice + 0.3, high_pass.init_state(channels=1))
        >>> bool(abs(filtered[0, 12_000:].mean()) < 0.001)
        True
    """

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        self._hop_length = hop_length
        self._matrices = _matrices(sample_rate, hop_length)

    def init_state(self, channels: int) -> FilterState:
        """State at the beginning of a signal."""
        return np.zeros((channels, len(HIGH_PASS) + len(LOW_PASS) + 1), np.complex128)

    def step(self, audio: Samples, state: FilterState) -> tuple[Samples, FilterState]:
        """Filter the next frames.

        Args:
            audio: ``[C, T * hop_length]`` float32.
            state: from `init_state` or the step before.

        Returns:
            ``[C, T * hop_length]`` float32, and the state for the next step.
        """
        audio = np.asarray(audio, np.float32)
        own, hop = self._matrices, self._hop_length
        channels, num_frames = len(audio), audio.shape[1] // hop
        if not num_frames:
            return audio, state
        frames = np.zeros((channels, num_frames, own.num_blocks * own.block_size))
        frames[..., :hop] = audio.reshape(channels, num_frames, hop)
        # Products are stacks of matrices whose shapes are the same in every step: in another shape
        # sums may be rounded in another way.
        blocks = frames.reshape(channels, num_frames, own.num_blocks, own.block_size)
        left = (blocks @ own.left).reshape(channels, num_frames, 1, -1)
        ends = (left @ own.ends)[:, :, 0].view(np.complex128)
        begins, poles = _scan(own.decay, ends, state[:, :-1])
        known = np.concatenate((left, begins.view(np.float64)[:, :, None]), axis=-1)
        power = (np.square(known @ own.low) @ own.mean)[:, :, 0, 0]
        powers = _followed(power, state[:, -1].real, own.weight)
        after: FilterState = np.concatenate((poles, powers[:, -1:]), axis=1)
        if powers.max() <= RUMBLE**2:
            return audio, after
        gains = np.clip(np.sqrt(powers) / RUMBLE - 1, 0, 1)[..., None]
        states = (known @ own.states).reshape(channels, num_frames, own.num_blocks, -1)
        high = (blocks @ own.response + states @ own.from_states).reshape(frames.shape)
        gains = gains[:, :-1] + (gains[:, 1:] - gains[:, :-1]) * own.ramp
        filtered = (frames + gains * (high - frames))[..., :hop]
        return filtered.reshape(audio.shape).astype(np.float32), after


class FilteredFrames:
    """Audio that arrives in pieces of any length, filtered; it is given out in whole frames.

    Args:
        sample_rate: samples per second.
        hop_length: samples per frame.
        channels: number of channels.

    Example:
        >>> frames = FilteredFrames(24_000, 480, channels=1)
        >>> frames.push(np.zeros((1, 500), np.float32)).shape, frames.finish().shape
        ((1, 480), (1, 20))
    """

    def __init__(self, sample_rate: int, hop_length: int, channels: int) -> None:
        self._filter, self._hop_length = HighPass(sample_rate, hop_length), hop_length
        self._state = self._filter.init_state(channels)
        self._rest: Samples = np.zeros((channels, 0), np.float32)

    def push(self, samples: Samples) -> Samples:
        """The frames ``[C, T * hop_length]`` that these samples ``[C, n]`` complete."""
        audio = np.concatenate((self._rest, samples), axis=1)
        whole = audio.shape[1] // self._hop_length * self._hop_length
        self._rest = audio[:, whole:].copy()
        filtered, self._state = self._filter.step(audio[:, :whole], self._state)
        return filtered

    def finish(self) -> Samples:
        """The samples after the last whole frame, ``[C, n]``."""
        size = self._rest.shape[1]
        return self.push(np.zeros((len(self._rest), -size % self._hop_length), np.float32))[
            :, :size
        ]


def high_pass(audio: Samples, sample_rate: int, hop_length: int = 480) -> Samples:
    """Filter a whole signal, as sessions do before they code it.

    `Codec.encode`, engines and training take audio as it is. Give them what comes out of this where
    they should get what they would get in a session.

    Args:
        audio: ``[C, N]`` float32, any N.
        sample_rate: samples per second.
        hop_length: samples per frame; the rumble is measured by the frame.

    Returns:
        ``[C, N]`` float32.

    Example:
        >>> high_pass(np.full((1, 4_801), 0.1, np.float32), 24_000).shape
        (1, 4801)
    """
    frames = FilteredFrames(sample_rate, hop_length, len(audio))
    return np.concatenate((frames.push(audio), frames.finish()), axis=1)


class _Matrices(NamedTuple):
    """Both filters for frames of one length, as products of matrices.

    The state of a pole p is s(n + 1) = p s(n) + x(n), and the output of a filter a gain times x(n)
    plus the real part of its weighted states. Complex numbers are pairs of columns. A frame is
    divided into blocks, the last of which is filled with zeros.

    Attributes:
        num_blocks: blocks of a frame.
        block_size: samples of a block.
        left: from the samples of a block to the states that it leaves, if it begins at rest.
        ends: from what all blocks of a frame leave to what the frame leaves.
        low: from that and the states before a frame to the low-pass at the begin of its blocks.
        mean: from the squares of that to their mean.
        states: from the same as `low` to the states of the high-pass there.
        response: from the samples of a block to the high-pass, if it begins at rest.
        from_states: from the states before a block to what they add to that.
        decay: factors of the states in a frame.
        ramp: ``[hop_length]``, which rises to 1, and has ones after that.
        weight: of a frame in the mean power.
    """

    num_blocks: int
    block_size: int
    left: Floats
    ends: Floats
    low: Floats
    mean: Floats
    states: Floats
    response: Floats
    from_states: Floats
    decay: list[complex]
    ramp: Floats
    weight: float


@cache
def _matrices(sample_rate: int, hop_length: int) -> _Matrices:
    high, high_weights, gain = _partial_fractions(HIGH_PASS, 1.0, sample_rate)
    low, low_weights, _ = _partial_fractions(LOW_PASS, LOW_PASS_GAIN, sample_rate)
    poles = np.concatenate((high, low))
    count = num_blocks(hop_length)
    size = ceil_div(hop_length, count)
    powers = poles ** np.arange(size + 1)[:, None]  # [size + 1, poles]
    impulse = np.concatenate(([gain], (powers[: size - 1, : len(high)] @ high_weights).real))
    delay = np.arange(size) - np.arange(size)[:, None]
    # The state before block i: what is left of the blocks before it, and of that before the frame.
    steps = np.arange(count + 1) - 1 - np.arange(count)[:, None]
    kept = np.where(steps[..., None] >= 0, powers[-1] ** np.maximum(steps, 0)[..., None], 0)
    begin = powers[-1] ** np.arange(count)[:, None]
    before = np.concatenate((kept[:, :-1], begin[None]))
    own = np.arange(len(poles)) < len(high)
    weighted = np.where(own, 0, np.concatenate((high_weights, low_weights))) * before
    ramp = np.minimum(np.arange(1, count * size + 1) / hop_length, 1)
    return _Matrices(
        count,
        size,
        np.ascontiguousarray(powers[size - 1 :: -1]).view(np.float64),
        _as_real(kept[:, -1:] / poles ** (count * size - hop_length)),
        _real_part(weighted.transpose(0, 2, 1).reshape(-1, count)),
        np.full((count, 1), 1 / count),
        _as_real(before)
        .reshape(-1, count, len(poles), 2)[:, :, own]
        .reshape(-1, count * own.sum() * 2),
        np.where(delay >= 0, impulse[delay], 0.0),
        _real_part((high_weights * powers[:-1, : len(high)]).T),
        (poles**hop_length).tolist(),
        ramp,
        -math.expm1(-hop_length / (MEMORY_SECONDS * sample_rate)),
    )


def num_blocks(hop_length: int) -> int:
    """Blocks of a frame: about as many operations for the blocks as for what joins them."""
    return max(1, round(math.sqrt(hop_length / 10)))


def _partial_fractions(
    sections: Sections, gain: float, sample_rate: int
) -> tuple[Complex, Complex, float]:
    """Poles of the upper half plane, the weights of their states, and the gain of a sample itself.

    Args:
        sections: of the analog filter.
        gain: its gain at high frequencies.
        sample_rate: samples per second.
    """
    zero_hz, pole_hz, quality = np.array(sections).T
    pairs = quality > 0.5

    def digital(analog: Complex) -> Complex:  # by the bilinear transform
        ratio = analog * np.pi / sample_rate
        points: Complex = (1 + ratio) / (1 - ratio)
        return np.concatenate((points, points[pairs].conj()))

    zeros, poles = digital(1j * zero_hz), digital(pole_hz * np.exp(1j * np.arccos(-0.5 / quality)))
    gain = float(gain * (np.prod(1 + poles) / np.prod(1 + zeros)).real)
    weights = np.where(pairs, 2.0 + 0j, 1.0)
    for number, pole in enumerate(poles[: len(sections)]):
        others = np.delete(poles, number)
        weights[number] *= gain * pole * np.prod(1 - zeros / pole) / np.prod(1 - others / pole)
    return poles[: len(sections)], weights, gain


def _as_real(factors: Complex) -> Floats:
    """The real matrix ``[I * P * 2, J * P * 2]`` of factors ``[I, J, P]`` for P states each."""
    sources, targets, count = factors.shape
    matrix = np.zeros((sources, count, 2, targets, count, 2))
    for pole in range(count):
        own = factors[..., pole]
        matrix[:, pole, 0, :, pole, 0] = matrix[:, pole, 1, :, pole, 1] = own.real
        matrix[:, pole, 0, :, pole, 1], matrix[:, pole, 1, :, pole, 0] = own.imag, -own.imag
    return matrix.reshape(sources * count * 2, targets * count * 2)


def _real_part(factors: Complex) -> Floats:
    """The real matrix ``[P * 2, N]`` from P states to the real parts of what ``[P, N]`` makes."""
    return np.stack((factors.real, -factors.imag), axis=1).reshape(-1, factors.shape[1])


def _scan(decay: list[complex], ends: Complex, state: Complex) -> tuple[Complex, Complex]:
    """States ``[C, T, P]`` before frames that leave ``ends``, and those after the last one."""
    begins, after = np.empty_like(ends), np.empty_like(state)
    for channel, changes in enumerate(ends.tolist()):
        now, found = state[channel].tolist(), []
        for change in changes:
            found.append(now)
            now = [
                value if abs(value := factor * old + new) > NEGLIGIBLE else 0j
                for factor, old, new in zip(decay, now, change, strict=True)
            ]
        begins[channel], after[channel] = found, now
    return begins, after


def _followed(power: Floats, before: Floats, weight: float) -> Floats:
    """Means ``[C, T + 1]`` of the power ``[C, T]`` before the first frame and after each one."""
    return np.array(
        [
            list(accumulate(own, lambda mean, new: mean + weight * (new - mean), initial=first))
            for first, own in zip(before.tolist(), power.tolist(), strict=True)
        ]
    )
