"""`TrainConfig`: a training recipe as frozen dataclasses, one per section of its TOML file.

Each field has its description and its range beside it. Values that depend on each other are checked
where they meet: within a section in its ``__post_init__``, between sections in `TrainConfig`.
Settings that most runs leave out have a default; settings that shape every run must be given.
`train.recipe.loading` reads recipes from files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from codec.config import CodecConfig
from codec.errors import ConfigError
from codec.evaluation.mel import MEL_WINDOWS
from codec.settings import Setting, check_settings, setting, settings_of
from train.objective.losses import LOSSES

PARTS = ("encoder", "quantizer", "decoder")
METRICS = {"mel": min, "si_sdr": max, "stoi": max}
"""Metrics that select the best model, measured at the top bitrate, and which way is better."""

LARGEST_SEED = 2**53 - 1

Section = TypeVar("Section")


def with_loss_weights(section: type[Section]) -> type[Section]:
    """Give a section one field per line of the table of losses: its weight."""
    for loss in LOSSES.values():
        described = setting(f"weight of the {loss.name} loss: {loss.sees}", low=0)
        default = dataclasses.MISSING if loss.required else 0.0
        setattr(section, loss.name, field(default=default, metadata=described))
        section.__annotations__[loss.name] = float
    return section


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Random crops of the training audio, and recordings for validation.

    The class of a file is the folder that it is in, or else its name up to the first underscore.
    A corpus takes 0.17 GB of memory per hour at 24 kHz (16-bit, at the model's rate).

    Example:
        >>> DataConfig(crop_frames=24, batch_size=4).validation_files
        16
    """

    crop_frames: int = field(metadata=setting("length of a crop, in codec frames", 1))
    run_in_frames: int = field(
        default=0,
        metadata=setting(
            "frames at the start of a crop that the losses do not see: they fill the states", 0
        ),
    )
    batch_size: int = field(metadata=setting("crops per step, on each device", 1))
    class_weights: dict[str, float] = field(
        default_factory=dict,
        metadata=setting("how often a class is drawn relative to its duration; 1 if not named", 0),
    )
    manifest: str = field(
        default="",
        metadata=setting(
            "CSV file in the data folder with the columns file, speaker and bandwidth_hz; none if "
            "empty"
        ),
    )
    speaker_balance: float = field(
        default=1.0,
        metadata=setting(
            "power of a speaker's duration by which it is drawn: 0 for all equally often",
            0,
            1,
        ),
    )
    wide_weight: float = field(
        default=1.0,
        metadata=setting("how much more often recordings that reach 10 kHz are drawn", above=0),
    )
    workers: int = field(
        default=0, metadata=setting("processes that prepare batches during training", 0)
    )
    memory_gb: float = field(
        default=4.0,
        metadata=setting(
            "largest decoded corpus that is kept in memory instead of read by crop", 0
        ),
    )
    validation_files: int = field(
        default=16, metadata=setting("largest number of recordings to validate on", 1)
    )
    validation_seconds: float = field(
        default=5.0, metadata=setting("length of the beginning of each that is used", 0)
    )

    def __post_init__(self) -> None:
        check_settings(self, "data")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of crops. A share is a probability per crop; ranges are drawn from uniformly.

    The settings up to ``high_pass`` change input and target: recordings differ in these ways,
    and the codec has to carry what it gets. The others degrade the input while the target stays
    clean, so that the codec learns to enhance what it codes.

    Example:
        >>> AugmentConfig(mix=1.5)
        Traceback (most recent call last):
            ...
        codec.errors.ConfigError: augment.mix is 1.5: it must lie in 0..1
    """

    gain_db: tuple[float, ...] = field(
        default=(0.0, 0.0), metadata=setting("range of a crop's gain", length=2)
    )
    polarity: bool = field(default=True, metadata=setting("flip the sign of half of the crops"))
    resample: float = field(
        default=0.0,
        metadata=setting("largest change of speed and pitch, 0.05 for 5 %", 0, 0.5),
    )
    # High-quality recordings contain hardly any stationary noise, and a codec decodes as tones
    # what it never saw in training.
    stationary_noise: float = field(
        default=0.0,
        metadata=setting("share of crops replaced by stationary coloured noise", 0, 1),
    )
    mix: float = field(
        default=0.0, metadata=setting("share of crops to which another crop is added", 0, 1)
    )
    mix_snr_db: tuple[float, ...] = field(
        default=(),
        metadata=setting(
            "range of the ratio of a crop to the crop that is added; as recorded if empty",
            length=(0, 2),
        ),
    )
    tones: float = field(
        default=0.0,
        metadata=setting(
            "share of crops replaced by telephone keys, sweeps, chords, whistles or clicks", 0, 1
        ),
    )
    room_share: float = field(
        default=0.0, metadata=setting("share of crops put into a room, target included", 0, 1)
    )
    floor_share: float = field(
        default=0.0, metadata=setting("share of crops with stationary noise below them", 0, 1)
    )
    floor_snr_db: tuple[float, ...] = field(
        default=(10.0, 40.0),
        metadata=setting("range of the ratio of a crop to this noise", length=2),
    )
    telephone_share: float = field(
        default=0.0, metadata=setting("share of crops as from a telephone line", 0, 1)
    )
    transcode_share: float = field(
        default=0.0, metadata=setting("share of crops that were MP3, Vorbis or Opus before", 0, 1)
    )
    limit_share: float = field(
        default=0.0, metadata=setting("share of crops limited to full scale before the gain", 0, 1)
    )
    limit_db: tuple[float, ...] = field(
        default=(0.0, 18.0),
        metadata=setting("range of their peaks' excess over full scale", 0, length=2),
    )
    high_pass: bool = field(
        default=False,
        metadata=setting("filter rumble out of input and target, as sessions do before coding"),
    )
    noise: str = field(default="", metadata=setting("folder of noise to add; none if empty"))
    noise_share: float = field(
        default=0.8, metadata=setting("share of crops with noise from the folder", 0, 1)
    )
    noise_snr_db: tuple[float, ...] = field(
        default=(0.0, 20.0), metadata=setting("range of the signal-to-noise ratio", length=2)
    )
    reverb_share: float = field(
        default=0.0, metadata=setting("share of crops with reverberation", 0, 1)
    )
    reverb_seconds: tuple[float, ...] = field(
        default=(0.1, 0.8),
        metadata=setting(
            "range of the reverberation time (60 dB) of synthetic rooms", above=0, length=2
        ),
    )
    impulse_responses: str = field(
        default="",
        metadata=setting("folder of recorded impulse responses to use instead of synthetic ones"),
    )
    clip_share: float = field(default=0.0, metadata=setting("share of clipped crops", 0, 1))
    clip_db: tuple[float, ...] = field(
        default=(3.0, 15.0),
        metadata=setting("range of the peaks' excess over the clipping limit", length=2),
    )
    band_limit_share: float = field(
        default=0.0, metadata=setting("share of crops that lose their high frequencies", 0, 1)
    )
    band_limit_hz: tuple[float, ...] = field(
        default=(2000.0, 8000.0),
        metadata=setting("range of the highest frequency that is kept", above=0, length=2),
    )

    def __post_init__(self) -> None:
        check_settings(self, "augment")
        for name in (
            "gain_db",
            "mix_snr_db",
            "floor_snr_db",
            "limit_db",
            "noise_snr_db",
            "reverb_seconds",
            "clip_db",
            "band_limit_hz",
        ):
            limits = getattr(self, name)
            if len(limits) == 1 or list(limits) != sorted(limits):
                raise ConfigError(f"augment.{name} is {list(limits)}: it must be [low, high]")


@dataclass(frozen=True, kw_only=True)
@with_loss_weights
class LossConfig:
    """Weights of the losses.

    Besides the settings below there is one weight per line of `train.objective.losses.LOSSES`.

    Example:
        >>> from train.recipe.loading import load_recipe
        >>> loss = load_recipe("tiny").loss
        >>> loss.reconstruction["mel"], loss.reconstruction["level"]
        (1.0, 0.0)
    """

    codebook: float = field(
        metadata=setting("weight that pulls code vectors towards the latents", 0)
    )
    commitment: float = field(
        metadata=setting("weight that pulls latents towards their code vectors", 0)
    )
    pitch: float = field(
        default=0.02,
        metadata=setting("weight of the pitch of a decoder with a second synthesis stage", 0),
    )
    kl: float = field(
        default=1e-3, metadata=setting("weight of the divergence of a VAE's latents", 0)
    )
    windows_per_step: int = field(
        metadata=setting("spectral windows drawn per step", 1, len(MEL_WINDOWS))
    )
    balancer: bool = field(
        default=False,
        metadata=setting("weights are shares of the gradient at the audio instead of factors"),
    )

    def __post_init__(self) -> None:
        check_settings(self, "loss")

    @property
    def reconstruction(self) -> dict[str, float]:
        """Weight of every loss of the table, by name."""
        return {name: getattr(self, name) for name in LOSSES}


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The optional adversarial stage (`train.objective.discriminators`); off at a weight of zero.

    The codec's adversarial losses start ``generator_delay`` steps after the discriminators, because
    untrained discriminators mislead the codec. Pretrained discriminators need no delay.
    """

    weight: float = field(
        default=0.0, metadata=setting("weight of the codec's adversarial loss", 0)
    )
    feature_weight: float = field(default=2.0, metadata=setting("weight of feature matching", 0))
    loss: str = field(
        default="hinge",
        metadata=setting("kind of adversarial loss", choices=("hinge", "least_squares")),
    )
    start_step: int = field(
        default=0, metadata=setting("step from which discriminators are trained", 0)
    )
    generator_delay: int = field(
        default=500,
        metadata=setting("steps of the discriminators before the codec's adversarial losses", 0),
    )
    lr: float = field(
        default=1e-3,
        metadata=setting("highest learning rate of the discriminators, on the schedule", above=0),
    )
    precision: str = field(
        default="fp32",
        metadata=setting(
            "bf16: discriminators in bfloat16, on a CPU worth it with avx512_bf16 or amx",
            choices=("fp32", "bf16"),
        ),
    )
    # The gradients of the losses that compare with the original are much longer than those of the
    # discriminators in some crops and much shorter in others.
    share: float = field(
        default=0.0,
        metadata=setting(
            "length of the adversarial gradient at the audio relative to that of the other losses, "
            "crop by crop; 0 adds the losses by their weights instead",
            0,
        ),
    )
    channels: int = field(
        default=48, metadata=setting("width of each discriminator's first layer", 1, 1024)
    )
    stft_windows: tuple[int, ...] = field(
        default=(2048, 1024, 512, 256),
        metadata=setting("windows of the complex STFT discriminators, up to a crop", 16),
    )
    periods: tuple[int, ...] = field(
        default=(),
        metadata=setting("periods of the multi-period discriminators", 1, 1000),
    )

    def __post_init__(self) -> None:
        check_settings(self, "adversarial")
        if self.weight and not (self.stft_windows or self.periods):
            raise ConfigError(
                f"adversarial.weight is {self.weight}: it needs stft_windows or periods"
            )


@dataclass(frozen=True, kw_only=True)
class RegularizationConfig:
    """What keeps latents smooth, sparse or robust; all off by default.

    Weight decay is a setting of the optimizer.
    """

    latent_noise: float = field(
        default=0.0,
        metadata=setting("standard deviation of noise on the decoder's input (RMS at most 1)", 0),
    )
    dropout: float = field(
        default=0.0,
        metadata=setting(
            "probability that a channel of the decoder's input is zero for a crop", 0, below=1
        ),
    )
    sparsity: float = field(
        default=0.0,
        metadata=setting("weight of the mean absolute latent before quantization", 0),
    )

    def __post_init__(self) -> None:
        check_settings(self, "regularization")


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """Initialisation and upkeep of the codebooks."""

    start_step: int = field(
        metadata=setting("first quantized step; codebooks are initialised from its latents", 0)
    )
    dropout: float = field(
        metadata=setting("share of crops coded with a random number of codebooks", 0, 1)
    )
    frame_dropout: float = field(
        default=0.0,
        metadata=setting("share of these crops whose number of codebooks varies over time", 0, 1),
    )
    restart_every: int = field(metadata=setting("steps between restarts of dead codes", 1))
    # Afterwards the averaged weights average codes that stay where they are.
    restart_until: float = field(
        metadata=setting("share of the run after which codes are not restarted", 0, 1)
    )

    def __post_init__(self) -> None:
        check_settings(self, "quantizer")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a warm-up and a schedule, and a running average of the weights.

    Schedules: ``cosine`` and ``exponential`` fall from ``lr`` to ``final_lr`` over the run;
    ``cooldown`` keeps ``lr`` until shortly before the end and then falls as one minus a square root
    (Hägele et al., arXiv:2405.18392), so that a run can be prolonged later; ``plateau`` halves the
    rate whenever the metric of `RunConfig` stops improving.

    With the encoder and the quantizer frozen, all existing streams stay valid.
    """

    lr: float = field(
        metadata=setting("highest learning rate, reached after a linear warm-up", above=0)
    )
    final_lr: float = field(metadata=setting("last learning rate", 0))
    betas: tuple[float, ...] = field(
        metadata=setting("decay of AdamW's two moments", 0, below=1, length=2)
    )
    weight_decay: float = field(
        metadata=setting("decay of matrices; codebooks, biases and norms do not decay", 0)
    )
    warmup_steps: int = field(metadata=setting("steps until the highest learning rate", 0))
    max_grad_norm: float = field(
        metadata=setting("longer gradients are scaled down to this norm", above=0)
    )
    average_decay: float = field(
        metadata=setting("decay of the average of the weights, which is saved", 0, below=1)
    )
    schedule: str = field(
        default="cosine",
        metadata=setting(
            "course of the learning rate", choices=("cosine", "exponential", "cooldown", "plateau")
        ),
    )
    cooldown: float = field(
        default=0.2,
        metadata=setting("share of the run in which the cooldown schedule falls", high=1, above=0),
    )
    plateau_patience: int = field(
        default=5,
        metadata=setting("validations without improvement before the plateau schedule halves", 1),
    )
    freeze: tuple[str, ...] = field(
        default=(), metadata=setting("parts that keep their weights", choices=PARTS)
    )

    def __post_init__(self) -> None:
        check_settings(self, "optimizer")
        if self.final_lr > self.lr:
            raise ConfigError(
                f"optimizer.final_lr is {self.final_lr}: it must not exceed optimizer.lr, {self.lr}"
            )
        if self.schedule == "exponential" and not self.final_lr:
            raise ConfigError(
                "optimizer.final_lr is 0: the exponential schedule needs one above zero"
            )
        if set(self.freeze) == set(PARTS):
            raise ConfigError("optimizer.freeze leaves nothing to train: name two parts at most")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Length of the run, validation and checkpoints.

    ``--minutes`` replaces ``steps`` by a wall-clock budget, to which the schedule adapts. Other
    settings that count steps (the warm-up, the start of the discriminators) stay as they are.
    """

    steps: int = field(metadata=setting("optimizer steps", 1))
    validate_every: int = field(metadata=setting("steps between validations", 1))
    checkpoint_every: int = field(
        metadata=setting("steps between checkpoints, which save the model too", 1)
    )
    keep_checkpoints: int = field(
        default=2, metadata=setting("number of recent checkpoints that are kept", 1)
    )
    metric: str = field(
        default="mel",
        metadata=setting("metric that selects the best model, at the top bitrate", choices=METRICS),
    )
    early_stop: int = field(
        default=0,
        metadata=setting("validations without improvement that end the run; 0 for never", 0),
    )
    seed: int = field(
        metadata=setting("seed of all random draws, see train.randomness", 0, LARGEST_SEED)
    )
    precision: str = field(
        metadata=setting("bf16: encoder and decoder in bfloat16", choices=("fp32", "bf16"))
    )

    def __post_init__(self) -> None:
        check_settings(self, "run")


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """The context model of the entropy coder (`codec.entropy.context`), fitted after the codec."""

    steps: int = field(
        default=0, metadata=setting("steps at the end of a run; 0 for no context model", 0)
    )
    lr: float = field(default=2e-3, metadata=setting("highest learning rate", above=0))
    entry_dim: int = field(default=12, metadata=setting("numbers that stand for a code", 1, 64))
    # Sums of at most twice the width are exact.
    width: int = field(
        default=160, metadata=setting("channels of the convolutions over past frames", 1, 256)
    )
    hidden: int = field(default=64, metadata=setting("hidden units of each codebook", 1, 256))
    dilations: tuple[int, ...] = field(
        default=(1, 2, 4, 8),
        metadata=setting("frames between the two taps of each convolution", 1, 100),
    )

    def __post_init__(self) -> None:
        check_settings(self, "context")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole recipe. Build it with `train.recipe.loading.load_recipe`."""

    model: CodecConfig
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig
    adversarial: AdversarialConfig = AdversarialConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    quantizer: QuantizerConfig
    optimizer: OptimizerConfig
    context: ContextConfig = ContextConfig()
    run: RunConfig

    def __post_init__(self) -> None:
        if self.model.channels > 1:
            raise ConfigError(
                f"model.channels is {self.model.channels}: recordings are mixed down to mono for "
                "training, give 1"
            )
        shortest = max(MEL_WINDOWS)
        if self.heard_samples <= shortest // 2:
            raise ConfigError(
                f"data.crop_frames and run_in_frames give crops of {self.heard_samples} samples "
                f"after the run-in: the spectral losses need more than {shortest // 2}"
            )
        if self.data.validation_seconds * self.model.sample_rate <= shortest:
            raise ConfigError(
                f"data.validation_seconds is {self.data.validation_seconds}: it must give more "
                f"than {shortest} samples"
            )
        for window in self.adversarial.stft_windows:
            if window > self.heard_samples:
                raise ConfigError(
                    f"adversarial.stft_windows holds {window}: it must lie in "
                    f"16..{self.heard_samples}, the length of a crop after the run-in"
                )

    @property
    def crop_samples(self) -> int:
        """Length of a crop in samples."""
        return self.data.crop_frames * self.model.hop_length

    @property
    def heard_samples(self) -> int:
        """Length of the part of a crop that the losses see, in samples."""
        return (self.data.crop_frames - self.data.run_in_frames) * self.model.hop_length


def described_settings() -> Iterator[tuple[str, str, Setting, object]]:
    """Section, key, description with range, and default of every setting of a recipe but [model].

    The default is `dataclasses.MISSING` where a value must be given.

    Example:
        >>> next(described_settings())[:2]
        ('data', 'crop_frames')
    """
    for section, kind in SECTIONS.items():
        defaults = {each.name: each.default for each in dataclasses.fields(kind)}
        for key, described in settings_of(kind).items():
            yield section, key, described, defaults[key]


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "augment": AugmentConfig,
    "loss": LossConfig,
    "adversarial": AdversarialConfig,
    "regularization": RegularizationConfig,
    "quantizer": QuantizerConfig,
    "optimizer": OptimizerConfig,
    "context": ContextConfig,
    "run": RunConfig,
}
"""The sections that `TrainConfig` has besides ``[model]``."""
