"""`inspect` writes its plots and its list of errors, with the right contents."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from codec.cli.app import main
from codec.engines.torch import TorchEngine
from codec.errors import CodecError
from codec.evaluation.inspect import (
    class_colours,
    examine,
    inspect,
    principal_components,
)
from codec.network.model import Codec
from tests.conftest import LAPPED, REPOSITORY, make_codec, sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quiet noises, a loud one, awkward names, and a file that is not audio."""
    folder = tmp_path_factory.mktemp("audio")
    for number in range(4):
        quiet = 1e-3 * sound(3_000, seed=number)[0]
        soundfile.write(folder / f"hum_{number}.wav", quiet, 8_000, subtype="FLOAT")
    name = f"hiss_$x_{{^{'very-long-' * 9}.wav"
    soundfile.write(folder / name, sound(3_000, seed=9)[0], 8_000)
    soundfile.write(folder / "tick_.wav", sound(1)[0], 8_000)
    (folder / "hum_broken.wav").write_text("no sound")
    return folder


def picture_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_plots_and_a_list_are_written(lapped: Codec, folder: Path, tmp_path: Path) -> None:
    written = inspect(lapped, folder, tmp_path / "new" / "out")
    names = ["codebooks.png", "latents.png", "errors.png", "errors.csv"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(names)
    for path in written[:3]:
        width, height = picture_size(path)
        assert 500 < width < 2_000 and 200 < height < 2_000


def test_the_list_has_every_file_in_order_of_error(
    lapped: Codec, folder: Path, tmp_path: Path
) -> None:
    listed = rows(inspect(lapped, folder, tmp_path)[-1])
    assert len(listed) == 7
    assert (listed[-1]["file"], listed[-1]["mel_distance"]) == ("hum_broken.wav", "")
    assert "hum_broken.wav is not audio" in listed[-1]["skipped"]
    errors = [float(row["mel_distance"]) for row in listed[:-1]]
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]
    assert {row["class"] for row in listed[:-1]} == {"hum", "hiss", "tick"}


def test_existing_files_are_not_replaced_without_force(
    lapped: Codec, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "errors.csv").write_text("precious")
    with pytest.raises(CodecError, match="--force"):
        inspect(lapped, folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv"]
    inspect(lapped, folder, tmp_path, force=True)
    assert rows(tmp_path / "errors.csv")


def test_continuous_latents_have_no_plot_of_codebooks(
    vae: Codec, folder: Path, tmp_path: Path
) -> None:
    written = inspect(vae, folder, tmp_path)
    assert [path.name for path in written] == ["latents.png", "errors.png", "errors.csv"]


def test_latents_of_one_dimension_and_a_single_file_are_plotted(
    folder: Path, tmp_path: Path
) -> None:
    narrow = dataclasses.replace(LAPPED, bottleneck="vae", codebook_dim=1)
    codec = make_codec(narrow, tmp_path / "model")
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.zeros(30), 8_000)
    for path in inspect(codec, tmp_path / "in", tmp_path / "out")[:2]:
        picture_size(path)


def test_frames_of_a_long_recording_are_thinned_evenly(lapped: Codec) -> None:
    original, engine = sound(4_000)[0], TorchEngine(lapped)
    every = examine(engine, original, max_frames=1_000)[1]
    assert every.shape == (100, lapped.config.embedding_dim)
    np.testing.assert_array_equal(examine(engine, original, max_frames=50)[1], every[::2])
    np.testing.assert_array_equal(examine(engine, original, max_frames=49)[1], every[::3])
    assert len(examine(engine, original, max_frames=1)[1]) == 1


def test_principal_components_are_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    scales = np.array([0.1, 5.0, 0.2, 2.0])
    frames = (rng.standard_normal((4_000, 4)) * scales + 7).astype(np.float32)
    points, shares = principal_components(frames)
    power = scales**2 / (scales**2).sum()
    assert shares == pytest.approx(power[[1, 3]], rel=0.1)
    for column, source in ((0, 1), (1, 3)):
        assert np.corrcoef(points[:, column], frames[:, source])[0, 1] > 0.999
    assert principal_components(frames[:1])[0].tolist() == [[0, 0]]


def test_frequent_classes_get_their_own_colour_and_rare_ones_are_grey() -> None:
    classes = [f"k{number}" for number in range(12) for _ in range(12 - number)]
    colours = class_colours(classes)
    own = [colours[f"k{number}"] for number in range(9)]
    assert len(set(own)) == 9 and "C7" not in own
    assert {colours[f"k{number}"] for number in range(9, 12)} == {"C7"}


def test_the_command_lists_the_files_that_it_wrote(
    model_folder: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ["inspect", str(model_folder), str(folder), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--every", "7"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(tmp_path / "out" / "errors.csv")
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and len(again.stderr.splitlines()) == 1


def test_plots_do_not_use_the_global_state_of_pyplot() -> None:
    source = (REPOSITORY / "codec" / "evaluation" / "inspect.py").read_text("utf-8")
    assert "import matplotlib.pyplot" not in source and "import pyplot" not in source
