"""Options that benchmarks on recordings of speech share."""

from __future__ import annotations

import argparse
from pathlib import Path

from codec.model_folder import DEFAULT_MODEL


def add_speech_options(parser: argparse.ArgumentParser) -> None:
    """Add what is measured, how much of it, on how many processes, and where results go."""
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder of a model")
    parser.add_argument("--every", type=int, default=1, help="take every n-th recording")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each recording")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder (default: %(default)s)"
    )
