"""Crops and batches: exact statistics, equal from memory, files and workers, never fatal."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec.corpus.clips import read_clip
from codec.corpus.index import Index, scan
from codec.errors import AudioError, ConfigError
from tests.conftest import LAPPED, RECORDING, make_shard, sound, wav
from train.data.batches import STEPS_PER_READ, Batch, Corpus, split, validation_clips
from train.data.crops import MAX_FAILURES, Crops
from train.recipe.loading import load_recipe
from train.recipe.sections import TrainConfig
from train.run.loop import make_corpus

RATE = 24_000


def make_recipe(*overrides: str) -> TrainConfig:
    """The tiny recipe with short crops at their own level, read from files."""
    tiny = load_recipe(
        "tiny",
        (
            "data.crop_frames=60",
            "data.batch_size=3",
            "data.memory_gb=0",
            "augment.polarity=false",
            "augment.gain_db=[0.0, 0.0]",
            *overrides,
        ),
    )
    return dataclasses.replace(tiny, model=dataclasses.replace(LAPPED, sample_rate=RATE))


RECIPE = make_recipe()
CROP = RECIPE.crop_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of coding, rate and channel count, in files and in a shard."""
    folder = tmp_path_factory.mktemp("audio")
    recording, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(folder / "speech_a.flac", recording, rate)
    soundfile.write(folder / "speech_b.mp3", recording, rate)
    soundfile.write(folder / "speech_c.ogg", recording, rate)
    soundfile.write(folder / "speech_d.opus", recording, rate, format="OGG", subtype="OPUS")
    soundfile.write(folder / "noise_a.wav", sound(60_000, 5).T, 96_000)
    soundfile.write(folder / "noise_b.wav", sound(40_001, 2).T, 44_100, subtype="FLOAT")
    soundfile.write(folder / "noise_c.aiff", sound(9_000)[0], 11_025)
    (folder / "noise_short.wav").write_bytes(wav(800, 8_000))
    members = {f"tarred_{p.name}": p.read_bytes() for p in sorted(folder.glob("speech_*"))}
    make_shard(folder / "shard.tar", members)
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return scan(folder)


def crops_of(batches: list[Batch]) -> torch.Tensor:
    return torch.stack([batch.clean for batch in batches])


def take(corpus: Corpus, first: int, count: int, rank: int = 0) -> torch.Tensor:
    return crops_of(list(itertools.islice(corpus.batches(first, rank, 2), count)))


# Reading


def test_a_stretch_equals_that_of_the_whole_clip(folder: Path, index: Index) -> None:
    """At any rate, from any point, in files and shards.

    Opus forgets the past only slowly after a seek, and libsndfile lands 200 samples late in the
    last page of Vorbis, which is left out.
    """
    rng = np.random.default_rng(0)
    for clip, target in itertools.product(index.clips, (24_000, 16_000, 48_000)):
        length = round(clip.num_samples * target / clip.sample_rate)
        whole = read_clip(folder, clip, target, 0, length)
        assert whole.shape == (length,) and whole.dtype == np.float32
        tolerance = 4e-3 if clip.name.endswith("opus") else 5e-6
        for _ in range(4):
            begin = int(rng.integers(length // 2))
            end = begin + int(rng.integers(1, length // 4))
            stretch = read_clip(folder, clip, target, begin, end)
            assert len(stretch) == end - begin
            assert np.abs(stretch - whole[begin:end]).max() < tolerance, clip.name


def test_reading_mp3_from_its_middle_says_nothing_on_stderr(
    folder: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = next(clip for clip in index.clips if clip.name == "speech_b.mp3")
    for begin in range(20_000, 100_000, 5_003):
        read_clip(folder, clip, RATE, begin, begin + 1000)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_what_overshoots_in_resampling_is_clipped(tmp_path: Path) -> None:
    square = np.repeat(np.tile([1.0, -1.0], 50), 400)
    soundfile.write(tmp_path / "square.wav", square, 48_000, subtype="FLOAT")
    clip = scan(tmp_path).clips[0]
    samples = read_clip(tmp_path, clip, RATE, 0, 20_000)
    assert np.abs(samples).max() == 1
    for memory_gb in (0.0, 1.0):
        crop = Crops(scan(tmp_path), RATE, memory_gb=memory_gb).draw(
            np.random.default_rng(0), 20_000
        )
        assert np.array_equal(np.sign(crop[100::200]), np.tile([1, -1], 50))


# Where crops come from


def ramps(folder: Path, lengths: dict[str, int]) -> Index:
    """Clips whose samples tell the clip and the place: 16-bit steps from 1 on."""
    first = 1
    for name, length in lengths.items():
        (folder / name).parent.mkdir(exist_ok=True)
        values = np.arange(first, first + length, dtype=np.int16)
        soundfile.write(folder / name, values, RATE, subtype="PCM_16")
        first += length
    return scan(folder)


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_crops_are_drawn_by_duration_and_class_weight(tmp_path: Path, memory_gb: float) -> None:
    names = {"a/long.wav": 6_000, "a/short.wav": 2_000, "b/one.wav": 4_000, "c/never.wav": 9_000}
    index = ramps(tmp_path, names)
    weights = {"b": 3.0, "c": 0.0}
    crops = Crops(index, RATE, class_weights=weights, memory_gb=memory_gb)
    rng = np.random.default_rng(0)
    drawn = np.array([crops.draw(rng, 100)[50] for _ in range(1000)]) * 32768
    shares = np.histogram(drawn, [0, 6_000, 8_000, 12_000, 21_000])[0] / 1000
    # 6, 2 and 4 x 3 parts of 20; four standard deviations of 1000 draws.
    assert shares == pytest.approx([0.3, 0.1, 0.6, 0.0], abs=0.062)
    assert shares[3] == 0


@pytest.mark.parametrize("num_starts", [1, 37, 400, 10_000])
def test_every_place_of_a_clip_is_as_likely_as_any_other(tmp_path: Path, num_starts: int) -> None:
    """Also when several crops are cut from what was read once."""
    crops = Crops(ramps(tmp_path, {"clip.wav": 1_099}), RATE)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(1500):
        piece = crops.draw(rng, 100, num_starts)
        assert 100 <= len(piece) <= 99 + num_starts
        at = int(rng.integers(len(piece) - 99))
        values = np.rint(piece[at : at + 100] * 32768).astype(int)
        assert np.array_equal(np.diff(values), np.ones(99))
        starts.append(values[0] - 1)
    assert min(starts) >= 0 and max(starts) <= 999
    counts = np.histogram(starts, 10, (0, 1000))[0]
    # Chi-squared with 9 degrees of freedom: above 27.9 once in a thousand.
    assert ((counts - 150) ** 2 / 150).sum() < 27.9


@pytest.mark.parametrize(("num_starts", "memory_gb"), [(1, 0.0), (1, 1.0), (50, 0.0)])
def test_a_short_clip_comes_whole_and_anywhere_in_silence(
    tmp_path: Path, num_starts: int, memory_gb: float
) -> None:
    crops = Crops(ramps(tmp_path, {"clip.wav": 100}), RATE, memory_gb=memory_gb)
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(300):
        piece = crops.draw(rng, 1_000, num_starts)
        crop = piece[int(rng.integers(len(piece) - 999)) :][:1_000]
        (sounding,) = np.nonzero(crop)
        assert np.array_equal(sounding, np.arange(100) + sounding[0])
        assert crop[sounding].argmax() == 99
        starts.append(sounding[0])
    assert min(starts) < 60 and max(starts) > 840


def test_memory_and_files_give_the_same_crops(index: Index) -> None:
    """Up to 16 bits, and what lossy codings make of a seek."""
    memory, files = (Crops(index, RATE, memory_gb=gb) for gb in (1.0, 0.0))
    assert memory.in_memory and not files.in_memory
    differences = []
    for seed in range(60):
        one, other = (c.draw(np.random.default_rng(seed), CROP) for c in (memory, files))
        assert one.shape == other.shape == (CROP,) and one.dtype == other.dtype == np.float32
        differences.append(np.abs(one - other).max())
    assert np.quantile(differences, 0.7) < 2e-5
    assert np.quantile(differences, 0.9) < 4e-3


def test_memory_holds_what_fits_and_no_more(index: Index) -> None:
    needed_gb = 2 * index.hours * 3600 * RATE / 1e9
    assert Crops(index, RATE, memory_gb=needed_gb * 1.001).in_memory
    assert not Crops(index, RATE, memory_gb=needed_gb * 0.999).in_memory


def test_class_weights_must_name_classes_and_leave_some(index: Index) -> None:
    with pytest.raises(ConfigError, match=r"names 'speach', but .* noise, speech, tarred"):
        Crops(index, RATE, class_weights={"speach": 2.0})
    with pytest.raises(ConfigError, match="leaves no class"):
        Crops(index, RATE, class_weights=dict.fromkeys(("noise", "speech", "tarred"), 0.0))


# Headers that lie


@pytest.fixture
def lying(tmp_path: Path) -> Index:
    """Clips whose headers are well and whose samples are not."""
    folder = tmp_path / "lying"
    folder.mkdir()
    soundfile.write(folder / "good.wav", 0.5 * np.ones(RATE), RATE)
    soundfile.write(folder / "half.flac", sound(50_000)[0], RATE)
    data = (folder / "half.flac").read_bytes()
    (folder / "half.flac").write_bytes(data[: len(data) // 2])
    (folder / "rotten.flac").write_bytes(data[:100] + bytes(len(data) - 100))
    holes = 0.25 * np.ones(RATE, np.float32)
    holes[::2], holes[1::4] = np.nan, -np.inf
    soundfile.write(folder / "holes.wav", holes, RATE, subtype="FLOAT")
    index = scan(folder)
    assert len(index.clips) == 4 and not index.skipped
    return index


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_clips_that_do_not_decode_are_named_once_and_others_drawn(
    lying: Index, memory_gb: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        crops = Crops(lying, RATE, memory_gb=memory_gb)
        drawn = [crops.draw(np.random.default_rng(seed), 2_000) for seed in range(200)]
    for name in ("half.flac", "rotten.flac", "holes.wav"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1, name
    for crop in drawn:
        assert crop.shape == (2_000,) and np.isfinite(crop).all() and np.abs(crop).max() <= 1
    # What was bad before changes nothing of what is drawn later.
    again = [crops.draw(np.random.default_rng(seed), 2_000) for seed in range(199, -1, -1)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, reversed(again)))
    holes = [crop for crop in drawn if (crop == 0).mean() == 0.75]
    assert holes and all(set(np.unique(crop.round(3))) == {0.0, 0.25} for crop in holes)


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_a_corpus_of_which_nothing_decodes_is_an_error(lying: Index, memory_gb: float) -> None:
    rotten = tuple(clip for clip in lying.clips if clip.name == "rotten.flac")
    index = Index(lying.folder, rotten, {})
    with pytest.raises(AudioError, match=f"{MAX_FAILURES} crops in a row|can be decoded"):
        Crops(index, RATE, memory_gb=memory_gb).draw(np.random.default_rng(0), 100)


def test_files_that_vanish_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = ramps(tmp_path, {"a.wav": 5_000, "b.wav": 5_000})
    crops = Crops(index, RATE)
    (tmp_path / "a.wav").unlink()
    starts = [crops.draw(np.random.default_rng(seed), 100)[0] * 32768 for seed in range(50)]
    assert min(starts) > 5_000
    assert caplog.text.count("a.wav does not exist") == 1


# Batches


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_a_hostile_folder_gives_good_batches(hostile: Path, memory_gb: float) -> None:
    recipe = make_recipe(f"data.memory_gb={memory_gb}")
    corpus = make_corpus(scan(hostile), recipe)
    for batch in itertools.islice(corpus.batches(0), 20):
        assert batch.clean.shape == (3, 1, CROP) and batch.clean.dtype == torch.float32
        assert batch.clean.isfinite().all() and batch.clean.abs().max() <= 1
        assert batch.degraded is batch.clean


def test_a_batch_follows_from_its_generator_alone(index: Index) -> None:
    corpus = make_corpus(index, RECIPE)
    first = corpus.batch(np.random.default_rng(1)).clean
    other = corpus.batch(np.random.default_rng(2)).clean
    assert torch.equal(corpus.batch(np.random.default_rng(1)).clean, first)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_resuming_at_a_step_equals_never_stopping(index: Index, memory_gb: float) -> None:
    corpus = make_corpus(index, make_recipe(f"data.memory_gb={memory_gb}"))
    whole = take(corpus, 0, 2 * STEPS_PER_READ)
    for first in (1, STEPS_PER_READ - 1, STEPS_PER_READ, STEPS_PER_READ + 3):
        assert torch.equal(take(corpus, first, 3), whole[first : first + 3])
    assert len({tuple(crop[0, 100:105].tolist()) for batch in whole for crop in batch}) > 40
    assert not torch.equal(take(corpus, 0, 1, rank=1), whole[:1])
    other = make_corpus(index, make_recipe("run.seed=1"))
    assert not torch.equal(take(other, 0, 1), whole[:1])


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_batches(index: Index, workers: int, memory_gb: float) -> None:
    settings = (
        "augment.mix=0.5",
        "augment.clip_share=0.5",
        "augment.resample=0.05",
        f"data.memory_gb={memory_gb}",
    )
    random_state = torch.get_rng_state()
    expected = list(
        itertools.islice(make_corpus(index, make_recipe(*settings)).batches(3, 1, 2), 15)
    )
    corpus = make_corpus(index, make_recipe(*settings, f"data.workers={workers}"))
    found = list(itertools.islice(corpus.batches(3, 1, 2), 15))
    for one, other in zip(expected, found):
        assert torch.equal(one.clean, other.clean) and torch.equal(one.degraded, other.degraded)
        assert (one.clean is one.degraded) == (other.clean is other.degraded)
    assert any(batch.clean is not batch.degraded for batch in found)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert wait_for_children() == []


def wait_for_children() -> list[object]:
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    return list(multiprocessing.active_children())


def test_workers_end_with_the_iterator(index: Index) -> None:
    corpus = make_corpus(index, make_recipe("data.workers=2"))
    batches = corpus.batches(0)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert wait_for_children() == []
    batches = corpus.batches(0)
    next(batches)
    del batches
    assert wait_for_children() == []


def test_workers_name_a_bad_clip_once_for_all(
    lying: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    logging.getLogger("train").addHandler(handler)
    try:
        corpus = make_corpus(lying, make_recipe("data.workers=2"))
        batches = list(itertools.islice(corpus.batches(0), 6 * STEPS_PER_READ))
    finally:
        logging.getLogger("train").removeHandler(handler)
    assert all(batch.clean.isfinite().all() for batch in batches)
    assert capfd.readouterr().err.count("holes.wav") == 1


def test_what_is_read_once_serves_different_steps(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0

    def counted(self: Crops, *arguments: int) -> np.ndarray:
        nonlocal reads
        reads += 1
        return real(self, *arguments)

    real = Crops._read
    monkeypatch.setattr(Crops, "_read", counted)
    batches = take(make_corpus(index, RECIPE), 0, STEPS_PER_READ)
    assert reads == RECIPE.data.batch_size
    # No two crops of a step come from one reading.
    assert len({tuple(crop[0].tolist()) for crop in batches[0]}) == RECIPE.data.batch_size


def test_training_audio_is_counted_in_hours(index: Index) -> None:
    assert make_corpus(index, RECIPE).hours == index.hours > 0


# Validation


def many(folder: Path, names: list[str], num_samples: int = 3_000) -> Index:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(wav(num_samples))
    return scan(folder)


def test_two_percent_are_held_out_spread_over_classes(tmp_path: Path) -> None:
    names = ["a"] * 120 + ["b"] * 28 + ["c"] * 2
    index = many(tmp_path, [f"{name}_{number}.wav" for number, name in enumerate(names)])
    training, validation = split(index, RECIPE.data, RATE)
    assert [clip.sound_class for clip in validation.clips] == ["a", "b", "c"]
    assert set(training.clips) | set(validation.clips) == set(index.clips)
    assert not set(training.clips) & set(validation.clips)
    assert split(scan(tmp_path), RECIPE.data, RATE) == (training, validation)
    few = make_recipe("data.validation_files=2")
    assert [clip.sound_class for clip in split(index, few.data, RATE)[1].clips] == ["a", "b"]

    (tmp_path / "a_new.wav").write_bytes(wav(3_000))
    held = set(split(scan(tmp_path), RECIPE.data, RATE)[1].clips)
    assert len(held & set(validation.clips)) >= 2


def test_some_clip_is_held_out_of_two_and_a_single_one_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = many(tmp_path / "one", ["a.wav"])
    assert split(single, RECIPE.data, RATE) == (single, single)
    assert "there is only a.wav" in caplog.text
    training, validation = split(many(tmp_path / "pair", ["a_1.wav", "a_2.wav"]), RECIPE.data, RATE)
    assert len(training.clips) == len(validation.clips) == 1 and training != validation
    # No class loses its only clip.
    training, validation = split(many(tmp_path / "two", ["a_1.wav", "b_1.wav"]), RECIPE.data, RATE)
    assert len(training.clips) == 2 and len(validation.clips) == 1
    index = many(tmp_path / "two", [f"a_{number}.wav" for number in range(1, 9)])
    training, validation = split(index, RECIPE.data, RATE)
    assert [clip.sound_class for clip in validation.clips] == ["a"]


def test_short_clips_are_not_held_out(tmp_path: Path) -> None:
    many(tmp_path, [f"s_{number}.wav" for number in range(20)], 500)
    index = many(tmp_path, ["s_long.wav"])
    assert [clip.name for clip in split(index, RECIPE.data, RATE)[1].clips] == ["s_long.wav"]


def test_validation_clips_are_fixed_spread_and_readable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many(tmp_path, [f"a_{number}.wav" for number in range(9)])
    many(tmp_path, ["b_short.wav"], 100)
    (tmp_path / "c_rotten.flac").write_bytes(b"")
    soundfile.write(tmp_path / "c_rotten.flac", sound(30_000)[0], RATE)
    data = (tmp_path / "c_rotten.flac").read_bytes()
    (tmp_path / "c_rotten.flac").write_bytes(data[:100] + bytes(2_000))
    index = many(tmp_path, ["d_long.wav"], 40_000)
    recipe = make_recipe("data.validation_files=4", "data.validation_seconds=1.5")
    clips = validation_clips(index, recipe.data, RATE)
    assert [name[0] for name, _ in clips] == ["a", "a", "a", "d"]
    assert [audio.shape[-1] for _, audio in clips] == [3_000, 3_000, 3_000, 36_000]
    assert all(audio.shape[:2] == (1, 1) and audio.isfinite().all() for _, audio in clips)
    assert "b_short.wav is too short" in caplog.text and "c_rotten.flac" in caplog.text
    again = validation_clips(scan(tmp_path), recipe.data, RATE)
    assert [name for name, _ in again] == [name for name, _ in clips]
    whole, _ = soundfile.read(tmp_path / "d_long.wav", dtype="float32")
    assert np.array_equal(clips[-1][1][0, 0].numpy(), whole[:36_000])
    with pytest.raises(AudioError, match="long enough for validation"):
        validation_clips(many(tmp_path / "short", ["x.wav"], 100), recipe.data, RATE)
