"""`TrainConfig`: a training recipe, read from TOML into frozen dataclasses.

Values live in files, names in Python: no class paths, no interpolation. An unknown key is an
error, and the message names the nearest key that exists. What most runs leave off has a default;
what shapes every run must be given.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from codec.config import CodecConfig
from codec.errors import ConfigError
from codec.model_folder import find_model, read_description
from codec.quality.mel import MEL_WINDOWS

RECONSTRUCTION = (
    "waveform",
    "complex",
    "magnitude",
    "mel",
    "envelope",
    "energy",
    "level",
    "tonality",
    "loudness",
)
PARTS = ("encoder", "quantizer", "decoder")
METRICS = {"mel": min, "si_sdr": max, "stoi": max}
"""What a run can be judged by at its top bitrate, and which way is better."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Random crops of the training audio.

    Attributes:
        crop_frames: length of a crop, in codec frames.
        batch_size: crops per step, on each device.
        class_weights: how often a class of sound is drawn relative to its duration; classes that
            are not named count 1. A file's class is the folder it lies in, or else its name up
            to the first underscore.
        workers: processes that prepare batches beside the training.
        memory_gb: a corpus that takes less (16-bit, at the model's rate: .17 GB an hour at 24 kHz)
            is decoded once and kept in memory; a larger one is read crop by crop from its files.
        validation_files: recordings to measure on, at most.
        validation_seconds: of each of them, its beginning.
    """

    crop_frames: int
    batch_size: int
    class_weights: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    memory_gb: float = 4.0
    validation_files: int = 16
    validation_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to crops. A share is the chance of a crop; ranges are drawn from uniformly.

    The first five change what is coded; the others spoil only the input, while the target stays
    clean, so that the codec learns to clean what it codes.

    Attributes:
        gain_db: gain of a crop, so that any level is coded well.
        polarity: flip the sign of half of the crops.
        resample: largest change of speed and pitch, 0.05 for 5 %.
        hiss: share of crops in whose place there is steady noise of some colour: recordings chosen
            for their quality hold hardly any, and codecs make tones of what they never heard.
        mix: share of crops to which another crop is added.
        noise: folder of noise to add, none if empty.
        noise_share: share of crops with noise, if there is a folder of it.
        noise_snr_db: ratio of sound to noise.
        reverb_share: share of crops that are heard in a room.
        reverb_seconds: reverberation time (60 dB) of rooms made up for it.
        impulse_responses: folder of recorded rooms to take instead of made-up ones.
        clip_share: share of crops that are overdriven.
        clip_db: by how much their peaks exceed what clips.
        band_limit_share: share of crops that lose their high frequencies.
        band_limit_hz: where those end.
    """

    gain_db: tuple[float, ...] = (0.0, 0.0)
    polarity: bool = True
    resample: float = 0.0
    hiss: float = 0.0
    mix: float = 0.0
    noise: str = ""
    noise_share: float = 0.8
    noise_snr_db: tuple[float, ...] = (0.0, 20.0)
    reverb_share: float = 0.0
    reverb_seconds: tuple[float, ...] = (0.1, 0.8)
    impulse_responses: str = ""
    clip_share: float = 0.0
    clip_db: tuple[float, ...] = (3.0, 15.0)
    band_limit_share: float = 0.0
    band_limit_hz: tuple[float, ...] = (2000.0, 8000.0)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses.

    Attributes:
        waveform, complex, magnitude, mel, envelope, energy, level, tonality, loudness:
            reconstruction (`train.objective.losses`).
        codebook, commitment: of quantizers (`codec.network.bottleneck`).
        kl: of the VAE bottleneck (`codec.network.vae`).
        windows_per_step: how many spectral windows each step draws.
        balancer: let the weights of the losses that judge decoded audio be shares of its
            gradient (`train.objective.balancer`) instead of factors.
    """

    waveform: float
    complex: float
    magnitude: float
    mel: float
    codebook: float
    commitment: float
    envelope: float = 0.0
    energy: float = 0.0
    level: float = 0.0
    tonality: float = 0.0
    loudness: float = 0.0
    kl: float = 1e-3
    windows_per_step: int
    balancer: bool = False


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The optional adversarial stage (`train.objective.discriminators`); off at a weight of zero.

    Attributes:
        weight: of the adversarial loss of the codec.
        feature_weight: of feature matching.
        loss: ``hinge`` or ``least_squares``.
        start_step: step from which discriminators are trained.
        head_start: steps that they learn before the codec hears them, since untaught they mislead
            it; those that come with a model need none.
        lr: highest learning rate of the discriminators; it follows the codec's schedule.
        channels: width of each discriminator's first layer.
        stft_windows: windows of the complex STFT discriminators.
        periods: periods of the multi-period discriminators.
    """

    weight: float = 0.0
    feature_weight: float = 2.0
    loss: str = "hinge"
    start_step: int = 0
    head_start: int = 500
    lr: float = 2e-4
    channels: int = 16
    stft_windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)


@dataclass(frozen=True, kw_only=True)
class RegularizationConfig:
    """What keeps latents smooth, sparse or robust; all off by default.

    Weight decay stands with the optimizer.

    Attributes:
        latent_noise: standard deviation of noise added to the decoder's input (its RMS is at
            most one).
        dropout: chance of each channel of the decoder's input to be left out for a whole crop.
        sparsity: weight of the mean absolute value of the latent before quantization.
    """

    latent_noise: float = 0.0
    dropout: float = 0.0
    sparsity: float = 0.0


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
    """AdamW with a warm-up and a schedule; weights averaged on the side.

    Attributes:
        lr: the highest learning rate, reached after a linear warm-up.
        final_lr: the last one.
        betas: decay of AdamW's moments.
        weight_decay: of matrices; codebooks, biases and norms do not decay.
        warmup_steps: steps until ``lr``.
        max_grad_norm: longer gradients are scaled down to this.
        average_decay: of the running average of the weights, which is what gets saved and used.
        schedule: ``cosine`` or ``exponential`` from ``lr`` to ``final_lr`` over the run;
            ``cooldown``: ``lr`` until shortly before the end, so that a run can be made longer
            after the fact; ``plateau``: halved whenever the metric of `RunConfig` stood still.
        cooldown: share of the run at its end in which the rate falls, as one minus a square root
            (Hägele et al., arXiv:2405.18392).
        plateau_patience: validations without a better metric before the rate is halved.
        freeze: parts that keep their weights, any of `PARTS`. With the encoder and the quantizer
            frozen, every stream made before stays valid.
    """

    lr: float
    final_lr: float
    betas: tuple[float, ...]
    weight_decay: float
    warmup_steps: int
    max_grad_norm: float
    average_decay: float
    schedule: str = "cosine"
    cooldown: float = 0.2
    plateau_patience: int = 5
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length of the run and what happens along the way.

    Attributes:
        steps: optimizer steps. `--minutes` replaces this by a wall-clock budget, to which the
            schedule fits itself; what other settings count in steps (the warm-up, the start of the
            discriminators) stays where it is.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints, each of which saves the model so far too.
        keep_checkpoints: how many of the last checkpoints stay.
        metric: what the best model is chosen by, at the top bitrate: ``mel``, ``si_sdr``, ``stoi``.
        early_stop: validations without a better metric after which the run ends; 0 for never.
        seed: every random draw of step n follows from the seed and n.
        precision: ``fp32``, or ``bf16`` for encoder and decoder (fast where the processor has
            bf16 instructions).
    """

    steps: int
    validate_every: int
    checkpoint_every: int
    keep_checkpoints: int = 2
    metric: str = "mel"
    early_stop: int = 0
    seed: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole recipe. Build it with `load_recipe`."""

    model: CodecConfig
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig
    adversarial: AdversarialConfig = AdversarialConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    quantizer: QuantizerConfig
    optimizer: OptimizerConfig
    run: RunConfig

    def __post_init__(self) -> None:
        for check in (
            self._check_data,
            self._check_augment,
            self._check_losses,
            self._check_optimizer,
            self._check_run,
        ):
            check()

    @property
    def crop_samples(self) -> int:
        """Length of a crop in samples."""
        return self.data.crop_frames * self.model.hop_length

    def _check_data(self) -> None:
        data = self.data
        _at_least("data.crop_frames", data.crop_frames, 1)
        _at_least("data.batch_size", data.batch_size, 1)
        _require(
            self.crop_samples > max(MEL_WINDOWS) // 2,
            f"data.crop_frames gives crops of {self.crop_samples} samples: the spectral losses "
            f"need more than {max(MEL_WINDOWS) // 2}",
        )
        for name, weight in data.class_weights.items():
            _at_least(f"data.class_weights.{name}", weight, 0)
        _at_least("data.workers", data.workers, 0)
        _at_least("data.memory_gb", data.memory_gb, 0)
        _at_least("data.validation_files", data.validation_files, 1)
        _require(
            data.validation_seconds * self.model.sample_rate > max(MEL_WINDOWS),
            f"data.validation_seconds must give more than {max(MEL_WINDOWS)} samples",
        )

    def _check_augment(self) -> None:
        augment = self.augment
        for name in ("gain_db", "noise_snr_db", "clip_db"):
            _range(f"augment.{name}", getattr(augment, name))
        for name in ("reverb_seconds", "band_limit_hz"):
            low, _ = _range(f"augment.{name}", getattr(augment, name))
            _require(low > 0, f"augment.{name} must be positive")
        for name in (
            "hiss",
            "mix",
            "noise_share",
            "reverb_share",
            "clip_share",
            "band_limit_share",
        ):
            _share(f"augment.{name}", getattr(augment, name))
        _require(0 <= augment.resample <= 0.5, "augment.resample must lie in 0..0.5")

    def _check_losses(self) -> None:
        for name in (*RECONSTRUCTION, "codebook", "commitment", "kl"):
            _at_least(f"loss.{name}", getattr(self.loss, name), 0)
        _require(
            1 <= self.loss.windows_per_step <= len(MEL_WINDOWS),
            f"loss.windows_per_step must lie in 1..{len(MEL_WINDOWS)}",
        )
        adversarial = self.adversarial
        _at_least("adversarial.weight", adversarial.weight, 0)
        _at_least("adversarial.feature_weight", adversarial.feature_weight, 0)
        _one_of("adversarial.loss", adversarial.loss, ("hinge", "least_squares"))
        _at_least("adversarial.start_step", adversarial.start_step, 0)
        _at_least("adversarial.head_start", adversarial.head_start, 0)
        _require(adversarial.lr > 0, "adversarial.lr must be positive")
        _require(1 <= adversarial.channels <= 1024, "adversarial.channels must lie in 1..1024")
        for window in adversarial.stft_windows:
            _require(
                16 <= window <= self.crop_samples,
                f"adversarial.stft_windows holds {window}: it must lie in 16..{self.crop_samples}, "
                "the length of a crop",
            )
        for period in adversarial.periods:
            _require(1 <= period <= 1000, f"adversarial.periods holds {period}: 1..1000 will do")
        _require(
            bool(adversarial.stft_windows or adversarial.periods) or not adversarial.weight,
            "adversarial.weight needs stft_windows or periods",
        )
        _at_least("regularization.latent_noise", self.regularization.latent_noise, 0)
        _require(0 <= self.regularization.dropout < 1, "regularization.dropout must lie in [0, 1)")
        _at_least("regularization.sparsity", self.regularization.sparsity, 0)

    def _check_optimizer(self) -> None:
        _at_least("quantizer.start_step", self.quantizer.start_step, 0)
        _share("quantizer.dropout", self.quantizer.dropout)
        _at_least("quantizer.restart_every", self.quantizer.restart_every, 1)
        _share("quantizer.restart_until", self.quantizer.restart_until)
        optimizer = self.optimizer
        _require(optimizer.lr > 0, "optimizer.lr must be positive")
        _require(
            0 <= optimizer.final_lr <= optimizer.lr,
            "optimizer.final_lr must lie between 0 and optimizer.lr",
        )
        _require(
            len(optimizer.betas) == 2 and all(0 <= beta < 1 for beta in optimizer.betas),
            "optimizer.betas must be two numbers in [0, 1)",
        )
        _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
        _at_least("optimizer.warmup_steps", optimizer.warmup_steps, 0)
        _require(optimizer.max_grad_norm > 0, "optimizer.max_grad_norm must be positive")
        _require(0 <= optimizer.average_decay < 1, "optimizer.average_decay must lie in [0, 1)")
        schedules = ("cosine", "exponential", "cooldown", "plateau")
        _one_of("optimizer.schedule", optimizer.schedule, schedules)
        _require(0 < optimizer.cooldown <= 1, "optimizer.cooldown must lie in (0, 1]")
        _require(
            optimizer.schedule != "exponential" or optimizer.final_lr > 0,
            "optimizer.final_lr must be positive for the exponential schedule",
        )
        _at_least("optimizer.plateau_patience", optimizer.plateau_patience, 1)
        for part in optimizer.freeze:
            _one_of("optimizer.freeze", part, PARTS)
        _require(
            set(optimizer.freeze) != set(PARTS),
            "optimizer.freeze leaves nothing to train: name two parts at most",
        )

    def _check_run(self) -> None:
        for name in ("steps", "validate_every", "checkpoint_every", "keep_checkpoints"):
            _at_least(f"run.{name}", getattr(self.run, name), 1)
        _one_of("run.metric", self.run.metric, tuple(METRICS))
        _at_least("run.early_stop", self.run.early_stop, 0)
        _at_least("run.seed", self.run.seed, 0)
        _one_of("run.precision", self.run.precision, ("fp32", "bf16"))


def load_recipe(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a packaged recipe by name, or any TOML file by path.

    Args:
        name_or_path: ``"tiny"``, or ``"my/recipe.toml"``.
        overrides: values that replace the file's, as ``"optimizer.lr=3e-4"``.

    Raises:
        ConfigError: there is no such recipe, or a value in it is wrong.
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
    """A recipe for training a model on.

    Args:
        model: a packaged model or a model folder, whose shape replaces the recipe's.
        recipe: a recipe; if None the one that made the model.
        overrides: as for `load_recipe`.
        freeze: replaces ``optimizer.freeze``, unless empty.

    Raises:
        ConfigError: there is no recipe, or a value in it is wrong.
        ModelError: there is no such model.
    """
    folder = find_model(model)
    description = read_description(folder)
    # The best model of a run lies beside the run's recipe.
    candidates = (folder / "training" / "recipe.toml", folder.parent / "recipe.toml")
    own = next((path for path in candidates if path.exists()), candidates[0])
    if recipe is None and not own.exists() and description["name"] not in packaged_recipes():
        raise ConfigError(f"{folder} does not hold the recipe that made it: give one by --recipe")
    values = _read(recipe or (own if own.exists() else description["name"]))
    values["model"] = description["codec"]
    if freeze:
        values.setdefault("optimizer", {})["freeze"] = list(freeze)
    for override in overrides:
        _override(values, override)
    return recipe_from_dict(values)


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    packaged = resources.files("train") / "recipes"
    return sorted(Path(entry.name).stem for entry in packaged.iterdir())


def _read(name_or_path: str | Path) -> dict[str, Any]:
    names = packaged_recipes()
    try:
        if name_or_path in names:
            packaged = resources.files("train") / "recipes" / f"{name_or_path}.toml"
            return tomllib.loads(packaged.read_text("utf-8"))
        return tomllib.loads(Path(name_or_path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no recipe {str(name_or_path)!r}: give a TOML file, or one of {names}"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name_or_path} is not valid TOML: {error}") from error


def recipe_from_dict(values: dict[str, Any]) -> TrainConfig:
    """Build and check a recipe from plain values."""
    sections: dict[str, Any] = {}
    kinds = get_type_hints(TrainConfig)
    _check_keys("recipe", values, TrainConfig)
    for name, table in values.items():
        if kinds[name] is CodecConfig:
            sections[name] = CodecConfig.from_dict(table)
        else:
            sections[name] = _section(name, table, kinds[name])
    return TrainConfig(**sections)


def to_toml(recipe: TrainConfig) -> str:
    """The recipe as text that `load_recipe` reads, every value written out."""
    lines = []
    for name, table in dataclasses.asdict(recipe).items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _override(values: dict[str, Any], text: str) -> None:
    """Set what ``section.key=value`` says, where the value is TOML or else a string."""
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    _require(
        bool(equals and dot and key),
        f"cannot set {text!r}: write section.key=value, as optimizer.lr=3e-4",
    )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table = values.setdefault(section, {})
    _require(isinstance(table, dict), f"{section} must be a table")
    outer, dot, inner = key.partition(".")
    if dot:  # one entry of a table within the section, as data.class_weights.music
        table, key = table.setdefault(outer, {}), inner
        _require(isinstance(table, dict), f"{section}.{outer} must be a table")
    table[key] = parsed


def _section(name: str, values: Any, kind: Any) -> Any:
    _require(isinstance(values, dict), f"{name} must be a table")
    _check_keys(name, values, kind)
    hints = get_type_hints(kind)
    return kind(**{key: _value(f"{name}.{key}", values[key], hints[key]) for key in values})


def _value(name: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind``, one of the types that the sections above are made of."""
    if kind is bool:
        _require(isinstance(value, bool), f"{name} must be true or false")
        return value
    if kind is int:
        _require(isinstance(value, int) and _is_number(value), f"{name} must be a whole number")
        return value
    if kind is float:
        _require(_is_number(value), f"{name} must be a number")
        return float(value)
    if kind is str:
        _require(isinstance(value, str), f"{name} must be a string")
        return value
    if kind == dict[str, float]:
        _require(isinstance(value, dict), f"{name} must be a table of numbers")
        return {key: _value(f"{name}.{key}", number, float) for key, number in value.items()}
    item = {tuple[float, ...]: float, tuple[int, ...]: int, tuple[str, ...]: str}[kind]
    _require(isinstance(value, list), f"{name} must be a list")
    return tuple(_value(f"every item of {name}", each, item) for each in value)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) < 2**53  # and so neither infinite nor NaN


def _check_keys(where: str, values: dict[str, Any], kind: Any) -> None:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(fields)}"
            raise ConfigError(f"unknown key {key!r} in {where}: {hint}")
    for key, needed in fields.items():
        has_default = (
            needed.default is not dataclasses.MISSING
            or needed.default_factory is not dataclasses.MISSING
        )
        _require(key in values or has_default, f"{where} lacks the key {key!r}")


def _at_least(name: str, value: float, least: int) -> None:
    what = "must not be negative" if least == 0 else f"must be at least {least}"
    _require(value >= least, f"{name} {what}")


def _share(name: str, value: float) -> None:
    _require(0 <= value <= 1, f"{name} must lie in 0..1")


def _range(name: str, value: tuple[float, ...]) -> tuple[float, ...]:
    _require(len(value) == 2 and value[0] <= value[1], f"{name} must be [low, high]")
    return value


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}: it must be one of {', '.join(known)}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
