from __future__ import annotations

import pytest

from train.report.progress import SECONDS_PER_LINE, Progress


def test_without_a_terminal_a_line_is_printed_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shown = Progress(2.0, step=10, visible=True)
    for step in range(11, 111):
        now += 1
        shown.update(step, seconds=now - 1000, progress=(step - 10) / 100, loss=0.5)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 100 // SECONDS_PER_LINE == 3
    assert lines[0] == "training  30 %, step 40, loss 0.500, 2 audio-s/s, 1:10 left"


def test_only_the_first_process_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(1.0, step=0, visible=False)
    shown._shown = (0, -1000.0)
    shown.update(1, seconds=1.0, progress=0.5, loss=1.0)
    shown.close()
    assert capsys.readouterr().err == ""
