"""Measuring a codec on a folder: figures that can be checked by hand, and files that are no use."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from codec.arrays import Samples
from codec.cli.app import main
from codec.corpus.workers import Recordings
from codec.errors import AudioError, ConfigError
from codec.evaluation import metrics
from codec.evaluation.evaluate import ALL_CLASSES, compare, evaluate
from codec.evaluation.naturalness import can_rate_naturalness
from codec.network.model import Codec
from tests.conftest import sound

RATE = 8_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, and what else lies about in folders of audio."""
    folder = tmp_path_factory.mktemp("audio")
    for name in ("bells", "birds/deep"):
        (folder / name).mkdir(parents=True)
    soundfile.write(folder / "bells" / "a.wav", sound(5_001)[0], RATE)
    soundfile.write(folder / "bells" / "b.flac", sound(20_000, 3, 1).T, 16_000)
    soundfile.write(folder / "birds" / "deep" / "c.wav", sound(3_000, seed=2)[0], RATE)
    soundfile.write(folder / "birds_d.wav", sound(1, seed=3)[0], RATE)
    soundfile.write(folder / "birds_e.wav", np.zeros(2_000), RATE)
    cut = folder / "birds_cut.flac"  # whole by its header
    soundfile.write(cut, sound(20_000)[0], RATE)
    cut.write_bytes(cut.read_bytes()[:9_000])
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "low.wav", sound(99)[0], 4_000)
    (folder / "text.wav").write_text("no sound")
    (folder / "void.wav").touch()
    (folder / "notes.txt").write_text("not looked at")
    return folder


UNUSABLE = {"none.wav", "low.wav", "text.wav", "void.wav", "birds_cut.flac"}


def openings(folder: Path, codec: Codec, **options: Any) -> dict[str, tuple[str, Samples]]:
    """Class and samples of every recording, by name."""
    recordings = Recordings(folder, **options)
    each = recordings.each(codec, lambda _, audio: audio, title="")
    found = {clip.name: (clip.sound_class, audio) for clip, audio in each}
    assert recordings.skipped.keys() <= UNUSABLE
    return found


def test_classes_follow_the_first_folder_or_else_the_name(lapped: Codec, folder: Path) -> None:
    classes = {name: sound_class for name, (sound_class, _) in openings(folder, lapped).items()}
    assert classes["bells/b.flac"] == "bells" and classes["birds/deep/c.wav"] == "birds"
    assert classes["birds_d.wav"] == "birds"
    names = sorted([*classes, "birds_cut.flac"])
    assert list(openings(folder, lapped, every=3)) == [n for n in names[::3] if n in classes]


def test_the_opening_is_all_that_is_looked_at(lapped: Codec, folder: Path) -> None:
    whole = openings(folder, lapped)["bells/a.wav"][1]
    np.testing.assert_allclose(whole, sound(5_001)[0], atol=1e-4)
    part = openings(folder, lapped, seconds=0.5)
    np.testing.assert_array_equal(part["bells/a.wav"][1], whole[:4_000])
    assert len(part["bells/b.flac"][1]) == 4_000 and len(part["birds_d.wav"][1]) == 1
    assert len(openings(folder, lapped, seconds=1e-9)["bells/a.wav"][1]) == 1


def test_every_class_is_measured_with_all_numbers_of_codebooks(lapped: Codec, folder: Path) -> None:
    found = evaluate(lapped, folder)
    assert [(row.sound_class, row.num_codebooks, row.files) for row in found.rows] == [
        (sound_class, count, files)
        for sound_class, files in (("bells", 2), ("birds", 3), (ALL_CLASSES, 5))
        for count in (1, 2, 4)
    ]
    assert set(found.skipped) == UNUSABLE
    for row in found.rows:
        assert row.seconds == pytest.approx(
            {"bells": 0.625 + 1.25, "birds": 0.625, ALL_CLASSES: 2.5}[row.sound_class], abs=1e-3
        )


def test_the_figures_are_those_of_the_decoded_sound(lapped: Codec, folder: Path) -> None:
    (row,) = evaluate(lapped, folder / "bells", [2], every=2).rows
    original = openings(folder, lapped)["bells/a.wav"][1]
    codes = lapped.encode(torch.from_numpy(original)[None, None], 2)
    decoded = lapped.decode(codes, len(original)).flatten()
    frames = -(-5_001 // lapped.config.hop_length)
    num_bytes = -(-frames * 2 * lapped.config.bits[0] // 8)
    assert row.payload_bitrate == pytest.approx(8 * num_bytes * RATE / 5_001)
    assert row.si_sdr == pytest.approx(metrics.si_sdr(decoded, torch.from_numpy(original)))
    assert row.mel == pytest.approx(metrics.mel_distance(decoded.numpy(), original, RATE))
    used = [len(codes[0, level].unique()) / lapped.config.codebook_size for level in (0, 1)]
    assert row.entries_used == pytest.approx(np.mean(used))
    assert 0 < (row.efficiency or 0) < 1


@pytest.mark.skipif(not can_rate_naturalness(), reason='pip install "aecodec[evaluate]"')
def test_naturalness_is_measured_if_asked_for(lapped: Codec, folder: Path) -> None:
    (plain,) = evaluate(lapped, folder / "bells", [2]).rows
    (rated,) = evaluate(lapped, folder / "bells", [2], naturalness=True).rows
    assert plain.dnsmos is None and plain.plcmos is None
    assert rated.dnsmos is not None and 1 <= rated.dnsmos <= 5
    assert rated.plcmos is not None and 1 <= rated.plcmos <= 5
    assert dataclasses.replace(rated, dnsmos=None, plcmos=None, speaker=None) == plain


def test_a_perfect_copy_has_perfect_figures() -> None:
    original = sound(8_000)[0]
    figures = compare(original, original, RATE, None)
    assert figures.mel == 0 and figures.level == 0
    assert (figures.si_sdr or 0) > 100 and figures.stoi == pytest.approx(1)
    assert compare(original / 2, original, RATE, None).level == pytest.approx(-6.02, abs=0.01)


def test_what_cannot_be_told_of_silence_is_left_out_of_means(lapped: Codec, folder: Path) -> None:
    silence = np.zeros(4_000, np.float32)
    figures = compare(silence, silence, RATE, 1.0)
    assert (figures.si_sdr, figures.stoi, figures.level) == (None, None, None)
    rows = {row.sound_class: row for row in evaluate(lapped, folder, [4]).rows}
    birds = rows["birds"]
    assert all(
        value is None or np.isfinite(value)
        for value in dataclasses.astuple(birds)
        if not isinstance(value, str)
    )
    assert birds.stoi is None and " | - | " in evaluate(lapped, folder, [4]).table()


def test_more_bits_are_counted_as_more_bits(lapped: Codec, folder: Path) -> None:
    rows = evaluate(lapped, folder / "bells", [1, 4, 3, 3]).rows
    assert [row.num_codebooks for row in rows] == [1, 3, 4]
    rates = [row.payload_bitrate or 0 for row in rows]
    assert rates == pytest.approx([1_000, 3_000, 4_000], rel=0.01)
    assert rates == sorted(rates)


def test_continuous_latents_are_measured_without_codebooks(vae: Codec, folder: Path) -> None:
    rows = evaluate(vae, folder / "bells").rows
    assert [(row.sound_class, row.num_codebooks) for row in rows] == [("bells", None)]
    assert rows[0].payload_bitrate is rows[0].efficiency is None and (rows[0].mel or 0) > 0
    with pytest.raises(ConfigError, match="continuous latents"):
        evaluate(vae, folder, [1])


def test_folders_and_codebooks_that_are_no_use_are_refused(lapped: Codec, tmp_path: Path) -> None:
    for number in (0, 5):
        with pytest.raises(ConfigError, match=f"codebooks is {number}: .* from 1 to 4"):
            evaluate(lapped, tmp_path, [number])
    with pytest.raises(AudioError, match="no audio"):
        evaluate(lapped, tmp_path)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match="none of 1 files"):
        evaluate(lapped, tmp_path)


@pytest.mark.slow
def test_processes_share_the_work_and_find_the_same(lapped: Codec, folder: Path) -> None:
    alone = evaluate(lapped, folder, [4], seconds=0.3)
    shared = evaluate(lapped, folder, [4], seconds=0.3, processes=2)
    assert shared.to_dict() == alone.to_dict()


def test_the_command_prints_a_table_and_writes_json(
    model_folder: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    arguments = ["evaluate", str(model_folder), str(folder / "bells"), "-k", "1,3"]
    arguments += ["--json", str(out), "--seconds", "0.2", "--every", "2"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    header, _, *lines = result.stdout.splitlines()
    assert [line.split(" | ")[3] for line in (header, *lines)] == ["kbit/s", "1.00", "3.00"]
    assert all(line.count("|") == header.count("|") for line in lines)
    rows = json.loads(out.read_text())["rows"]
    assert [row["num_codebooks"] for row in rows] == [1, 3] and rows[0]["files"] == 1
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "--force" in again.stderr
    assert CliRunner().invoke(main, [*arguments, "-f"]).exit_code == 0


def test_the_command_names_what_it_skipped(
    model_folder: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # starting processes takes seconds
    result = CliRunner().invoke(
        main, ["evaluate", str(model_folder), str(folder), "-k", "1", "--seconds", "9"]
    )
    assert result.exit_code == 0, result.output
    assert len(caplog.messages) == len(UNUSABLE)
    for name in UNUSABLE:
        assert any("skipped" in line and name in line for line in caplog.messages)
    for wrong in (("-k", "fast"), ("-k", "1,"), ("-b", "1k")):
        result = CliRunner().invoke(main, ["evaluate", str(model_folder), str(folder), *wrong])
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
        assert "--codebooks" in result.stderr or "give numbers as 3,6,12" in result.stderr


def test_a_missing_package_is_named_with_its_remedy(
    model_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    for name in ("metrics", "evaluate", "inspect"):  # which have found it already
        monkeypatch.delitem(sys.modules, f"codec.evaluation.{name}", raising=False)
    for arguments in (["evaluate"], ["inspect", "--out", str(tmp_path / "out")]):
        result = CliRunner().invoke(
            main, [*arguments, str(model_folder), str(folder / "bells"), "--every", "2"]
        )
        assert result.exit_code == 1
        assert 'pip install "aecodec[evaluate]"' in result.stderr
        assert len(result.stderr.splitlines()) == 1


PLAIN_INSTALL = """
import importlib, pkgutil, sys
import codec.evaluation
from codec.errors import OPTIONAL_PACKAGES, MissingPackageError
sys.modules |= dict.fromkeys(OPTIONAL_PACKAGES)
for module in pkgutil.iter_modules(codec.evaluation.__path__, "codec.evaluation."):
    try:
        importlib.import_module(module.name)
    except MissingPackageError as error:
        print(error)
from codec.evaluation.mel import mel_filterbank
try:
    mel_filterbank(24_000, 1_024, 160)
except MissingPackageError as error:
    print(error)
"""


def test_without_its_extra_every_module_imports_or_names_it_in_one_line() -> None:
    command = [sys.executable, "-c", PLAIN_INSTALL]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert all(line.endswith('pip install "aecodec[evaluate]"') for line in lines)
    needed = {line.partition(" needs ")[2].partition(",")[0] for line in lines}
    assert needed == {"librosa", "pystoi"}
