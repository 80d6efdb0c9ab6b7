"""What the benchmarks share: recordings, plots, tables, processes."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.shared import recordings
from benchmarks.shared.plots import Line, draw_lines, label_lines, new_figure
from benchmarks.shared.processes import THREAD_LIMITS, run_in_processes
from benchmarks.shared.tables import markdown_table
from codec.errors import AudioError
from tests.conftest import sound


def test_labels_neither_collide_nor_leave_their_axes() -> None:
    rng = np.random.default_rng(0)
    figure, axes = new_figure(2, 2)
    for panel in axes:
        lines = []
        for name in ("aecodec speech24k", "opus", "mp3", "aac", "codec2", "speex", "mimi"):
            x = sorted(rng.uniform(0.5, 32, 5).tolist())
            y = rng.uniform(3, 3.3, 5)
            low, high = (y - 0.02).tolist(), (y + 0.02).tolist()
            lines.append(Line(name, x, y.tolist(), low, high))
        draw_lines(panel, lines, x_title="payload (kbit/s)", y_title="quality", log_x=True)
    labels = label_lines(figure)
    assert len(labels) == 14
    boxes = [label.get_window_extent() for label in labels]
    for number, box in enumerate(boxes):
        frame = axes[number // 7].get_window_extent()
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1 + 1
        for other in boxes[:number]:
            assert not box.overlaps(other)


def test_made_examples_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (recordings.make_examples(tmp_path / name, 1.0) for name in ("a", "b"))
    assert [recording.sound_class for recording in first] == ["speech", "music", "sound"]
    assert [recording.digest() for recording in first] == [again.digest() for again in second]
    for recording in first:
        samples = recording.load()
        assert len(samples) == recordings.SAMPLE_RATE
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.5


def test_made_examples_are_found_with_the_same_classes(tmp_path: Path) -> None:
    assert recordings.make_examples(tmp_path, 1.0)[0] == recordings.find(tmp_path)[0]._replace(
        offset=None, size=0
    )


def test_every_nth_file_is_taken_of_each_class(tmp_path: Path) -> None:
    for name in ("music_a", "music_b", "music_c", "speech_a", "speech_b"):
        soundfile.write(tmp_path / f"{name}.flac", sound(1_000)[0], 24_000)
    (tmp_path / "notes.txt").touch()
    found = [recording.name for recording in recordings.find(tmp_path, every=2)]
    assert found == ["speech_a.flac", "music_a.flac", "music_c.flac"]


def test_a_member_of_a_shard_is_read_like_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "owl_1.wav", sound(9_000)[0], 24_000)
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(tmp_path / "owl_1.wav", "birds/owl_1.wav")
    member, file = sorted(recordings.find(tmp_path), key=lambda found: found.sound_class)
    assert (member.sound_class, file.sound_class) == ("birds", "owl")
    assert member.name == "shard.tar/birds/owl_1.wav"
    assert member.digest() == file.digest()
    np.testing.assert_array_equal(member.load(0.1), file.load(0.1))


def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"empty\.wav cannot be read"):
        recordings.Recording(tmp_path / "empty.wav", "empty.wav", "speech").load()


def test_a_table_has_as_many_cells_as_columns() -> None:
    assert markdown_table(["a|b"], [["c"]]) == "| a\\|b |\n|---|\n| c |"
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        markdown_table(["a", "b"], [["c"]])


def limits_of_this_process(number: int) -> tuple[int, int, list[str | None]]:
    return number, torch.get_num_threads(), [os.environ.get(name) for name in THREAD_LIMITS]


def test_each_process_has_one_thread_and_the_environment_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    found = dict(run_in_processes(limits_of_this_process, [5, 6, 7], processes=2))
    assert found == {n: (n + 5, 1, ["1", "1"]) for n in range(3)}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ
