"""What the README says is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.conftest import RECORDING, REPOSITORY

README = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number: int) -> None:
    exec(compile(blocks("python")[number], f"README block {number}", "exec"), {})


def test_commands_run(tmp_path: Path) -> None:
    """All but the installation, and the training, which is only shortened."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    (tmp_path / "recordings").mkdir()
    shutil.copy(RECORDING, tmp_path / "recordings")
    samples, rate = soundfile.read(RECORDING)
    soundfile.write(tmp_path / "talk.wav", samples, rate)
    soundfile.write(tmp_path / "talk.mp3", samples, rate)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "aecodec"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m codec.cli "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    ran = 0
    for line in lines:
        line = line.removeprefix("pip install . && ")
        if line.startswith("pip"):
            continue
        line = line.replace("--minutes 3", "--minutes 0.02")
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert result.returncode == 0, (line, result.stderr.decode())
        ran += 1
    assert ran >= 8
    mp3 = soundfile.info(tmp_path / "talk.mp3").frames
    expected = {"speech.wav": len(samples), "talk.flac": mp3, "low.wav": mp3}
    for name, frames in (expected | {"again.wav": len(samples)}).items():
        facts = soundfile.info(tmp_path / name)
        assert (facts.frames, facts.samplerate) == (frames, rate)
    assert (tmp_path / "coded" / "speech.codes").exists()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (REPOSITORY / target).exists(), target
