"""The scripts in ``examples/`` run and give the results that they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.corpus.tokenize import Tokenizer, tokenize
from tests.conftest import REPOSITORY, sound


def run_example(name: str, *arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(REPOSITORY / "examples" / name)
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(script, run_name="__main__")


def test_tones_and_noises_are_classified_by_their_latents(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("valid", 9)):
        (tmp_path / part).mkdir()
        for number in range(count):
            tone = 0.2 * np.sin(rng.uniform(0.1, 0.6) * np.arange(4_000))
            soundfile.write(tmp_path / part / f"tone_{number}.wav", tone, 8_000)
            if number % 3:
                noise = sound(4_000, seed=int(rng.integers(10**6)))[0]
                soundfile.write(tmp_path / part / f"noise_{number}.wav", noise, 8_000)
    folders = (tmp_path / "train", tmp_path / "valid")
    run_example("classify.py", *folders, "--model", model_folder, monkeypatch=monkeypatch)
    noises, tones, accuracy, majority = capsys.readouterr().out.splitlines()
    assert noises.endswith("of 6") and tones.endswith("of 9")
    assert float(accuracy.split()[-1]) > 0.9
    assert majority == "always 'tone': 0.600"


@pytest.mark.filterwarnings("ignore")  # of datasets
def test_tokens_are_loaded_in_batches_for_pytorch(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed")
    (tmp_path / "in").mkdir()
    for number, length in enumerate((4_000, 9_000, 50)):
        soundfile.write(tmp_path / "in" / f"{number}.wav", sound(length)[0], 8_000)
    tokenize([tmp_path / "in"], tmp_path / "tokens", Tokenizer(model_folder))
    options = ("--frames", "30", "--batch", "2")
    run_example("load_tokens.py", tmp_path / "tokens", *options, monkeypatch=monkeypatch)
    assert capsys.readouterr().out.splitlines() == ["[2, 33, 4]", "[1, 33, 4]"]


def test_a_language_model_of_tokens_continues_a_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "continued.wav"
    run_example("token_model.py", "--out", out, "--steps", "4", monkeypatch=monkeypatch)
    first, last = capsys.readouterr().out.splitlines()
    assert float(first.split()[1]) < 6.85, "it learns nothing: chance is 6.93"
    assert last.endswith("6.1 seconds")
    heard, rate = soundfile.read(out)
    original, original_rate = soundfile.read(REPOSITORY / "examples" / "speech.flac")
    assert len(heard) / rate == pytest.approx(len(original) / original_rate, abs=0.05)
    level = np.abs(heard[: len(heard) // 2]).mean() / np.abs(original[: len(original) // 2]).mean()
    assert 0.5 < level < 2, "the prompt is the recording"
