"""Spectrograms of speech before and after coding: models of aecodec and other codecs side by side.

    pip install -e ".[bench]"
    python benchmarks/spectrograms.py --data DIR [--model M] [--peer lyra=FOLDER] [--out OUT]

One row per speaker, one column per codec, the original first. Harmonics are the horizontal lines of
voices; noise between them sounds hoarse. Writes OUT/spectrograms.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.comparison.entries import Entry, model_entries, peer_entries
from benchmarks.contenders.aecodec import Aecodec
from benchmarks.shared import metrics, recordings
from benchmarks.shared.recordings import SAMPLE_RATE, Recording
from benchmarks.shared.spectra import stft_magnitudes
from codec.bitrate import parse_bitrate
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL

WINDOW = 1024
HIGHEST_HZ = 8_000
RANGE_DB = 70.0
SECONDS = 2.0
SKIPPED_SECONDS = 1.0
"""Beginning of each recording that is not shown, because it is often silent."""


def choose_speakers(folder: Path, count: int) -> list[Recording]:
    """Recordings of speech, evenly spaced, each of another speaker.

    The speaker of a recording is its name without the number at its end.

    Raises:
        CodecError: see `recordings.speech`.
    """
    speech = recordings.speech(folder)
    by_speaker = {Path(each.name).stem.rpartition("_")[0] or each.name: each for each in speech}
    chosen = list(by_speaker.values())
    count = min(count, len(chosen))
    return [chosen[number * len(chosen) // count] for number in range(count)]


def spectrogram(audio: np.ndarray) -> np.ndarray:
    """Levels in dB below the maximum, ``[F, T]``, up to `HIGHEST_HZ`."""
    magnitudes = stft_magnitudes(audio, WINDOW)[: WINDOW * HIGHEST_HZ // SAMPLE_RATE]
    levels = 20 * np.log10(np.maximum(magnitudes, 1e-6))
    return np.asarray(levels - levels.max())


def draw(chosen: Sequence[Recording], entries: Sequence[Entry], bitrate: int, path: Path) -> None:
    """Write the picture.

    Args:
        chosen: recordings, one per row.
        entries: codecs, one per column, at the bitrate nearest to ``bitrate``.
        bitrate: in bits per second.
        path: PNG file to write.
    """
    columns = 1 + len(entries)
    figure = Figure(figsize=(3.2 * columns, 2.1 * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(chosen), columns, squeeze=False, sharex=True, sharey=True)
    begin = round(SKIPPED_SECONDS * SAMPLE_RATE)
    part = slice(begin, begin + round(SECONDS * SAMPLE_RATE))
    for number, (row, recording) in enumerate(zip(axes, chosen, strict=True)):
        original = recording.load(SKIPPED_SECONDS + SECONDS)
        shown = [("original", original)]
        for entry in entries:
            codec = entry.open("speech")
            coded = codec.code(original, SAMPLE_RATE, codec.nearest_bitrate(bitrate))
            gain = 10 ** (metrics.level_difference(coded.audio, original) / 20)
            kbits = coded.payload_bits * SAMPLE_RATE / len(original) / 1000
            shown.append((f"{entry.label}, {kbits:.1f} kbit/s", gain * coded.audio))
        for column, (cell, (title, audio)) in enumerate(zip(row, shown, strict=True)):
            cell.imshow(
                spectrogram(audio[part]),
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=-RANGE_DB,
                vmax=0,
                extent=(0, SECONDS, 0, HIGHEST_HZ / 1000),
            )
            if number == 0:
                cell.set_title(title, fontsize=9)
            if column == 0:
                cell.set_ylabel(f"{Path(recording.name).stem[:28]}\nkHz", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(words: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings")
    parser.add_argument(
        "--model", action="append", help="name or folder of a model of aecodec; repeat for several"
    )
    parser.add_argument("--peers", default="opus", help="codecs to show (default: %(default)s)")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=FOLDER", help="codec with weights"
    )
    parser.add_argument("--bitrate", type=parse_bitrate, default=6_000, help="default: 6k")
    parser.add_argument("--speakers", type=int, default=6, help="number of speakers")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder")
    arguments = parser.parse_args(words)
    try:
        entered = model_entries(arguments.model or [DEFAULT_MODEL], [arguments.bitrate], 1)
        ours = [entry for entry in entered if entry.contender == Aecodec.name]
        names = [name for name in arguments.peers.split(",") if name]
        folders = {name: folder for name, _, folder in (p.partition("=") for p in arguments.peer)}
        others, _ = peer_entries(names, folders, max_bitrates=99)
        chosen = choose_speakers(arguments.data, arguments.speakers)
        draw(chosen, [*ours, *others], arguments.bitrate, arguments.out / "spectrograms.png")
    except CodecError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
