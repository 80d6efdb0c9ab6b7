"""The trainer: recipes, data, learning, and resuming to the bit."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from codec.errors import CodecError, ConfigError, ModelError
from codec.store import load_codec
from tests.conftest import LADDER, LAPPED, RECORDING, sound
from train.config import AugmentConfig, TrainConfig, load_recipe, recipe_from_dict
from train.loop import TrainingError, draw_num_codebooks, fit, learning_rate, start
from train.metrics import code_histogram, perplexity, si_sdr
from train.start import start_transparent


@pytest.fixture
def recipe() -> TrainConfig:
    """The tiny recipe on the smallest model, for a few steps."""
    tiny = load_recipe("tiny")
    model = dataclasses.replace(LAPPED, sample_rate=24_000)
    run = dataclasses.replace(tiny.run, steps=6, validate_every=3, checkpoint_every=2)
    data = dataclasses.replace(tiny.data, crop_frames=60, batch_size=2)
    quantizer = dataclasses.replace(tiny.quantizer, restart_every=2)
    return dataclasses.replace(tiny, model=model, run=run, data=data, quantizer=quantizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training audio, good and bad: what a real folder looks like."""
    folder = tmp_path_factory.mktemp("audio")
    recording, rate = soundfile.read(RECORDING)
    soundfile.write(folder / "speech.flac", recording, rate)
    soundfile.write(folder / "five.wav", sound(30_000, 5).T, 96_000)
    soundfile.write(folder / "short.wav", sound(800)[0], 8_000)
    soundfile.write(folder / "none.wav", np.zeros(0), 8_000)
    (folder / "broken.wav").write_bytes(b"RIFF" + bytes(40))
    (folder / "text.wav").write_text("no sound")
    (folder / "notes.txt").write_text("not audio at all")
    (folder / "x.raw").write_bytes(bytes(100))
    return folder


# Recipes


@pytest.mark.parametrize("name", ["tiny", "speech24k"])
def test_packaged_recipes_are_valid(name: str) -> None:
    assert load_recipe(name).model.sample_rate == 24_000


def nested(recipe: TrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return values


def test_a_recipe_survives_plain_values(recipe: TrainConfig) -> None:
    assert recipe_from_dict(nested(recipe)) == recipe


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("optimizer", "learning_rate", 1.0, "unknown key 'learning_rate' in optimizer"),
        ("optimizer", "lrr", 1.0, "did you mean 'lr'"),
        ("optimizer", "lr", "fast", "optimizer.lr must be a number"),
        ("optimizer", "lr", 0, "optimizer.lr must be positive"),
        ("optimizer", "lr", float("inf"), "optimizer.lr must be a number"),
        ("run", "seed", 10**20, "run.seed must be a whole number"),
        ("optimizer", "betas", [0.9, 1.0], "two numbers in"),
        ("run", "steps", 1.5, "run.steps must be a whole number"),
        ("run", "steps", 0, "run.steps must be at least 1"),
        ("run", "precision", "fp8", "bf16"),
        ("loss", "mel", -1, "loss.mel must not be negative"),
        ("loss", "windows_per_step", 8, "windows_per_step must lie in"),
        ("data", "crop_frames", 1, "spectral losses need more"),
        ("augment", "gain_db", [1], "gain_db must be"),
        ("model", "strides", [0, 2], "strides is 0"),
        ("model", "codebook_size", 1_000_000, "codebook_size is 1000000"),
        ("quantizer", "dropout", 2, "dropout must lie in 0..1"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(
    recipe: TrainConfig, section: str, key: str, value: Any, message: str
) -> None:
    values = nested(recipe)
    values[section][key] = value
    with pytest.raises(ConfigError, match=message) as caught:
        recipe_from_dict(values)
    assert "\n" not in str(caught.value)


def test_missing_keys_and_files_are_named(recipe: TrainConfig, tmp_path: Path) -> None:
    values = nested(recipe)
    del values["loss"]["mel"]
    with pytest.raises(ConfigError, match="loss lacks the key 'mel'"):
        recipe_from_dict(values)
    with pytest.raises(ConfigError, match=r"one of .*speech24k"):
        load_recipe("nonesuch")
    with pytest.raises(ConfigError, match="no recipe"):
        load_recipe(str(RECORDING))
    (tmp_path / "bad.toml").write_text("[model")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_recipe(str(tmp_path / "bad.toml"))


# The start, and learning


def test_a_new_model_passes_low_frequencies(recipe: TrainConfig) -> None:
    """Before any training, and without quantization: this is what makes training quick."""
    codec = start(load_recipe("speech24k")).codec
    time = torch.arange(48_000) / 24_000
    for frequency in (200, 1_000, 5_000):
        audio = 0.1 * torch.sin(2 * torch.pi * frequency * time)[None, None]
        with torch.no_grad():
            decoded = codec.decode_latent(codec.encode_latent(audio), 48_000)
        assert si_sdr(decoded[..., 2000:-2000], audio[..., 2000:-2000]) > 15
    with pytest.raises(AssertionError):
        start_transparent(start(dataclasses.replace(recipe, model=LADDER)).codec)


def test_thirty_steps_lower_the_loss(recipe: TrainConfig, tmp_path: Path) -> None:
    recording, rate = soundfile.read(RECORDING, stop=24_000)
    (tmp_path / "data").mkdir()
    soundfile.write(tmp_path / "data" / "second.wav", recording, rate)
    recipe = dataclasses.replace(
        recipe,
        run=dataclasses.replace(recipe.run, steps=30, validate_every=1),
        optimizer=dataclasses.replace(recipe.optimizer, lr=2e-3, warmup_steps=0),
        loss=dataclasses.replace(recipe.loss, windows_per_step=7),
        data=dataclasses.replace(recipe.data, crop_frames=300),
        augment=AugmentConfig(),
    )
    fit(recipe, tmp_path / "data", tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    mel = [entry["mel"] for entry in log]
    assert len(mel) == 30
    assert np.mean(mel[-8:]) < 0.9 * np.mean(mel[:8])


def read_log(out: Path) -> list[dict[str, float]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize(("start_step", "restart_every"), [(0, 2), (3, 2), (0, 1000)])
def test_a_resumed_run_equals_one_never_stopped(
    recipe: TrainConfig,
    folder: Path,
    tmp_path: Path,
    start_step: int,
    restart_every: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quantizer = dataclasses.replace(
        recipe.quantizer, start_step=start_step, restart_every=restart_every
    )
    recipe = dataclasses.replace(recipe, quantizer=quantizer)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(recipe, folder, whole, valid=folder)

    from train import loop

    real_step, count = loop.train_step, 0

    def dies_in_step_five(*arguments: Any) -> dict[str, float]:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return real_step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_step", dies_in_step_five)
        fit(recipe, folder, parts, valid=folder)
    fit(recipe, folder, parts, valid=folder, resume=True)
    assert read_log(parts) == read_log(whole)
    weights = [out / "model" / "weights.safetensors" for out in (whole, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_killed_run_resumes(folder: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "train" / "recipes" / "tiny.toml").read_text()
    toml = tmp_path / "r.toml"
    toml.write_text(text.replace("_every = 250", "_every = 3"))
    command = [sys.executable, "-m", "codec.cli", "train", str(toml)]
    command += ["--data", str(folder), "--out", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "model" / "config.json").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    again = [*command, "--resume", "--minutes", "0.001"]
    result = subprocess.run(again, capture_output=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr.decode()
    assert load_codec(result.stdout.decode().strip()).config.hop_length == 480


def test_a_trained_model_can_be_trained_on(
    recipe: TrainConfig, folder: Path, tmp_path: Path
) -> None:
    first = fit(recipe, folder, tmp_path / "first")
    state = start(recipe, str(first))
    loaded = load_codec(first)
    for name, tensor in state.codec.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    fit(recipe, folder, tmp_path / "second", initial_model=str(first))
    other = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, latent_dim=9))
    with pytest.raises(ModelError, match="another shape"):
        fit(other, folder, tmp_path / "third", initial_model=str(first))


def test_a_run_is_not_overwritten_and_nothing_is_resumed_from_nothing(
    recipe: TrainConfig, folder: Path, tmp_path: Path
) -> None:
    fit(recipe, folder, tmp_path / "run")
    with pytest.raises(TrainingError, match="--resume"):
        fit(recipe, folder, tmp_path / "run")
    with pytest.raises(ModelError, match="nothing to resume"):
        fit(recipe, folder, tmp_path / "other", resume=True)
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        fit(recipe, folder, tmp_path / "run", resume=True)


def test_an_exploding_loss_stops_with_advice(
    recipe: TrainConfig, folder: Path, tmp_path: Path
) -> None:
    optimizer = dataclasses.replace(recipe.optimizer, lr=1e30, final_lr=1e30, warmup_steps=0)
    with pytest.raises(CodecError, match=r"lower optimizer\.lr"):
        fit(dataclasses.replace(recipe, optimizer=optimizer), folder, tmp_path / "run")


# Schedules and measures


def test_the_schedule_warms_up_and_anneals() -> None:
    recipe = load_recipe("speech24k")
    rates = [learning_rate(recipe, step, step / 10_000) for step in range(10_001)]
    peak = recipe.optimizer.warmup_steps
    assert rates[0] < 0.01 * recipe.optimizer.lr
    assert all(a < b for a, b in itertools.pairwise(rates[:peak]))
    assert all(a >= b for a, b in itertools.pairwise(rates[peak:]))
    assert rates[-1] == pytest.approx(recipe.optimizer.final_lr)


def test_dropout_draws_every_number_of_codebooks() -> None:
    recipe = load_recipe("speech24k")
    rng = np.random.default_rng(0)
    drawn = torch.cat([draw_num_codebooks(recipe, rng) for _ in range(200)])
    assert set(drawn.tolist()) == set(range(1, 13))
    assert 0.45 < (drawn == 12).double().mean() < 0.62


def test_si_sdr_knows_its_decibels() -> None:
    time = torch.arange(24_000) / 24_000
    signal_, noise = torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 300 * time)
    assert si_sdr(signal_ + 0.1 * noise, signal_) == pytest.approx(20, abs=0.01)
    assert si_sdr(0.3 * (signal_ + 0.1 * noise), signal_) == pytest.approx(20, abs=0.01)
    assert si_sdr(signal_, signal_) > 100
    assert np.isfinite(si_sdr(torch.zeros(100), torch.zeros(100)))


def test_perplexity_counts_entries_in_use() -> None:
    codes = torch.tensor([[[0, 1, 2, 3], [5, 5, 5, 5]]])
    histogram = code_histogram(codes, 8)
    assert histogram.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 4, 0, 0]]
    assert perplexity(histogram).tolist() == pytest.approx([4, 1])
