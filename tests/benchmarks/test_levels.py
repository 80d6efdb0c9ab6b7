"""The benchmark of levels: conditions are as strong as stated, and compared with what was meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import levels
from benchmarks.shared.recordings import SAMPLE_RATE
from tests.conftest import RECORDING


@pytest.fixture
def speech() -> np.ndarray:
    return np.asarray(soundfile.read(RECORDING, dtype="float32")[0][:SAMPLE_RATE], np.float32)


@pytest.mark.parametrize("dbfs", [-40, -20, -6, 0])
def test_a_level_is_that_of_the_peak_and_nothing_else_changes(
    speech: np.ndarray, dbfs: int
) -> None:
    changed = levels.CONDITIONS[f"peak at {dbfs} dBFS"](speech)
    assert 20 * np.log10(np.abs(changed.coded).max()) == pytest.approx(dbfs, abs=1e-4)
    assert np.corrcoef(changed.coded, speech)[0, 1] == pytest.approx(1)
    assert changed.compared is changed.coded


def test_limiting_makes_sound_denser_within_full_scale(speech: np.ndarray) -> None:
    def crest(audio: np.ndarray) -> float:
        return float(np.abs(audio).max() / audio.std())

    limited = levels.limited(speech)
    assert 0.99 < np.abs(limited.coded).max() <= 1
    assert crest(limited.coded) < crest(speech) / 1.5
    assert limited.compared.tobytes() == limited.coded.tobytes()


def test_offset_and_rumble_are_coded_but_not_compared(speech: np.ndarray) -> None:
    offset, rumble = levels.with_offset(speech), levels.with_rumble(speech)
    assert offset.coded - offset.compared == pytest.approx(levels.OFFSET, abs=1e-6)
    added = rumble.coded - rumble.compared
    assert 20 * np.log10(np.abs(added).max()) == pytest.approx(levels.RUMBLE_DB, abs=0.1)
    assert np.abs(np.fft.rfft(added)).argmax() == levels.RUMBLE_HZ * len(speech) / SAMPLE_RATE
    assert np.abs(offset.coded).max() <= 1 and np.abs(rumble.coded).max() <= 1


def test_means_leave_out_what_is_undefined_and_differences_are_from_the_original() -> None:
    rows = [
        {
            "condition": name,
            "original": {"dnsmos": 3.0, "plcmos": 4.0 + number},
            "ours": {
                "pesq_wb": None if number else 2.5,
                "stoi": 0.9,
                "dnsmos": 2.5,
                "plcmos": 3.5,
                "payload_bitrate": 6_000.0,
            },
        }
        for name in levels.CONDITIONS
        for number in range(2)
    ]
    summary = levels.summarise(rows, ["ours"])
    table = levels.make_section({"summary": summary, "seconds": 8.0, "num_files": 2})
    assert "| ours | as it is | 6.00 | 2.50 | 0.900 | 2.50 | 3.50 | -0.50 | -1.00 |" in table


def test_the_command_writes_a_row_for_every_condition(
    model_folder: Path, speech: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "speech_a.wav", speech, SAMPLE_RATE)
    words = ["--data", str(tmp_path), "--model", str(model_folder), "--out", str(tmp_path / "out")]
    levels.main([*words, "--bitrate", "10k"])
    figures = json.loads((tmp_path / "out" / "levels.json").read_text("utf-8"))
    assert [row["condition"] for row in figures["files"]] == list(levels.CONDITIONS)
    assert "limited by 12 dB" in capsys.readouterr().out


def test_a_folder_without_speech_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "music_a.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(SystemExit, match="no recordings of speech"):
        levels.main(["--data", str(tmp_path)])
