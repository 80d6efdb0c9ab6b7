"""Robustness to packet loss, bit errors, background noise and tandem coding.

    pip install -e ".[bench]"
    python benchmarks/robustness.py --quick
    python benchmarks/robustness.py --data DIR [--model M] [--every N] [--only NAME ...] [--out OUT]

Experiments with the speech recordings of a folder (class of sound "speech", see `aecodec
evaluate`), compared with Opus at the nearest bitrate where that makes sense; without --data, with
the bundled recording. Prints Markdown tables of means; with --out, writes all figures of every file
to robustness.json and a plot of each experiment (PNG and SVG, with 95 % bootstrap confidence
intervals).

- Packet loss: packets of 20 ms, lost at random or in bursts of 1, 2 or 4 packets on average
  (Gilbert, 1960, and Elliott, 1963: a Markov chain with a state without losses and a state in which
  every packet is lost), the same packets for all. In "strata", 10 % of the packets are lost in
  bursts of up to 120 ms, of 140 to 320 ms, or of 340 ms to 1 s (Diener et al., arXiv:2204.05222).
  Ours at `packet_loss.LOSS_BITRATES`, and at the higher of them with a part of it for redundancy
  (`Redundancy.for_loss`), as if the receiver waited for it.
  Opus without and with in-band forward error correction for that loss, by libopus, which leaves it
  out below 14 to 20 kbit/s, depending on loss and bandwidth: then both have the same packets. As a
  redundancy that does work at such bitrates, "sent twice" has packets of half the bitrate, each of
  which is sent again with the next one (RFC 2198). Neither libopus here has deep redundancy.
- Bit errors: independent bit flips in the bytes of a stream after its header, which is then read as
  the command reads it: packets whose checksum fails are lost. Opus has no checksum of its own.
- Background noise: recordings of the class "sound" in the folder, or pink noise if there are none,
  at a signal-to-noise ratio over the clip. The decoded audio is compared with the clean speech and
  with the noisy mixture that was coded; "uncoded" compares the mixture with the clean speech.
- Tandem coding: decoded audio is coded again, with frames at other positions each time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# As a script, it must import from the repository, which is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.degradation.experiments import EXPERIMENTS
from benchmarks.degradation.measuring import Settings, run
from benchmarks.degradation.section import plot, report
from benchmarks.degradation.summary import summarise
from benchmarks.shared import recordings
from benchmarks.shared.recordings import Recording
from benchmarks.shared.report import origin, write_report
from codec.errors import CodecError
from codec.model_folder import DEFAULT_MODEL

KEPT = "robustness_rows"
"""Folder in the output folder with what was measured of each recording. A run that was interrupted
continues with it; delete it to measure again after a change of the code."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    arguments = parse_arguments(words)
    model, seconds, quick, out = (
        arguments.model,
        arguments.seconds,
        arguments.quick,
        arguments.out,
    )
    try:
        limit = 2 if quick else None
        speech, noises = choose_recordings(arguments.data, arguments.every, limit)
        figures = origin([model])
        settings = Settings(model, seconds, noises, quick, tuple(arguments.only))
        rows = run(speech, settings, arguments.jobs, out and out / KEPT)
    except CodecError as error:
        sys.exit(f"error: {error}")
    figures |= {
        "files": {recording.name: recording.digest() for recording in speech},
        "seconds": seconds,
        "noise": "recordings of sounds" if noises else "pink noise",
        "summary": summarise(rows),
        "rows": rows,
    }
    section = report(figures)
    print(section)
    if out:
        plots = [plot(figures["summary"], name, out) for name in arguments.only]
        write_report(out, "robustness", figures, section, plots)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of recordings (default: the bundled one)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model of aecodec, name or folder")
    parser.add_argument(
        "--seconds", type=float, default=10, help="duration used of each file (default: 10)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), help="experiments"
    )
    parser.add_argument("--every", type=int, default=1, help="take every n-th file of speech")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of processes (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two files, mildest and most severe conditions only"
    )
    parser.add_argument("--out", type=Path, help="folder for robustness.json and plots")
    return parser.parse_args(words)


def choose_recordings(
    data: Path | None, every: int, limit: int | None
) -> tuple[list[Recording], tuple[Recording, ...]]:
    """Recordings of speech and of noise.

    Args:
        data: folder of recordings; None for the bundled recording, without noise.
        every: take only every n-th recording of speech.
        limit: maximum number of recordings of speech; None for all.

    Raises:
        CodecError: see `recordings.speech`.
    """
    if data is None:
        return [recordings.EXAMPLE], ()
    noises = recordings.by_class(recordings.find(data)).get("sound", [])
    return recordings.speech(data, every)[:limit], tuple(noises)


if __name__ == "__main__":
    main()
