"""What makes recordings differ: level, compression, rooms, lines, other codecs, tones.

Each function changes audio as recordings of the world are changed before a codec gets them, so the
result is input and target alike: the codec has to carry it. All take and return samples ``[N]``.
"""

from __future__ import annotations

import io

import numpy as np
import scipy.signal
import soundfile
import soxr

from codec.arrays import Floats, Samples

TELEPHONE_RATE = 8_000
TELEPHONE_HZ = (300.0, 3_400.0)
MU = 255.0

# Quantisation of 8 to 24 bits follows the companding of a line; files of these kinds are what
# people have. The quality is libsndfile's compression level, from 0 (best) to 1.
FILE_KINDS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))
FILE_COMPRESSION = (0.2, 0.9)

DTMF_HZ = ((697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0))
TONE_DB = (-30.0, -3.0)


def limit(audio: Samples, drive_db: float, *, hard: bool) -> Samples:
    """Audio as broadcasters and telephones limit it: its peaks, raised by ``drive_db``, bent to 1.

    Args:
        audio: anything but silence, which stays as it is.
        drive_db: how far the peaks would exceed full scale.
        hard: cut them off instead of bending them.

    Example:
        >>> limit(np.array([0.1, -0.5], np.float32), 6.0, hard=True).round(3)
        array([ 0.399, -1.   ], dtype=float32)
    """
    peak = float(np.abs(audio).max())
    if peak < 1e-6:
        return audio
    driven = audio * np.float32(10 ** (drive_db / 20) / peak)
    if hard:
        return driven.clip(-1, 1)
    bent: Samples = np.tanh(driven) / np.float32(np.tanh(10 ** (drive_db / 20)))
    return bent


def telephone(audio: Samples, sample_rate: int) -> Samples:
    """Audio through a telephone line: 300 to 3400 Hz, 8 bits by the mu-law (ITU-T G.711)."""
    narrow = soxr.resample(audio, sample_rate, TELEPHONE_RATE)
    band = scipy.signal.butter(4, TELEPHONE_HZ, "bandpass", fs=TELEPHONE_RATE, output="sos")
    narrow = scipy.signal.sosfilt(band, narrow).clip(-1, 1)
    companded = np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU)
    coded = np.round(companded * 127) / 127
    expanded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(MU)) / MU
    return _fit(soxr.resample(expanded.astype(np.float32), TELEPHONE_RATE, sample_rate), audio)


def transcode(audio: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Audio through another codec at a moderate bitrate: MP3, Vorbis or Opus, about aligned."""
    container, subtype = FILE_KINDS[rng.integers(len(FILE_KINDS))]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        sample_rate,
        1,
        subtype=subtype,
        format=container,
        compression_level=float(rng.uniform(*FILE_COMPRESSION)),
    ) as writer:
        writer.write(audio)
    file.seek(0)
    return _fit(soundfile.read(file, dtype="float32")[0], audio)


def tones(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Samples:
    """Tones of a random kind: keys of telephones, sweeps, chords, whistles, clicks; in silence."""
    makers = (_dtmf, _dtmf, _sweep, _chord, _whistle, _clicks)
    made = makers[rng.integers(len(makers))](rng, num_samples, sample_rate)
    level = 10 ** (rng.uniform(*TONE_DB) / 20)
    peak = max(float(np.abs(made).max()), 1e-6)
    return (made * (level / peak)).astype(np.float32)


def _dtmf(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Floats:
    """Keys of 50 to 200 ms (ITU-T Q.23), the upper tone up to 4 dB stronger or weaker."""
    audio = np.zeros(num_samples)
    at = int(rng.integers(0, sample_rate // 10))
    while at < num_samples:
        length = min(int(rng.uniform(0.05, 0.2) * sample_rate), num_samples - at)
        low, high = (rng.choice(group) for group in DTMF_HZ)
        time = np.arange(length) / sample_rate
        twist = 10 ** (rng.uniform(-4, 4) / 20)
        key = np.sin(2 * np.pi * low * time) + twist * np.sin(2 * np.pi * high * time)
        audio[at : at + length] = key * _ramped(length, sample_rate)
        at += length + int(rng.uniform(0.03, 0.15) * sample_rate)
    return audio


def _sweep(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Floats:
    """A sweep between two frequencies, evenly on a logarithmic scale."""
    first, last = np.exp(rng.uniform(np.log(80), np.log(0.45 * sample_rate), 2))
    frequency = np.geomspace(first, last, num_samples)
    swept: Floats = np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate)
    return swept


def _chord(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Floats:
    """One to five notes with decaying harmonics and a percussive envelope, or a steady one."""
    time = np.arange(num_samples) / sample_rate
    audio = np.zeros(num_samples)
    for _ in range(rng.integers(1, 6)):
        pitch = 440 * 2 ** (rng.integers(-30, 40) / 12)
        start, decay = rng.uniform(0, 0.5) * time[-1], rng.uniform(0, 8)
        after = np.maximum(time - start, 0)
        envelope = (time >= start) * np.minimum(after * 500, 1) * np.exp(-decay * after)
        slope = rng.uniform(0.5, 3)
        for harmonic in range(1, int(rng.integers(2, 12))):
            if pitch * harmonic < 0.48 * sample_rate:
                phase = rng.uniform(0, 2 * np.pi)
                partial = np.sin(2 * np.pi * pitch * harmonic * time + phase)
                audio += partial * envelope * harmonic**-slope
    return audio


def _whistle(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Floats:
    """A tone of 500 to 4000 Hz with vibrato and a trace of breath."""
    time = np.arange(num_samples) / sample_rate
    vibrato = 1 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(3, 8) * time)
    frequency = rng.uniform(500, 4000) * vibrato
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / sample_rate)
    whistled: Floats = tone + 10 ** (rng.uniform(-50, -20) / 20) * rng.standard_normal(num_samples)
    return whistled


def _clicks(rng: np.random.Generator, num_samples: int, sample_rate: int) -> Floats:
    """Single clicks of a few resonating samples."""
    audio = np.zeros(num_samples)
    for _ in range(rng.integers(1, 12)):
        at, length = int(rng.integers(num_samples)), int(rng.integers(2, sample_rate // 100))
        time = np.arange(min(length, num_samples - at))
        resonance = np.cos(rng.uniform(0.05, 2.8) * time) * np.exp(-6 * time / length)
        audio[at : at + len(time)] += rng.uniform(0.2, 1) * resonance
    return audio


def _ramped(length: int, sample_rate: int) -> Floats:
    """An envelope of ``length`` samples that rises and falls within 3 ms."""
    ramp = np.arange(1, length + 1) / (0.003 * sample_rate)
    envelope: Floats = np.minimum(np.minimum(ramp, ramp[::-1]), 1)
    return envelope


def _fit(changed: Samples, original: Samples) -> Samples:
    """As many samples as the original."""
    fitted: Samples = changed[: len(original)].astype(np.float32)
    return np.pad(fitted, (0, len(original) - len(fitted)))
