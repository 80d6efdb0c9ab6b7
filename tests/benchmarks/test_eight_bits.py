"""The benchmark of 8 bits: the same recordings with PyTorch and with the core."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import eight_bits
from codec.export import export_model
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


def test_a_model_is_compared_with_what_was_exported_of_it(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And an interrupted run goes on: what is done is not computed again."""
    for name in ("speech_a.flac", "speech_b.flac"):
        (tmp_path / name).write_bytes(RECORDING.read_bytes())
    export_model(model_folder, exported := tmp_path / "exported")
    words = ["--data", str(tmp_path), "--model", str(model_folder), "--exported", str(exported)]
    words += ["--seconds", "1", "--codebooks", "2", "--out", str(tmp_path / "out")]
    eight_bits.main(words)
    shown = capsys.readouterr().out
    # Two recordings that are the same differ by the same.
    assert re.search(r"\| 2 \| core \| [+-]0\.\d+ ± 0\.000 \|", shown)
    partial = tmp_path / "out" / "eight_bits.partial.json"
    stored = json.loads(partial.read_text("utf-8"))
    del stored["rows"]["speech_b.flac"]
    for row in stored["rows"]["speech_a.flac"]:
        row["pesq_wb"] = 4.0
    partial.write_text(json.dumps(stored), "utf-8")
    eight_bits.main(words)
    rows = json.loads((tmp_path / "out" / "eight_bits.json").read_text("utf-8"))["files"]
    assert [row["pesq_wb"] == 4.0 for row in rows] == 3 * [True] + 3 * [False]
    assert not eight_bits.Partial(partial, {"seconds": 2}).rows  # other settings begin again
