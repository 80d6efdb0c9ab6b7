"""The excitation of voices, on tones whose phase and period are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from codec.network.excitation import (
    HIGHEST_PITCH_HZ,
    LOWEST_PITCH_HZ,
    PITCH_STEPS,
    EarlierPeriods,
    Excitation,
    PitchHead,
    pitch_of,
)

RATE, BLOCK = 24_000, 240
PITCHES = [71.0, 123.4, 240.0, 449.0]


def tone(frequency: float, phase: float = 0.0, num_blocks: int = 60) -> Tensor:
    """A cosine ``[1, N, 1]`` whose maximum is at sample ``phase / frequency`` in cycles."""
    time = torch.arange(num_blocks * BLOCK, dtype=torch.float64)
    return (0.1 * torch.cos(2 * math.pi * (frequency / RATE * time - phase))).float()[None, :, None]


def excite(audio: Tensor, pitch: float, phase: int = 0) -> tuple[Tensor, Tensor]:
    """Pulses and periods for a constant pitch, from any phase of the oscillator."""
    layer = Excitation(BLOCK, RATE)
    state = layer.init_state(len(audio))
    assert isinstance(state, tuple) and isinstance(state[0], Tensor)
    state = (state[0] + phase, *state[1:])
    num_blocks = audio.shape[1] // BLOCK
    pulses, period, _ = layer(audio, torch.full((len(audio), num_blocks), pitch), state)
    return pulses, period


def settled(signal: Tensor) -> Tensor:
    """The part ``[N]`` for which the phase window is full."""
    return signal[0, 8 * BLOCK :, 0]


def places(pulses: Tensor) -> Tensor:
    """Samples at which pulses are largest."""
    inner = pulses[1:-1]
    peaks = (inner > pulses[:-2]) & (inner >= pulses[2:]) & (inner > 0.5 * pulses.max())
    return peaks.nonzero().flatten() + 1


@pytest.mark.parametrize("error", [0.97, 1.0, 1.03])
@pytest.mark.parametrize("pitch", PITCHES)
def test_pulses_lie_at_the_maxima_of_the_fundamental(pitch: float, error: float) -> None:
    phase = 0.3
    pulses = settled(excite(tone(pitch, phase), error * pitch)[0])
    cycles = (places(pulses) + 8 * BLOCK) * pitch / RATE - phase
    assert len(cycles) == pytest.approx(len(pulses) * pitch / RATE, abs=2)
    # The phase window is 18 ms late on average.
    late = 0.019 * pitch * abs(1 - error)
    assert (cycles - cycles.round()).abs().max() < 0.02 + late


@pytest.mark.parametrize("error", [0.96, 1.0, 1.05])
@pytest.mark.parametrize("pitch", PITCHES)
def test_the_period_is_that_of_the_fundamental(pitch: float, error: float) -> None:
    period = settled(excite(tone(pitch), error * pitch)[1])
    assert period.median() == pytest.approx(RATE / pitch, rel=5e-3)
    assert (period / (RATE / pitch) - 1).abs().max() < 0.05


def test_the_past_of_the_oscillator_does_not_matter() -> None:
    audio = tone(130, 0.1)
    one, other = (settled(excite(audio, 131, phase)[0]) for phase in (0, 9_999_999))
    torch.testing.assert_close(one, other, rtol=0, atol=0.005 * float(one.max()))


@pytest.mark.parametrize("pitch", PITCHES)
def test_pulses_have_about_unit_power_and_all_harmonics(pitch: float) -> None:
    pulses = settled(excite(tone(pitch), pitch)[0])
    assert 0.6 < pulses.square().mean() < 1.4
    spectrum = torch.fft.rfft(pulses * torch.hann_window(len(pulses))).abs()
    bin_width = RATE / len(pulses)
    harmonics = torch.arange(1, int(8_000 / pitch)) * pitch / bin_width
    peaks = torch.stack([spectrum[int(place) - 2 : int(place) + 4].max() for place in harmonics])
    valleys = spectrum[((harmonics + pitch / bin_width / 2).round()).long()]
    assert peaks.max() < 3 * peaks.min()
    assert (peaks > 10 * valleys).all()


@pytest.mark.parametrize("level", [0.0, 1e-12, 1e-3, 1.0, 1e3])
def test_excitation_is_finite_at_any_level(level: float) -> None:
    pulses, period = excite(level * torch.randn(3, 40 * BLOCK, 1), 150.0)
    assert pulses.isfinite().all()
    assert period.min() > RATE / HIGHEST_PITCH_HZ / 1.2
    assert period.max() < EarlierPeriods(1, RATE).reach


@pytest.mark.parametrize("frequency", [150, 1_000, 5_000, 8_000])
@pytest.mark.parametrize("period", [48.0, 123.25, 200.5, 440.9])
def test_the_sound_one_period_ago_is_interpolated(frequency: int, period: float) -> None:
    layer, angle = EarlierPeriods(2, RATE), 2 * math.pi * frequency / RATE
    time = torch.arange(4_000, dtype=torch.float64)
    audio = torch.sin(angle * time).float()[None, :, None]
    delayed, _ = layer(audio, torch.full_like(audio, period), layer.init_state(1))
    tolerance = 0.02 if frequency < 8_000 else 0.17
    for number, each in enumerate(delayed, start=1):
        expected = torch.sin(angle * (time - number * period))[1_000:]
        found = each[0, 1_000:, 0].double()
        torch.testing.assert_close(found, expected, rtol=0, atol=number * tolerance)


def test_a_whole_period_ago_is_exact_and_before_the_audio_is_silence() -> None:
    layer, audio = EarlierPeriods(2, RATE), torch.randn(2, 1_000, 1)
    delayed, _ = layer(audio, torch.full_like(audio, 100), layer.init_state(2))
    for number, each in enumerate(delayed, start=1):
        late = 100 * number
        torch.testing.assert_close(each[:, late:], audio[:, :-late], rtol=1e-5, atol=1e-5)
        assert not each[:, : late - 4 * number].any()


@pytest.mark.parametrize("lengths", [[1] * 12, [5, 0, 7], [11, 1]])
def test_excitation_and_delay_do_not_depend_on_how_audio_is_cut(lengths: list[int]) -> None:
    torch.manual_seed(0)
    audio, pitch = 0.1 * torch.randn(2, 12 * BLOCK, 1), 100 + 100 * torch.rand(2, 12)
    excitation, earlier = Excitation(BLOCK, RATE), EarlierPeriods(2, RATE)

    def run(lengths: list[int]) -> list[Tensor]:
        state, past, found = excitation.init_state(2), earlier.init_state(2), []
        audio_parts = audio.split([BLOCK * length for length in lengths], dim=1)
        for part, pitches in zip(audio_parts, pitch.split(lengths, dim=1), strict=True):
            pulses, period, state = excitation(part, pitches, state)
            delayed, past = earlier(part, period, past)
            found.append(torch.cat((pulses, period, *delayed), dim=-1))
        return found

    whole, parts = torch.cat(run([12]), dim=1), torch.cat(run(lengths), dim=1)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-3)


def test_a_certain_posterior_gives_its_pitch_and_a_doubt_of_an_octave_hardly_moves_it() -> None:
    octave = (PITCH_STEPS - 1) / math.log2(HIGHEST_PITCH_HZ / LOWEST_PITCH_HZ)
    logits = torch.full((1, 1, PITCH_STEPS + 1), -10.0)
    logits[..., 60] = 5
    certain = pitch_of(logits)
    assert certain == pytest.approx(LOWEST_PITCH_HZ * 2 ** (60 / octave), rel=1e-3)
    logits[..., 60 + round(octave)] = 3  # a seventh of the probability
    assert pitch_of(logits) == pytest.approx(float(certain), rel=0.01)


def test_a_pitch_head_can_learn() -> None:
    torch.manual_seed(0)
    head, x = PitchHead(8, hidden=16), torch.randn(64, 1, 8)
    goal = torch.randint(PITCH_STEPS, (64,))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        logits, _ = head(x, head.init_state(64))
        loss = torch.nn.functional.cross_entropy(logits[:, 0, :PITCH_STEPS], goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(PITCH_STEPS), abs=1e-3) and losses[-1] < 1
