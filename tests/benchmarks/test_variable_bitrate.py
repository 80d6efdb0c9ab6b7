"""Variable against constant bitrate: what is compared, and at which number of bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.contenders.aecodec import Aecodec, ConstantAecodec
from benchmarks.shared.recordings import EXAMPLE, Recording
from benchmarks.variable_bitrate import (
    at_equal_bytes,
    compare_rows,
    entries,
    evenly_spaced,
    main,
    make_section,
)


def figures_of(bitrates: list[float], offset: float = 0.0) -> dict[str, dict[str, float]]:
    """PESQ that rises by a half with each doubling of the bitrate."""
    return {
        str(round(bitrate)): {
            "file_bitrate": 0.8 * bitrate,
            "pesq_wb": 2 + 0.5 * np.log2(0.8 * bitrate / 1000) + offset,
        }
        for bitrate in bitrates
    }


@pytest.mark.parametrize("bitrate", [800.0, 1000.0, 1234.5, 6400.0])
def test_a_straight_line_is_interpolated_exactly(bitrate: float) -> None:
    found = at_equal_bytes(figures_of([1000, 1500, 2500, 8000]), bitrate, "pesq_wb")
    assert found == pytest.approx(2 + 0.5 * np.log2(bitrate / 1000))


def test_nothing_is_extrapolated() -> None:
    figures = figures_of([1000, 1500, 2500])
    assert at_equal_bytes(figures, 799, "pesq_wb") is None
    assert at_equal_bytes(figures, 2001, "pesq_wb") is None


def test_differences_are_those_at_equal_bytes() -> None:
    """Files have different bitrates and qualities; each is compared with itself."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for _ in range(12):
        quality = rng.uniform(-1, 1)
        own = figures_of([rng.uniform(3000, 4000)], offset=0.2 + quality)
        codecs = {
            "ours": {"3000": next(iter(own.values()))},
            "ours constant": figures_of([1500, 3000, 6000], offset=quality),
        }
        rows.append({"class": "speech", "codecs": codecs})
    # Beyond what was measured with a constant bitrate: not compared.
    rows[0]["codecs"]["ours"]["3000"]["file_bitrate"] = 9_000.0
    (line,) = compare_rows(rows, "ours", "ours constant", seed=0)
    assert line["pesq_wb"]["files"] == 11
    for end in ("low", "mean", "high"):
        assert line["pesq_wb"][end] == pytest.approx(0.2)
    difference = line["pesq_wb"]["variable"] - line["pesq_wb"]["constant"]
    assert difference == pytest.approx(0.2)
    table = make_section({"seconds": 10.0, "lines": [line]})
    assert "| speech (11) |" in table and "| +0.20 ±0.00 | better |" in table


def test_numbers_of_codebooks_reach_beyond_what_entropy_coding_saves() -> None:
    variable, constant = entries("speech24k", [1_500, 6_000], points=4)
    assert (variable.contender, variable.bitrates) == ("aecodec", (1_500, 6_000))
    assert constant.contender == "aecodec-constant"
    assert constant.bitrates[0] == 1_500 and constant.bitrates[-1] >= 10_000
    assert len(constant.bitrates) == 4


def test_a_constant_file_has_the_same_number_of_codes_in_every_frame() -> None:
    audio = EXAMPLE.load(1.0)
    constant = ConstantAecodec().encode(audio, 3_000)
    header = constant.content.header
    assert (header.variable, header.num_codebooks, bool(header.context)) == (False, 6, True)
    assert constant.payload_bits < 0.9 * 3_000
    assert Aecodec().encode(audio, 3_000).content.header.variable


def test_recordings_are_evenly_spaced() -> None:
    found = [Recording(Path(), str(i), c) for c in ("speech", "music") for i in range(10)]
    chosen = evenly_spaced(found, speech=5, others=2)
    assert [each.name for each in chosen] == ["1", "3", "5", "7", "9", "2", "7"]
    assert evenly_spaced(found, speech=20, others=20) == found


def test_a_run_writes_figures_and_a_table(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    shutil.copy(EXAMPLE.path, data / "speech_a.flac")
    words = ["--bitrates", "3k", "--points", "3", "--seconds", "1", "--no-visqol"]
    main(["--data", str(data), "--out", str(out), *words])
    facts = json.loads((out / "variable_bitrate.json").read_text("utf-8"))
    (line,) = facts["lines"]
    assert line["class"] == "speech" and line["pesq_wb"]["files"] == 1
    assert f"| {line['file_bitrate'] / 1000:.2f} | PESQ-WB" in facts["markdown"]
    with pytest.raises(SystemExit, match="does not offer 3100 bit/s"):
        main(["--data", str(data), "--out", str(out), "--bitrates", "3100"])
