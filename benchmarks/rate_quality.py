"""Bitrate against quality of a model, on a folder of recordings.

    pip install -e ".[bench]"
    python benchmarks/rate_quality.py --data DIR [--model M] [--bitrates 1.5k 3k 6k] [--out OUT]

Every file is encoded to a real stream and decoded from it. The class of a recording is what its
name says before the first underscore. Prints a Markdown table of means per class; with --out,
writes every figure of every file as JSON too.

Metrics: SI-SDR (dB, arXiv:1811.02508); mel, the multi-scale log10 mel distance of DAC
(arXiv:2306.06546: seven windows, lower is better); STOI (Taal et al., 2011) and PESQ-WB (ITU-T
P.862.2, at 16 kHz), both for speech only. PESQ's limits: it judges speech, to 8 kHz, and knows
nothing of neural codecs' way of being wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import soxr
import torch

import codec
from codec.config import parse_bitrate
from codec.container import Header
from codec.folder import DEFAULT_MODEL, find_model, read_description
from codec.store import load_codec
from codec.stream import StreamDecoder, StreamEncoder
from train.losses import MEL_BANDS, MEL_WINDOWS
from train.metrics import si_sdr

METRICS = {"si_sdr": 2, "mel": 3, "stoi": 3, "pesq_wb": 2}
"""Name and decimals."""


def measure(path: Path, model: str, bitrates: list[int]) -> dict[str, Any]:
    """All figures of one file, by bitrate."""
    from pesq import PesqError, pesq
    from pystoi import stoi

    torch.set_num_threads(1)
    loaded = load_codec(model)
    rate = loaded.config.sample_rate
    original, native = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(original.mean(axis=1), native, rate)
    row: dict[str, Any] = {
        "file": path.name,
        "class": path.name.split("_")[0],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "seconds": len(mono) / rate,
        "bitrates": {},
    }
    for bitrate in bitrates:
        encoder = StreamEncoder(loaded, bitrate=bitrate, frames_per_packet=100)
        packets = encoder.push(mono[None]) + encoder.finish()
        decoder = StreamDecoder(loaded, encoder.header)
        decoded = np.concatenate([decoder.push(packet) for packet in packets], axis=1)[0]
        num_bytes = Header.SIZE + sum(len(packet.to_bytes()) for packet in packets)
        figures = {
            "payload_bitrate": 8 * sum(len(p.payload) for p in packets) / row["seconds"],
            "file_bitrate": 8 * num_bytes / row["seconds"],
            "si_sdr": si_sdr(torch.from_numpy(decoded), torch.from_numpy(mono)),
            "mel": mel_distance(decoded, mono, rate),
        }
        if row["class"] == "speech":
            figures["stoi"] = float(stoi(mono, decoded, rate))
            narrow = [soxr.resample(audio, rate, 16_000) for audio in (mono, decoded)]
            try:
                figures["pesq_wb"] = float(pesq(16_000, *narrow, "wb"))
            except PesqError as error:  # it finds no speech in some recordings
                row.setdefault("notes", []).append(f"{bitrate}: {error}")
        row["bitrates"][bitrate] = figures
    return row


def mel_distance(decoded: np.ndarray, original: np.ndarray, sample_rate: int) -> float:
    """Sum over seven windows of the mean |log10 mel difference|, with DAC's floor of 1e-5."""
    total = 0.0
    for window, bands in zip(MEL_WINDOWS, MEL_BANDS, strict=True):
        basis = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands)
        a, b = (
            np.log10(
                np.maximum(
                    basis @ np.abs(librosa.stft(audio, n_fft=window, hop_length=window // 4)), 1e-5
                )
            )
            for audio in (decoded, original)
        )
        total += float(np.abs(a - b).mean())
    return total


def table(rows: list[dict[str, Any]], bitrates: list[int]) -> str:
    """Means per class and bitrate, as Markdown."""
    lines = [
        "| class | files | payload kbit/s | file kbit/s | " + " | ".join(METRICS) + " |",
        "|" + "---|" * (4 + len(METRICS)),
    ]
    for kind in sorted({row["class"] for row in rows}):
        members = [row for row in rows if row["class"] == kind]
        for bitrate in bitrates:
            figures = [row["bitrates"][bitrate] for row in members]
            cells = [kind, str(len(members))]
            for name in ("payload_bitrate", "file_bitrate"):
                cells.append(f"{np.mean([figure[name] for figure in figures]) / 1000:.2f}")
            for name, decimals in METRICS.items():
                values = [figure[name] for figure in figures if name in figure]
                cells.append(f"{np.mean(values):.{decimals}f}" if values else "-")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--bitrates", type=parse_bitrate, nargs="+", default=[1500, 3000, 6000])
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    parser.add_argument("--classes", nargs="+", help="only these classes of sound")
    parser.add_argument("--out", type=Path, help="folder for rate_quality.json and .md")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.data.iterdir() if path.suffix in {".flac", ".wav"})
    if arguments.classes:
        paths = [path for path in paths if path.name.split("_")[0] in arguments.classes]
    paths = paths[:: arguments.every]
    if not paths:
        sys.exit(f"no wav or flac files in {arguments.data}")
    work = partial(measure, model=arguments.model, bitrates=arguments.bitrates)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(work, paths))
    text = table(rows, arguments.bitrates)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        description = read_description(find_model(arguments.model))
        facts = {
            "model": description["name"],
            "fingerprint": description["fingerprint"],
            "versions": {"aecodec": codec.__version__, "torch": torch.__version__},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "files": rows,
        }
        (arguments.out / "rate_quality.json").write_text(json.dumps(facts, indent=1) + "\n")
        (arguments.out / "rate_quality.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
