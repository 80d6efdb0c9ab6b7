"""Sounds that recordings rarely have: the digits of telephone keys, steady noise, silence.

    python benchmarks/tones.py [--model M] [--bitrates 3k 6k 10k] [--peers opus] [--out OUT]

- Digits: the 16 pairs of tones of ITU-T Q.23, 100 ms each, two levels. A receiver after Q.24 counts
  a digit if both of its tones are the strongest of their groups, their levels differ by less than 8
  dB, and they hold more than half of the power.
- Noise: white and pink, 4 s. A codec without room for phase can decode noise as rows of tones. The
  power of the finest bins over 4 s is compared with its mean over bands of 100 Hz: how much the
  decoded spectrum is more uneven than that of noise, in dB (0 for noise, 10 and more for tones).
- Silence: the largest sample of decoded digital silence, in 16-bit steps.

Writes tones.json and tones.md to OUT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.comparison.entries import model_entries, peer_entries
from benchmarks.contenders.base import Contender
from benchmarks.shared.recordings import SAMPLE_RATE
from benchmarks.shared.report import origin, write_report
from benchmarks.shared.tables import markdown_table
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.evaluation.metrics import rms
from codec.model_folder import DEFAULT_MODEL

LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
DIGITS = tuple(product(LOW_HZ, HIGH_HZ))
DIGIT_SECONDS = 0.1
EDGE_SECONDS = 0.02
"""Left out at both ends of a digit by the receiver."""
MAX_TWIST_DB = 8.0
AMPLITUDES = (0.1, 0.3)
"""Of each of the two tones."""

NOISE_SECONDS = 4.0
NOISE_RMS = 0.05
BAND_HZ = 100.0


def make_digits(amplitude: float) -> np.ndarray:
    """All digits, with pauses of the same length before, between and after them: ``[N]``."""
    time = np.arange(round(DIGIT_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    pause = np.zeros(len(time))
    parts = [pause]
    for low, high in DIGITS:
        parts += [amplitude * np.sin(2 * np.pi * np.outer((low, high), time)).sum(0), pause]
    return np.concatenate(parts).astype(np.float32)


def count_digits(decoded: np.ndarray) -> int:
    """How many of the digits of `make_digits` a receiver recognises.

    Example:
        >>> count_digits(make_digits(0.1)), count_digits(np.zeros(80_000, np.float32))
        (16, 0)
    """
    length, edge = round(DIGIT_SECONDS * SAMPLE_RATE), round(EDGE_SECONDS * SAMPLE_RATE)
    starts = (length * (2 * number + 1) for number in range(len(DIGITS)))
    heard = (decoded[start + edge : start + length - edge] for start in starts)
    return sum(is_digit(audio, *digit) for audio, digit in zip(heard, DIGITS, strict=True))


def is_digit(audio: np.ndarray, low: int, high: int) -> bool:
    """Whether a receiver takes ``[N]`` samples for this pair of tones."""
    groups = [[amplitude_at(audio, f) for f in group] for group in (LOW_HZ, HIGH_HZ)]
    strongest = [max(group) for group in groups]
    if not min(strongest):
        return False
    found = [group[np.argmax(a)] for group, a in zip((LOW_HZ, HIGH_HZ), groups, strict=True)]
    twist = abs(20 * np.log10(strongest[0] / strongest[1]))
    tones = sum(np.square(strongest)) / 2
    dominant = tones > np.square(audio).mean() / 2
    return bool(found == [low, high] and twist < MAX_TWIST_DB and dominant)


def amplitude_at(audio: np.ndarray, frequency: float) -> float:
    """Amplitude of the tone of this frequency in ``[N]`` samples."""
    turns = np.exp(-2j * np.pi * frequency / SAMPLE_RATE * np.arange(len(audio)))
    return float(2 * abs(turns @ audio) / len(audio))


def make_noise(pink: bool, seed: int = 0) -> np.ndarray:
    """White noise, or noise whose power falls by 3 dB per octave: ``[N]``."""
    size = round(NOISE_SECONDS * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    if pink:
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, size).astype(np.float32)
    return noise * np.float32(NOISE_RMS / rms(noise))


def unevenness(audio: np.ndarray) -> float:
    """Mean square over squared mean of the power of the finest bins, mean over bands, in dB.

    Relative to noise, whose powers are distributed exponentially.

    Example:
        >>> abs(unevenness(make_noise(pink=True))) < 0.2
        True
    """
    powers = np.square(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))))
    bins = round(BAND_HZ * len(audio) / SAMPLE_RATE)
    bands = powers[1 : 1 + (len(powers) - 1) // bins * bins].reshape(-1, bins)
    means = bands.mean(1)
    ratios = np.square(bands[means > 0]).mean(1) / np.square(means[means > 0]) / 2
    return float(10 * np.log10(ratios).mean())


def figures_of(contender: Contender, bitrate: int) -> dict[str, float]:
    """All figures of a codec at a bitrate."""

    def code(audio: np.ndarray) -> np.ndarray:
        return contender.code(audio, SAMPLE_RATE, bitrate).audio

    figures: dict[str, float] = {
        f"digits_{amplitude:g}": count_digits(code(make_digits(amplitude)))
        for amplitude in AMPLITUDES
    }
    for name in ("white", "pink"):
        figures[name] = unevenness(code(make_noise(name == "pink")))
    silence = code(np.zeros(SAMPLE_RATE, np.float32))
    figures["silence"] = float(2**15 * np.abs(silence).max())
    return figures


def make_section(lines: Sequence[dict[str, Any]]) -> str:
    """Section of the results page."""
    header = ["codec", "kbit/s"]
    header += [f"digits of {len(DIGITS)}, tones of {20 * np.log10(a):.0f} dBFS" for a in AMPLITUDES]
    header += ["white noise (dB)", "pink noise (dB)", "silence (16-bit steps)"]
    rows = [
        [
            line["codec"],
            f"{line['bitrate'] / 1000:g}",
            *(f"{line[f'digits_{a:g}']:d}" for a in AMPLITUDES),
            *(f"{line[name]:.1f}" for name in ("white", "pink", "silence")),
        ]
        for line in lines
    ]
    return "Noise: how much more uneven its spectrum is than that of noise.\n\n" + markdown_table(
        header, rows
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder of a model")
    parser.add_argument(
        "--bitrates",
        type=parse_bitrate,
        nargs="+",
        default=[3_000, 6_000, 10_000],
        help="of the model (default: 3k 6k 10k)",
    )
    parser.add_argument("--peers", default="opus", help="codecs to compare with (default: opus)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder (default: %(default)s)"
    )
    arguments = parser.parse_args(words)
    try:
        entries = model_entries([arguments.model], arguments.bitrates, 1)
        entries += peer_entries([name for name in arguments.peers.split(",") if name], {}, 3)[0]
        lines = [
            {"codec": entry.label, "bitrate": bitrate} | figures_of(entry.open("speech"), bitrate)
            for entry in entries
            for bitrate in entry.bitrates
        ]
    except CodecError as error:
        sys.exit(f"error: {error}")
    section = make_section(lines)
    print(section)
    write_report(arguments.out, "tones", origin([arguments.model]) | {"lines": lines}, section)


if __name__ == "__main__":
    main()
