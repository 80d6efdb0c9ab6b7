"""How well a codec does on a folder of recordings, by class of sound and bitrate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codec.arguments import check_whole
from codec.arrays import Histogram, Samples
from codec.bitrate import ceil_div
from codec.codes import Geometry
from codec.corpus.workers import OPENING_SECONDS, Recordings
from codec.engines.base import Engine, decode, encode
from codec.evaluation.harmonics import harmonic_contrast
from codec.evaluation.metrics import (
    bitrate_efficiency,
    count_codes,
    level,
    mel_distance,
    short_time_intelligibility,
    si_sdr,
)
from codec.evaluation.naturalness import rate_naturalness
from codec.evaluation.speaker import can_compare_speakers, speaker_similarity
from codec.format.bitpack import packed_size
from codec.registry import ModelLike, as_model

ALL_CLASSES = "(all)"
HARMONICS = ("harmonics_low", "harmonics_middle", "harmonics_high")
COLUMNS = {
    "SI-SDR dB": (("si_sdr",), ".1f"),
    "mel distance": (("mel",), ".2f"),
    "STOI": (("stoi",), ".3f"),
    "DNSMOS": (("dnsmos",), ".2f"),
    "PLCMOS": (("plcmos",), ".2f"),
    "speaker": (("speaker",), ".2f"),
    "harmonics dB": (HARMONICS, "+.0f"),
    "level dB": (("level",), "+.1f"),
    "entries used": (("entries_used",), ".0%"),
    "efficiency": (("efficiency",), ".0%"),
}
"""Columns of the table after the bitrate: what they hold, and how it is written."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Measures of one decoded recording; None where a measure is not defined.

    DNSMOS, PLCMOS and the similarity of speakers are None also where they were not asked for or
    what they need is not installed.
    """

    payload_bitrate: float | None  # bits per second of its packed codes; None without codes
    si_sdr: float | None  # in dB, higher is better; not defined for silence
    mel: float  # `mel_distance`, lower is better
    stoi: float | None  # `short_time_intelligibility`, higher is better
    dnsmos: float | None  # of the decoded audio alone, higher is better
    plcmos: float | None  # likewise
    speaker: float | None  # `speaker_similarity`, higher is better
    harmonics_low: float | None  # `harmonic_contrast` to 1.5 kHz in dB, best at 0
    harmonics_middle: float | None  # from 1.5 to 4 kHz
    harmonics_high: float | None  # from 4 to 8 kHz
    level: float | None  # of the decoded audio relative to the original, in dB


@dataclass(frozen=True)
class Measured:
    """One recording at several bitrates."""

    seconds: float  # length of what was measured
    figures: list[Figures]  # one for each number of codebooks; a single one without codes
    histogram: Histogram | None  # counts of the codes; None without codes


@dataclass(frozen=True, kw_only=True)
class Row(Figures):
    """Means over the recordings of one class at one bitrate, all weighted equally.

    None where a measure is not defined for any of the recordings.
    """

    sound_class: str  # `ALL_CLASSES` for the mean over all of them
    num_codebooks: int | None  # None without codes
    files: int
    seconds: float  # of all files
    # Share of the entries that occur, mean over codebooks: low if there is little audio.
    entries_used: float | None
    efficiency: float | None  # `bitrate_efficiency`


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    fingerprint: str  # of the model, in hexadecimal digits
    opening_seconds: float  # length of the beginning of each recording that was measured
    rows: tuple[Row, ...]  # by class, then by ascending bitrate; means over all come last
    skipped: dict[str, str]  # for each name that cannot be used, one line with the reason

    def table(self) -> str:
        """The rows in Markdown."""
        titles = ["sound", "files", "minutes", "kbit/s", *COLUMNS]
        lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
        for row in self.rows:
            rate = None if row.payload_bitrate is None else row.payload_bitrate / 1000
            cells = [_printable(row.sound_class), f"{row.files}", f"{row.seconds / 60:.1f}"]
            cells.append(_cell(rate, ".2f"))
            for names, form in COLUMNS.values():
                cells.append(" / ".join(_cell(getattr(row, name), form) for name in names))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def evaluate(
    model: ModelLike,
    folder: Path,
    codebooks: Sequence[int] | None = None,
    *,
    seconds: float = OPENING_SECONDS,
    every: int = 1,
    naturalness: bool = False,
    processes: int = 1,
) -> Evaluation:
    """Code every recording of a folder and compare it with the original.

    Args:
        model: an engine, a `Codec`, the name of a packaged model or a model folder. A model with
            continuous latents is measured without codes.
        folder: searched with all its subfolders; recordings that cannot be read are skipped.
        codebooks: numbers of codebooks; one, a quarter, half and all of them if None.
        seconds: length of the beginning of each recording that is measured.
        every: take every n-th recording only.
        naturalness: whether to measure DNSMOS, PLCMOS and the similarity of speakers too, which
            takes most of the time; each only if its packages are installed.
        processes: see `Recordings.each`.

    Raises:
        AudioError: nothing in ``folder`` can be read.
        ConfigError: the model has no such number of codebooks, or none at all.
    """
    engine = as_model(model).engine
    counts = codebook_counts(engine.spec, codebooks)
    recordings = Recordings(folder, seconds=seconds, every=every)
    work = partial(measure, counts=counts, naturalness=naturalness)
    members: dict[str, list[Measured]] = {}
    histograms: dict[str, Histogram] = {}
    for clip, measured in recordings.each(engine, work, processes=processes, title="measuring"):
        for sound_class in (clip.sound_class, ALL_CLASSES):
            if measured.histogram is not None:
                histograms[sound_class] = histograms.get(sound_class, 0) + measured.histogram
            kept = dataclasses.replace(measured, histogram=None)
            members.setdefault(sound_class, []).append(kept)
    classes = sorted(members.keys() - {ALL_CLASSES})
    if len(classes) > 1:
        classes.append(ALL_CLASSES)
    rows = [
        _row(name, members[name], index, count, histograms.get(name), engine.spec)
        for name in classes
        for index, count in enumerate(counts or [None])
    ]
    fingerprint = engine.spec.fingerprint.hex()
    return Evaluation(fingerprint, seconds, tuple(rows), recordings.skipped)


def typical_codebook_counts(spec: Geometry) -> list[int]:
    """A quarter, half and all of the codebooks, rounded up; none for continuous latents."""
    most = len(spec.codebooks)
    return sorted({ceil_div(most, part) for part in (4, 2, 1)}) if most else []


def codebook_counts(spec: Geometry, codebooks: Sequence[int] | None) -> list[int]:
    """Numbers of codebooks to measure, ascending; none for a model with continuous latents."""
    most = len(spec.codebooks)
    if codebooks is None:
        return sorted({1, *typical_codebook_counts(spec)}) if most else []
    spec.check_has_codes()
    return sorted({check_whole("codebooks", each, 1, most) for each in codebooks})


def measure(
    engine: Engine, original: Samples, *, counts: Sequence[int], naturalness: bool = False
) -> Measured:
    """Code a recording ``[N]`` with each number of codebooks, and compare."""
    spec = engine.spec
    duration = len(original) / spec.sample_rate
    codes = encode(engine, original[None], max(counts, default=None))
    figures = []
    for count in counts or (None,):
        kept, bitrate = codes, None
        if count is not None:
            kept = codes[:, : spec.num_codes(count)]
            widths = np.tile(spec.bits[: kept.shape[1]], kept.shape[2])
            bitrate = 8 * packed_size(widths) / duration
        decoded = decode(engine, kept, len(original), channels=1)[0]
        figures.append(compare(decoded, original, spec.sample_rate, bitrate, naturalness))
    histogram = count_codes(codes, largest_codebook(spec)) if spec.has_codes else None
    return Measured(duration, figures, histogram)


def largest_codebook(spec: Geometry) -> int:
    """Entries of the largest codebook; 1 if there are none."""
    return max((each.size for each in spec.codebooks), default=1)


def compare(
    decoded: Samples,
    original: Samples,
    sample_rate: int,
    payload_bitrate: float | None,
    naturalness: bool = False,
) -> Figures:
    """All figures of one decoded recording ``[N]``."""
    before, after = level(original), level(decoded)
    harmonics = harmonic_contrast(decoded, original, sample_rate)
    rated: dict[str, float | None] = dict.fromkeys(("dnsmos", "plcmos", "speaker"))
    if naturalness:
        rated |= rate_naturalness(decoded, sample_rate)
        if can_compare_speakers():
            rated["speaker"] = speaker_similarity(decoded, original, sample_rate)
    return Figures(
        payload_bitrate=payload_bitrate,
        si_sdr=None if before is None else si_sdr(decoded, original),
        mel=mel_distance(decoded, original, sample_rate),
        stoi=short_time_intelligibility(decoded, original, sample_rate),
        **rated,
        **dict(zip(HARMONICS, harmonics, strict=True)),
        level=None if before is None or after is None else after - before,
    )


def _row(
    sound_class: str,
    members: list[Measured],
    index: int,
    num_codebooks: int | None,
    histogram: Histogram | None,
    spec: Geometry,
) -> Row:
    used = efficiency = None
    if histogram is not None:
        bits = spec.bits[: spec.num_codes(num_codebooks)]
        in_use = histogram[: len(bits)]
        used = float(((in_use > 0).sum(1) / np.exp2(bits)).mean())
        efficiency = bitrate_efficiency(in_use, bits)
    means: dict[str, Any] = {
        field.name: _mean([getattr(member.figures[index], field.name) for member in members])
        for field in dataclasses.fields(Figures)
    }
    return Row(
        sound_class=sound_class,
        num_codebooks=num_codebooks,
        files=len(members),
        seconds=sum(member.seconds for member in members),
        entries_used=used,
        efficiency=efficiency,
        **means,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form).replace("%", " %")


def _printable(name: str) -> str:
    """A name as a cell of a table; bytes that are not UTF-8 become question marks."""
    return name.encode(errors="replace").decode().replace("|", "\\|")
