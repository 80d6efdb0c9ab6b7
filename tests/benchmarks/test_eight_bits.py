"""The benchmark of 8 bits: the same recordings with PyTorch and with the core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import eight_bits
from tests.conftest import RECORDING


def test_the_command_compares_all_ways(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speech_a.flac").write_bytes(RECORDING.read_bytes())
    words = ["--data", str(tmp_path), "--model", str(model_folder), "--seconds", "1"]
    eight_bits.main([*words, "--codebooks", "2", "--out", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "eight_bits.json").read_text("utf-8"))["files"]
    assert [row["way"] for row in rows] == list(eight_bits.WAYS)
    assert [row["equal_codes"] for row in rows[:2]] == [1.0, 1.0]
    assert "| 2 | core, codes of float32 | 100.0 % |" in capsys.readouterr().out
