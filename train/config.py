"""`TrainConfig`: a training recipe, read from TOML into frozen dataclasses.

Values live in files, names in Python: no class paths, no interpolation. An unknown key is an
error, and the message names the nearest key that exists.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from codec.config import CodecConfig
from codec.errors import ConfigError
from train.losses import MEL_WINDOWS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Random crops of the training audio.

    Attributes:
        crop_frames: length of a crop, in codec frames.
        batch_size: crops per step.
        gain_db: range from which each crop's gain is drawn, so that any level is coded well.
    """

    crop_frames: int
    batch_size: int
    gain_db: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses, and how many spectral windows each step draws."""

    waveform: float
    complex: float
    magnitude: float
    mel: float
    codebook: float
    commitment: float
    windows_per_step: int


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """How the codebooks come to life.

    Attributes:
        start_step: until then the latent passes unquantized; then codebooks start from data.
        dropout: share of crops that keep a random number of codebooks instead of all.
        restart_every: steps between restarts of dead codes.
        restart_until: share of the run after which codes are left alone, so that the averaged
            weights average something that stands still.
    """

    start_step: int
    dropout: float
    restart_every: int
    restart_until: float


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine to `final_lr`; weights averaged on the side."""

    lr: float
    final_lr: float
    betas: tuple[float, ...]
    weight_decay: float
    warmup_steps: int
    max_grad_norm: float
    average_decay: float


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length of the run and what happens along the way.

    Attributes:
        steps: optimizer steps. `--minutes` replaces this by a wall-clock budget.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints, each of which saves the model so far too.
        seed: every random draw of step n follows from the seed and n.
        precision: ``fp32``, or ``bf16`` for encoder and decoder (fast where the processor has
            bf16 instructions).
    """

    steps: int
    validate_every: int
    checkpoint_every: int
    seed: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole recipe. Build it with `load_recipe`."""

    model: CodecConfig
    data: DataConfig
    loss: LossConfig
    quantizer: QuantizerConfig
    optimizer: OptimizerConfig
    run: RunConfig

    def __post_init__(self) -> None:
        _require(self.data.crop_frames >= 1, "data.crop_frames must be at least 1")
        _require(self.data.batch_size >= 1, "data.batch_size must be at least 1")
        crop = self.data.crop_frames * self.model.hop_length
        _require(
            crop > max(MEL_WINDOWS) // 2,
            f"data.crop_frames gives crops of {crop} samples: the spectral losses need more "
            f"than {max(MEL_WINDOWS) // 2}",
        )
        low_high = self.data.gain_db
        _require(
            len(low_high) == 2 and low_high[0] <= low_high[1], "data.gain_db must be [low, high]"
        )
        for field in dataclasses.fields(self.loss):
            _require(getattr(self.loss, field.name) >= 0, f"loss.{field.name} must not be negative")
        _require(
            1 <= self.loss.windows_per_step <= len(MEL_WINDOWS),
            f"loss.windows_per_step must lie in 1..{len(MEL_WINDOWS)}",
        )
        _require(self.quantizer.start_step >= 0, "quantizer.start_step must not be negative")
        _require(0 <= self.quantizer.dropout <= 1, "quantizer.dropout must lie in 0..1")
        _require(self.quantizer.restart_every >= 1, "quantizer.restart_every must be at least 1")
        _require(0 <= self.quantizer.restart_until <= 1, "quantizer.restart_until must lie in 0..1")
        _require(self.optimizer.lr > 0, "optimizer.lr must be positive")
        _require(
            0 <= self.optimizer.final_lr <= self.optimizer.lr,
            "optimizer.final_lr must lie between 0 and optimizer.lr",
        )
        _require(
            len(self.optimizer.betas) == 2 and all(0 <= beta < 1 for beta in self.optimizer.betas),
            "optimizer.betas must be two numbers in [0, 1)",
        )
        _require(self.optimizer.weight_decay >= 0, "optimizer.weight_decay must not be negative")
        _require(self.optimizer.warmup_steps >= 0, "optimizer.warmup_steps must not be negative")
        _require(self.optimizer.max_grad_norm > 0, "optimizer.max_grad_norm must be positive")
        _require(
            0 <= self.optimizer.average_decay < 1, "optimizer.average_decay must lie in [0, 1)"
        )
        for name in ("steps", "validate_every", "checkpoint_every"):
            _require(getattr(self.run, name) >= 1, f"run.{name} must be at least 1")
        _require(self.run.seed >= 0, "run.seed must not be negative")
        _require(self.run.precision in ("fp32", "bf16"), 'run.precision must be "fp32" or "bf16"')


def load_recipe(name_or_path: str) -> TrainConfig:
    """A packaged recipe by name, or a TOML file by path.

    Raises:
        ConfigError: not found, not TOML, or a value that no run could use.
    """
    packaged = resources.files("train") / "recipes"
    names = sorted(entry.name.removesuffix(".toml") for entry in packaged.iterdir())
    try:
        if name_or_path in names:
            text = (packaged / f"{name_or_path}.toml").read_text("utf-8")
        else:
            text = Path(name_or_path).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"no recipe {name_or_path!r}: give the path of a TOML file or one of {names}"
        ) from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name_or_path} is not valid TOML: {error}") from error
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Build and check a recipe from plain values."""
    sections: dict[str, Any] = {}
    kinds = get_type_hints(TrainConfig)
    _check_keys("recipe", values, set(kinds))
    for name, kind in kinds.items():
        if kind is CodecConfig:
            sections[name] = CodecConfig.from_dict(values[name])
        else:
            sections[name] = _section(name, values[name], kind)
    return TrainConfig(**sections)


def _section(name: str, values: Any, kind: type) -> Any:
    _require(isinstance(values, dict), f"{name} must be a table")
    hints = get_type_hints(kind)
    _check_keys(name, values, set(hints))
    return kind(**{key: _value(f"{name}.{key}", values[key], hints[key]) for key in hints})


def _value(name: str, value: Any, kind: Any) -> Any:
    def is_number(item: Any) -> bool:
        is_real = isinstance(item, int | float) and not isinstance(item, bool)
        return is_real and abs(item) < 2**53  # and so neither infinite nor NaN

    if kind is int:
        _require(isinstance(value, int) and is_number(value), f"{name} must be a whole number")
        return value
    if kind is float:
        _require(is_number(value), f"{name} must be a number")
        return float(value)
    if kind is str:
        _require(isinstance(value, str), f"{name} must be a string")
        return value
    _require(
        isinstance(value, list) and all(map(is_number, value)), f"{name} must be a list of numbers"
    )
    return tuple(map(float, value))


def _check_keys(where: str, values: dict[str, Any], known: set[str]) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
            raise ConfigError(f"unknown key {key!r} in {where}: {hint}")
    for key in sorted(known - set(values)):
        raise ConfigError(f"{where} lacks the key {key!r}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
