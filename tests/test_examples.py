"""The scripts in ``examples/`` run and give the results that they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import REPOSITORY, sound


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
    folders = [str(tmp_path / "train"), str(tmp_path / "valid")]
    script = REPOSITORY / "examples" / "classify.py"
    monkeypatch.setattr(sys, "argv", [str(script), *folders, "--model", str(model_folder)])
    runpy.run_path(str(script), run_name="__main__")
    noises, tones, accuracy, majority = capsys.readouterr().out.splitlines()
    assert noises.endswith("of 6") and tones.endswith("of 9")
    assert float(accuracy.split()[-1]) > 0.9
    assert majority == "always 'tone': 0.600"
