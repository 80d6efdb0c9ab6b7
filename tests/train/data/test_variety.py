"""What makes recordings differ: levels, bands and lengths are right on all kinds of audio."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soundfile

from codec.arrays import Samples
from codec.errors import ConfigError
from tests.conftest import RECORDING, sound
from tests.train.data.test_augment import NONE, RATE, SIZE, never, rng
from train.data.augment import Augmenter
from train.data.variety import DTMF_HZ, TONE_DB, _dtmf, limit, telephone, tones, transcode
from train.recipe.sections import AugmentConfig

VARIETY = {
    "tones": 1.0,
    "room_share": 1.0,
    "floor_share": 1.0,
    "telephone_share": 1.0,
    "transcode_share": 1.0,
    "limit_share": 1.0,
}


@pytest.fixture(scope="module")
def speech() -> Samples:
    samples, _ = soundfile.read(RECORDING, dtype="float32")
    return np.asarray(samples[20_000 : 20_000 + SIZE], np.float32)


def band_db(audio: Samples, low: float, high: float) -> float:
    """Power between two frequencies in dB."""
    power = np.square(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))))
    frequency = np.fft.rfftfreq(len(audio), 1 / RATE)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].sum() + 1e-20))


@pytest.mark.parametrize("name", VARIETY)
def test_variety_changes_input_and_target_alike(name: str, speech: Samples) -> None:
    augment = Augmenter(dataclasses.replace(NONE, **{name: VARIETY[name]}), RATE, SIZE)  # type: ignore[arg-type]
    degraded, clean = augment(speech, rng(), never)
    assert degraded is clean
    assert clean.shape == (SIZE,) and clean.dtype == np.float32
    assert not np.allclose(clean, speech, atol=1e-4)
    assert np.isfinite(clean).all() and np.abs(clean).max() <= 1


@pytest.mark.parametrize("kind", ["silence", "faint", "square", "one sample"])
def test_all_variety_at_once_is_finite_and_repeatable(kind: str) -> None:
    every = VARIETY | {"tones": 0.2}
    augment = Augmenter(AugmentConfig(gain_db=(-30, 12), **every), RATE, SIZE)  # type: ignore[arg-type]
    source = {
        "silence": np.zeros(SIZE, np.float32),
        "faint": sound(SIZE)[0] * 1e-7,
        "square": np.sign(np.sin(np.arange(SIZE) / 50)).astype(np.float32),
        "one sample": np.eye(1, SIZE, SIZE // 2, dtype=np.float32)[0],
    }[kind]
    for seed in range(6):
        clean, again = (augment(source, rng(seed), never)[1] for _ in range(2))
        assert np.isfinite(clean).all() and np.abs(clean).max() <= 1
        assert np.array_equal(clean, again)


@pytest.mark.parametrize("hard", [False, True])
def test_limited_audio_reaches_full_scale_and_becomes_denser(hard: bool, speech: Samples) -> None:
    limited = limit(speech, 12.0, hard=hard)
    assert np.abs(limited).max() == pytest.approx(1)

    def crest(audio: Samples) -> float:
        return float(20 * np.log10(np.abs(audio).max() / np.sqrt(np.square(audio).mean())))

    assert 4 < crest(speech) - crest(limited) < 12
    assert np.array_equal(np.sign(limited), np.sign(speech))


def test_a_little_drive_leaves_hard_limited_audio_as_it_is(speech: Samples) -> None:
    assert np.allclose(limit(speech, 0.0, hard=True), speech / np.abs(speech).max(), atol=1e-6)


def test_a_telephone_line_passes_its_band_and_nothing_else() -> None:
    noise = 0.2 * sound(SIZE)[0]
    heard = telephone(noise, RATE)
    assert abs(band_db(heard, 500, 3000) - band_db(noise, 500, 3000)) < 1
    assert band_db(heard, 4200, 12_000) < band_db(noise, 4200, 12_000) - 40
    assert band_db(heard, 0, 120) < band_db(noise, 0, 120) - 15


def test_transcoded_audio_stays_in_place_and_is_another(speech: Samples) -> None:
    for seed in range(6):
        coded = transcode(speech, RATE, rng(seed))
        assert coded.shape == speech.shape and coded.dtype == np.float32
        inner = slice(1_500, -1_500)
        correlation = np.corrcoef(coded[inner], speech[inner])[0, 1]
        assert 0.6 < correlation < 0.99999


def test_keys_of_a_telephone_have_their_two_tones() -> None:
    for seed in range(20):
        audio = _dtmf(rng(seed), 24_000, RATE)
        first = int(np.flatnonzero(audio)[0])
        key = audio[first : first + 1_200]
        spectrum = np.abs(np.fft.rfft(key * np.hanning(1_200), 24_000))
        for group in DTMF_HZ:
            found = int(group[0] * 0.9) + int(
                spectrum[int(group[0] * 0.9) : int(group[-1] * 1.1)].argmax()
            )
            assert min(abs(found - tone) / tone for tone in group) < 0.01


def test_tones_have_every_kind_and_a_level_in_their_range() -> None:
    peaks = [np.abs(tones(rng(seed), SIZE, RATE)).max() for seed in range(60)]
    decibels = 20 * np.log10(peaks)
    assert decibels.min() >= TONE_DB[0] - 0.01 and decibels.max() <= TONE_DB[1] + 0.01


def test_mixed_crops_have_the_drawn_ratio(speech: Samples) -> None:
    augment = Augmenter(dataclasses.replace(NONE, mix=1.0, mix_snr_db=(20, 20)), RATE, SIZE)
    other, quiet = sound(SIZE)[0], speech * np.float32(0.5)
    _, clean = augment(quiet, rng(), lambda: other)
    added = clean - quiet
    assert np.corrcoef(added, other)[0, 1] == pytest.approx(1, abs=1e-4)
    assert 17 < 10 * np.log10(np.square(quiet).mean() / np.square(added).mean()) < 20.1


@pytest.mark.parametrize("name", ["mix_snr_db", "limit_db", "floor_snr_db"])
def test_ranges_must_be_in_order(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{name} is .* it must be \[low, high\]"):
        dataclasses.replace(NONE, **{name: (9.0, 1.0)})  # type: ignore[arg-type]
