"""Recipes from TOML files: packaged ones, a user's own, and the one that made a model.

Files contain values only: no class paths, no interpolation. An unknown key is an error whose
message names the nearest key that exists.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from codec.config import CodecConfig
from codec.errors import ConfigError
from codec.model_folder import find_model, read_description
from codec.settings import check_keys
from train.recipe.sections import SECTIONS, TrainConfig

RENAMED = {
    ("augment", "hiss"): "stationary_noise",
    ("adversarial", "head_start"): "generator_delay",
}
"""New names of the keys of earlier versions, for the error message."""


LAST_RECIPES = {"speech24k": "voice24k_adversarial"}
"""The recipes that made the packaged models, or the last ones of several."""


def load_recipe(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a packaged recipe by name, or any TOML file by path.

    Args:
        name_or_path: ``"tiny"``, or ``"my/recipe.toml"``.
        overrides: values that replace those of the file, as ``"optimizer.lr=3e-4"``.

    Raises:
        ConfigError: there is no such recipe, or a value in it is wrong.

    Example:
        >>> recipe = load_recipe("tiny", ("optimizer.lr=3e-4",))
        >>> recipe.optimizer.lr, recipe.model.sample_rate
        (0.0003, 24000)
        >>> load_recipe("tiny", ("optimizer.lrr=3e-4",))
        Traceback (most recent call last):
            ...
        codec.errors.ConfigError: unknown key 'lrr' in optimizer: did you mean 'lr'?
    """
    values = _read(name_or_path)
    for override in overrides:
        _override(values, override)
    return recipe_from_dict(values)


def recipe_of_model(
    model: str,
    recipe: str | None = None,
    overrides: tuple[str, ...] = (),
    freeze: tuple[str, ...] = (),
) -> TrainConfig:
    """A recipe for continuing the training of a model.

    Args:
        model: a packaged model or a model folder, whose shape replaces the recipe's.
        recipe: a recipe; if None the one that made the model.
        overrides: values that replace those of the recipe, as in `load_recipe`.
        freeze: replaces ``optimizer.freeze``, unless empty.

    Raises:
        ConfigError: there is no recipe, or a value in it is wrong.
        ModelError: there is no such model.

    Example:
        >>> recipe_of_model("speech24k", freeze=("encoder", "quantizer")).optimizer.freeze
        ('encoder', 'quantizer')
    """
    folder = find_model(model)
    description = read_description(folder)
    # The best model of a run is in a folder next to the run's recipe.
    candidates = (folder / "training" / "recipe.toml", folder.parent / "recipe.toml")
    own = next((path for path in candidates if path.is_file()), candidates[0])
    made_by = LAST_RECIPES.get(description["name"])
    if recipe is None and not own.is_file() and made_by is None:
        raise ConfigError(f"{folder} does not hold the recipe that made it: give one by --recipe")
    values = _read(recipe or (own if own.is_file() else str(made_by)))
    values.get("run", {}).pop("graphs", None)  # of earlier versions, which wrote ONNX graphs
    values["model"] = description["codec"]
    if freeze:
        values.setdefault("optimizer", {})["freeze"] = list(freeze)
    for override in overrides:
        _override(values, override)
    return recipe_from_dict(values)


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the package.

    Example:
        >>> "speech24k" in packaged_recipes()
        True
    """
    packaged = resources.files("train") / "recipes"
    return sorted(Path(entry.name).stem for entry in packaged.iterdir())


def recipe_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Build and check a recipe from plain values, a table per section.

    Raises:
        ConfigError: a key is unknown or missing, or a value is wrong.
    """
    check_keys(TrainConfig, values, "recipe")
    sections: dict[str, Any] = {}
    for name, table in values.items():
        if name == "model":
            sections[name] = CodecConfig.from_dict(table)
            continue
        _require(isinstance(table, dict), f"{name} is {table!r}: it must be a table of values")
        for key in table:
            if new := RENAMED.get((name, key)):
                raise ConfigError(f"unknown key {key!r} in {name}: did you mean {new!r}?")
        check_keys(SECTIONS[name], table, name)
        sections[name] = SECTIONS[name](**table)
    return TrainConfig(**sections)


def to_toml(recipe: TrainConfig) -> str:
    """The recipe as text that `load_recipe` reads, with every value written out.

    Example:
        >>> print(to_toml(load_recipe("tiny")).partition("[quantizer]")[2][:15].strip())
        start_step = 0
    """
    lines = []
    for name, table in dataclasses.asdict(recipe).items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _read(name_or_path: str | Path) -> dict[str, Any]:
    names = packaged_recipes()
    try:
        if name_or_path in names:
            packaged = resources.files("train") / "recipes" / f"{name_or_path}.toml"
            return tomllib.loads(packaged.read_text("utf-8"))
        return tomllib.loads(Path(name_or_path).read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name_or_path} is not valid TOML: {error}") from error
    except (OSError, ValueError, RecursionError) as error:  # not text, or too long or deep
        raise ConfigError(
            f"no recipe {str(name_or_path)!r}: give a TOML file, or one of {names}"
        ) from error


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _override(values: dict[str, Any], text: str) -> None:
    """Apply ``section.key=value``, where the value is TOML or else a string."""
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    _require(
        bool(equals and dot and key),
        f"cannot set {text!r}: write section.key=value, as optimizer.lr=3e-4",
    )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()
    table = values.setdefault(section, {})
    _require(isinstance(table, dict), f"{section} must be a table")
    outer, dot, inner = key.partition(".")
    if dot:  # one entry of a table within the section, as data.class_weights.music
        table, key = table.setdefault(outer, {}), inner
        _require(isinstance(table, dict), f"{section}.{outer} must be a table")
    table[key] = parsed


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
