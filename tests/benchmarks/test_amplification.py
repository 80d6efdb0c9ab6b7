"""The benchmark of forged files: what it writes and what it measures."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import amplification
from benchmarks.amplification import Case, Cost, measure, row
from codec.errors import FormatError
from codec.format.reading import summarize_file


def test_forged_files_are_small_and_those_that_claim_most_are_refused(tmp_path: Path) -> None:
    refused, played = [], []
    for number, case in enumerate(amplification.cases()):
        if "aecodec encode" in case.name or case.name == "the same, 26 channels, 24 kHz":
            break
        path = tmp_path / f"{number}.codes"
        case.make(path)
        try:
            summary = summarize_file(path)
        except FormatError:
            refused.append(case.name)
        else:
            played.append(summary.num_frames * summary.header.channels / path.stat().st_size)
    assert any("20 minutes of silence" in name for name in refused) and len(refused) >= 5
    assert len(played) >= 5 and max(played) <= 128


def test_a_command_is_measured_and_stopped_when_it_takes_too_long(tmp_path: Path) -> None:
    script = "import sys; x = bytearray(60 << 20); print('a' * 99); sys.exit(3)"
    cost = measure([sys.executable, "-c", script], tmp_path, limit=60)
    assert (cost.status, cost.output) == (3, 100) and cost.memory > 60 << 20
    endless = "while True: pass"
    assert measure([sys.executable, "-c", endless], tmp_path, limit=1).status is None


def test_a_row_says_what_became_of_a_file() -> None:
    case = Case("much silence", "decode", lambda path: None)
    assert row(case, 100, Cost(1, 0, 2**27, 0.52)) == (
        "| much silence | decode | 100 | refused | 0 | 0 | 128 | 0.5 |"
    )
    assert "| damaged | 5,000 | 50 |" in row(case, 100, Cost(1, 5_000, 2**27, 0.5))
    assert "| stopped |" in row(case, 100, Cost(None, 0, 0, 0))
