"""``aecodec tokenize`` and ``detokenize`` as a user runs them."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from codec.cli.tokens import hours_bar
from tests.codec.cli.test_cli import fails, run
from tests.codec.corpus.test_index import BAD, GOOD
from tests.conftest import wav


def test_a_folder_becomes_tokens_and_audio_again(
    hostile: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tokens"
    command = ("tokenize", hostile, "--out", out, "-m", model_folder, "-k", "2")
    result = run(*command)
    assert result.exit_code == 0 and result.stdout == ""
    assert (
        f"{len(GOOD)} recordings" in result.stderr
        and f"{len(BAD)} errors (see {out}/errors.jsonl)" in result.stderr
    )
    assert "1 of 1 shards written" in result.stderr
    assert "0 of 1 shards written" in run(*command, "--max-errors", str(len(BAD))).stderr
    fails(run(*command, "--max-errors", "2"), 1, f"{len(BAD)} recordings could not be coded")
    result = run("detokenize", out, "--out", tmp_path / "audio", "-m", model_folder)
    assert result.exit_code == 0 and not result.output
    decoded = tmp_path / "audio" / "voices" / "anna" / "five.wav"
    facts = soundfile.info(decoded)
    assert (facts.frames, facts.samplerate, facts.channels) == (3_000, 24_000, 1)
    result = run("detokenize", out, "--out", tmp_path / "audio", "-m", model_folder)
    assert result.exit_code == 1 and f"{len(GOOD)} recordings could not" in result.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_hours_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = iter([100.0, 150.0, 200.0])
    with hours_bar() as progress:
        assert not terminal.getvalue()  # nothing is known before the first call
        monkeypatch.setattr("codec.cli.tokens.time", SimpleNamespace(monotonic=clock.__next__))
        for done in (0, 1_800, 3_600):
            progress(done, 7_200)
            time.sleep(0.15)  # it is drawn ten times a second at most
    shown = terminal.getvalue()
    assert "0.00/2.00 hours" in shown and "1.00/2.00 hours" in shown
    assert "[0.0100 hours per second, " in shown and " left]" in shown


def test_wrong_use_names_the_remedy(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.wav").write_bytes(wav(100))
    model = ("-m", model_folder, "--out", "out")
    fails(run("tokenize", "none", *model), 1, "check the path")
    fails(run("tokenize", "in", "-k", "5", *model), 1, "must be a whole number")
    fails(run("tokenize", "in", *model, "--ray", "in"), 2, "put --ray after the sources")
    fails(run("tokenize", "in", "-m", "none", "--out", "out"), 1, "no model")
    fails(run("detokenize", "none", "--out", "out"), 1, "check the path")
    fails(run("detokenize", "in", "--out", "out"), 1, "holds no tokens")
    fails(run("detokenize", "in", "--out", "out", "--format", "exe"), 2, "give one of wav")
    assert run("tokenize", "in").exit_code == 2
    assert run("tokenize", "in", "--format", "zip", *model).exit_code == 2
    assert not Path("out").exists()
    assert run("tokenize", "in", "--format", "codes", *model).exit_code == 0
    fails(run("detokenize", "out", "--out", "audio"), 1, "give the right folder with --model")
