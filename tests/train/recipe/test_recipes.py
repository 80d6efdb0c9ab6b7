"""Recipes: their values, their files, and what follows from a recipe alone."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from codec.errors import ConfigError, ModelError
from codec.network.model import Codec
from tests.conftest import LADDER, LAPPED, RECORDING
from train.recipe.loading import (
    load_recipe,
    packaged_recipes,
    recipe_from_dict,
    recipe_of_model,
    to_toml,
)
from train.recipe.sections import TrainConfig
from train.report.dry_run import describe
from train.report.macs import multiply_accumulates


def nested(recipe: TrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return values


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipes_are_valid_and_described(name: str) -> None:
    recipe = load_recipe(name)
    text = describe(recipe)
    assert recipe_from_dict(tomllib.loads(text[: text.index("\nparameters")])) == recipe
    codec = Codec(recipe.model)
    size = sum(parameter.numel() for parameter in codec.parameters())
    assert f"{size:,} (encoder" in text
    assert f"{1000 * codec.latency_seconds:g} ms" in text


def test_a_recipe_survives_plain_values_and_toml(training_recipe: TrainConfig) -> None:
    assert recipe_from_dict(nested(training_recipe)) == training_recipe
    odd = dataclasses.replace(
        training_recipe,
        data=dataclasses.replace(training_recipe.data, class_weights={'a "b" ö': 2.0, "c": 0.0}),
        augment=dataclasses.replace(training_recipe.augment, noise="some\\where/ö"),
    )
    assert recipe_from_dict(tomllib.loads(to_toml(odd))) == odd


def test_one_line_sets_any_value() -> None:
    recipe = load_recipe(
        "tiny",
        (
            "optimizer.lr=2e-3",
            "model.bottleneck=fsq",
            "model.strides = [120, 4]",
            "data.class_weights.music=2",
            'optimizer.freeze=["encoder"]',
            "loss.balancer=true",
            "augment.noise=a folder/of noise",
        ),
    )
    assert recipe.optimizer.lr == 2e-3
    assert recipe.model.bottleneck == "fsq" and recipe.model.strides == (120, 4)
    assert recipe.data.class_weights == {"music": 2.0}
    assert recipe.optimizer.freeze == ("encoder",)
    assert recipe.loss.balancer and recipe.augment.noise == "a folder/of noise"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", "write section.key=value"),
        ("lr=1", "write section.key=value"),
        ("optimiser.lr=1", "did you mean 'optimizer'"),
        ("optimizer.lrr=1", "did you mean 'lr'"),
        ("optimizer.lr.x=1", r"optimizer\.lr must be a table"),
        ("loss.mel=heavy", r"loss\.mel is 'heavy': it must be a number"),
        ("model.bottlenec=vae", "did you mean 'bottleneck'"),
        ("model.bottleneck=rvq", '"vq", "fsq", "vae"'),
    ],
)
def test_a_wrong_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("tiny", (override,))


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("optimizer", "learning_rate", 1.0, "unknown key 'learning_rate' in optimizer"),
        ("optimizer", "lrr", 1.0, "did you mean 'lr'"),
        ("optimizer", "lr", "fast", "optimizer.lr is 'fast': it must be a number"),
        ("optimizer", "lr", 0, "optimizer.lr is 0.0: it must be greater than 0"),
        ("optimizer", "lr", float("inf"), "optimizer.lr is inf: it must be a number"),
        ("optimizer", "betas", [0.9, 1.0], "optimizer.betas holds 1.0: it must lie in"),
        ("optimizer", "schedule", "linear", '"cosine", "exponential", "cooldown", "plateau"'),
        ("optimizer", "freeze", ["ears"], '"encoder", "quantizer", "decoder"'),
        ("optimizer", "freeze", ["encoder", "quantizer", "decoder"], "nothing to train"),
        ("run", "seed", 10**20, "run.seed is 1000.*: it must lie in"),
        ("run", "steps", 1.5, "run.steps is 1.5: it must be a whole number"),
        ("run", "steps", True, "run.steps is True: it must be a whole number"),
        ("run", "steps", 0, "run.steps is 0: it must be at least 1"),
        ("run", "precision", "fp8", "bf16"),
        ("run", "metric", "ears", '"mel", "si_sdr", "stoi"'),
        ("loss", "mel", -1, "loss.mel is -1.0: it must be at least 0"),
        ("loss", "balancer", 1, "loss.balancer is 1: it must be true or false"),
        ("loss", "windows_per_step", 8, "loss.windows_per_step is 8: it must lie in 1..7"),
        ("adversarial", "loss", "wasserstein", '"hinge", "least_squares"'),
        ("adversarial", "stft_windows", [10**6], "the length of a crop"),
        ("adversarial", "stft_windows", [512.5], "holds 512.5: it must be a whole number"),
        ("adversarial", "periods", [0], "holds 0"),
        ("regularization", "dropout", 1, "is 1.0: it must lie in"),
        ("regularization", "latent_noise", -0.1, "is -0.1: it must be at least 0"),
        ("augment", "noise_snr_db", [20, 0], "must be .low, high."),
        ("augment", "mix", 1.5, "augment.mix is 1.5: it must lie in 0..1"),
        (
            "augment",
            "reverb_seconds",
            [0, 1],
            "reverb_seconds holds 0.0: it must be greater than 0",
        ),
        ("augment", "hiss", 0.1, "unknown key 'hiss' in augment: did you mean 'stationary_noise'"),
        ("adversarial", "head_start", 9, "did you mean 'generator_delay'"),
        ("data", "crop_frames", 1, "spectral losses need more"),
        (
            "data",
            "class_weights",
            {"music": -1},
            "data.class_weights.music is -1.0: it must be at least 0",
        ),
        ("data", "class_weights", [1], "it must be a table"),
        ("data", "validation_seconds", 0.01, "validation_seconds is 0.01: it must give more than"),
        ("model", "strides", [0, 2], "strides holds 0"),
        ("model", "codebook_size", 1_000_000, "codebook_size is 1000000"),
        ("quantizer", "dropout", 2, "quantizer.dropout is 2.0: it must lie in 0..1"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(
    training_recipe: TrainConfig, section: str, key: str, value: Any, message: str
) -> None:
    values = nested(training_recipe)
    values[section][key] = value
    with pytest.raises(ConfigError, match=message) as caught:
        recipe_from_dict(values)
    assert "\n" not in str(caught.value)


def test_missing_keys_and_files_are_named(training_recipe: TrainConfig, tmp_path: Path) -> None:
    values = nested(training_recipe)
    del values["loss"]["mel"]
    with pytest.raises(ConfigError, match="loss lacks the key 'mel'"):
        recipe_from_dict(values)
    del values["loss"]
    with pytest.raises(ConfigError, match="recipe lacks the key 'loss'"):
        recipe_from_dict(values)
    with pytest.raises(ConfigError, match=r"one of .*speech24k"):
        load_recipe("nonesuch")
    with pytest.raises(ConfigError, match="no recipe"):
        load_recipe(str(RECORDING))
    (tmp_path / "bad.toml").write_text("[model")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_recipe(str(tmp_path / "bad.toml"))


def test_a_model_brings_its_recipe(model_folder: Path) -> None:
    packaged = recipe_of_model("speech24k", freeze=("encoder", "quantizer"))
    assert packaged.optimizer.freeze == ("encoder", "quantizer")
    frozen = dataclasses.replace(packaged.optimizer, freeze=())
    recipe = load_recipe("voice24k_adversarial")
    unfrozen = dataclasses.replace(recipe.optimizer, freeze=())
    assert dataclasses.replace(packaged, optimizer=frozen) == dataclasses.replace(
        recipe, optimizer=unfrozen
    )
    with pytest.raises(ConfigError, match="does not hold the recipe that made it"):
        recipe_of_model(str(model_folder))
    own = recipe_of_model(str(model_folder), "tiny", ("data.crop_frames=60",))
    assert own.model == LAPPED
    with pytest.raises(ModelError, match="no model"):
        recipe_of_model("nonesuch")


def test_multiply_accumulates_are_those_of_the_layers() -> None:
    """Counted by hand for one recurrent layer: four gates, each from input and memory."""
    plain = multiply_accumulates(Codec(LADDER).eval())
    lstm = multiply_accumulates(Codec(dataclasses.replace(LADDER, recurrent="lstm")).eval())
    for side, channels in (("encode", 8), ("decode", 10)):
        expected = (4 * 2 + 1) * channels**2 * float(LADDER.frame_rate)
        assert lstm[side] - plain[side] == pytest.approx(expected, rel=1e-6)
