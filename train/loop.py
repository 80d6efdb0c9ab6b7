"""The training loop, top to bottom: `fit` calls `train_step`, now and then `validate`."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from codec.errors import CodecError, ModelError
from codec.folder import write_atomically
from codec.model import Codec
from codec.store import load_codec, save_codec
from train.checkpoint import TrainState, load_checkpoint, save_checkpoint
from train.config import TrainConfig
from train.data import Corpus, validation_clips
from train.index import scan
from train.losses import SpectralLosses, waveform_loss
from train.metrics import code_histogram, perplexity, si_sdr
from train.start import start_transparent

logger = logging.getLogger(__name__)

USAGE_DECAY = 0.98
# A code used less than this share of the average is dead. Speech is not uniform: 0.1 would
# restart codes that are merely rare.
DEAD_BELOW = 0.03


class TrainingError(CodecError):
    """The run cannot go on: the message says what to change."""


EXPLODED = "resume from the last checkpoint, if there is one, with a lower optimizer.lr"


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: a number of steps, or minutes of training steps if given."""

    steps: int
    minutes: float | None = None

    def progress(self, state: TrainState) -> float:
        """Share of the run that is done, in [0, 1]; the schedules follow it."""
        if self.minutes is None:
            return min(1.0, state.step / self.steps)
        return min(1.0, state.seconds / (60 * self.minutes))


def start(recipe: TrainConfig, initial_model: str | None = None) -> TrainState:
    """A fresh state: seeded weights, or those of an existing model of the same shape."""
    torch.manual_seed(recipe.run.seed)
    codec = Codec(recipe.model)
    if recipe.model.lapped_transform:
        start_transparent(codec)
    if initial_model is not None:
        source = load_codec(initial_model)
        if source.config != recipe.model:
            raise ModelError(f"model {initial_model!r} has another shape than the recipe's [model]")
        codec.load_state_dict(source.state_dict())
    # Matrices decay; codes, biases and norms would lose what they stand for.
    named = dict(codec.named_parameters())
    decays = {n for n, p in named.items() if p.ndim > 1 and not n.endswith("codebook")}
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for n, p in named.items() if n in decays],
                "weight_decay": recipe.optimizer.weight_decay,
            },
            {"params": [p for n, p in named.items() if n not in decays], "weight_decay": 0.0},
        ],
        lr=recipe.optimizer.lr,
        betas=(recipe.optimizer.betas[0], recipe.optimizer.betas[1]),
        fused=True,
    )
    usage = torch.ones(recipe.model.num_codebooks, recipe.model.codebook_size)
    average = copy.deepcopy(codec).requires_grad_(False)
    return TrainState(codec, average, optimizer, usage, fine_tuned=initial_model is not None)


def fit(
    recipe: TrainConfig,
    data: Path,
    out: Path,
    *,
    valid: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    initial_model: str | None = None,
) -> Path:
    """Train a codec on a folder of audio.

    Args:
        recipe: the recipe, from `load_recipe`.
        data: folder of training audio.
        out: folder for ``model/`` (ready for `load_codec`), ``checkpoint.safetensors`` and
            ``log.jsonl``.
        valid: folder of other audio to measure on; without it the training loss is all there is.
        minutes: budget of time spent in training steps (loading, validation and checkpoints come
            on top); the learning rate ends annealed when it does.
        resume: go on from the checkpoint in ``out``.
        initial_model: start from the weights of this model.

    Returns:
        The model folder.
    """
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{checkpoint} exists: resume it with --resume or give another --out")
    if resume and initial_model is not None:
        raise TrainingError("--resume goes on with its own weights: leave out --init")
    budget = Budget(recipe.run.steps, minutes)
    state = start(recipe, initial_model)
    if resume:
        load_checkpoint(state, checkpoint)
    clips = []
    if valid is not None:
        clips = validation_clips(scan(valid), recipe)
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        cut_log(out / "log.jsonl", state.step)
    corpus = Corpus(scan(data, out / "training" / "index.json"), recipe)
    logger.info("training on %.2f hours of audio", corpus.hours)
    losses = SpectralLosses(recipe.model.sample_rate)

    def finish_interval() -> None:
        save_checkpoint(state, checkpoint)
        save_codec(state.average, out / "model", name=out.name)

    bar = tqdm(total=100, desc="training", unit="%", disable=None)
    frames = recipe.data.batch_size * recipe.data.crop_frames
    audio_seconds = float(frames / recipe.model.frame_rate)
    while budget.progress(state) < 1:
        began = time.perf_counter()
        report = train_step(state, recipe, corpus, losses, budget.progress(state))
        state.seconds += time.perf_counter() - began
        bar.n = round(100 * budget.progress(state), 1)
        rate = audio_seconds / (time.perf_counter() - began)
        bar.set_postfix_str(
            f"step {state.step}, loss {report['total']:.3f}, {rate:.0f} x real time"
        )
        if state.step % recipe.run.validate_every == 0 or budget.progress(state) >= 1:
            report |= {"step": state.step, "seconds": state.seconds}
            report |= validate(state.average, clips, losses) if clips else {}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps({k: round(v, 5) for k, v in report.items()}) + "\n")
            bar.write(_summary(report))
        if state.step % recipe.run.checkpoint_every == 0:
            finish_interval()
    bar.close()
    finish_interval()
    return out / "model"


def train_step(
    state: TrainState,
    recipe: TrainConfig,
    corpus: Corpus,
    spectral: SpectralLosses,
    progress: float,
) -> dict[str, float]:
    """One optimizer step on one batch; updates ``state`` and returns the losses by name."""
    # All randomness of this step follows from the seed and its number: resuming is exact.
    rng = np.random.default_rng((recipe.run.seed, state.step))
    torch.manual_seed(int(rng.integers(2**62)))
    crop = recipe.data.crop_frames * recipe.model.hop_length
    if state.step == recipe.quantizer.start_step and not state.fine_tuned:
        initialize_codebooks(state, lambda: corpus.batch(rng).degraded, recipe.model.codebook_size)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, state.step, progress)

    degraded, audio = corpus.batch(rng)
    codec = state.codec
    half = torch.autocast("cpu", torch.bfloat16, enabled=recipe.run.precision == "bf16")
    with half:
        latent = codec.encode_latent(degraded)
    quantized_latent, terms = latent, {}
    if state.fine_tuned or state.step >= recipe.quantizer.start_step:
        kept = draw_num_codebooks(recipe, rng)
        quantized = codec.quantizer(latent, kept)
        quantized_latent = quantized.latent
        terms = {"codebook": quantized.codebook_loss, "commitment": quantized.commitment_loss}
        if progress < recipe.quantizer.restart_until:
            restart_dead_codes(state, recipe, latent.detach(), quantized.codes)
    with half:
        decoded = codec.decode_latent(quantized_latent, crop).float()

    windows = rng.choice(spectral.windows, recipe.loss.windows_per_step, replace=False)
    terms |= spectral(decoded, audio, tuple(int(window) for window in windows))
    terms["waveform"] = waveform_loss(decoded, audio)
    total = torch.stack([getattr(recipe.loss, name) * term for name, term in terms.items()]).sum()
    if not total.isfinite():
        raise TrainingError(f"the loss is {total.item()} at step {state.step + 1}: {EXPLODED}")
    state.optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(codec.parameters(), recipe.optimizer.max_grad_norm)
    if not norm.isfinite():
        raise TrainingError(f"the gradient is {norm.item()} at step {state.step + 1}: {EXPLODED}")
    state.optimizer.step()
    state.step += 1
    # Early on an average over many steps would mostly remember the random start.
    decay = min(recipe.optimizer.average_decay, state.step / (state.step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.parameters()), list(codec.parameters()), 1 - decay)
    return {name: term.item() for name, term in {"total": total, **terms}.items()}


@torch.inference_mode()
def validate(
    codec: Codec, clips: list[tuple[str, Tensor]], spectral: SpectralLosses
) -> dict[str, float]:
    """SI-SDR and mel distance at a quarter, half and all of the codebooks; use of each codebook."""
    config = codec.config
    report: dict[str, float] = {}
    histogram = torch.zeros(config.num_codebooks, config.codebook_size)
    codes = {name: codec.encode(audio) for name, audio in clips}
    for name, _ in clips:
        histogram += code_histogram(codes[name], config.codebook_size)
    for count in sorted({max(1, config.num_codebooks // part) for part in (4, 2, 1)}):
        sdr, mel = [], []
        for name, audio in clips:
            decoded = codec.decode(codes[name][:, :count], audio.shape[-1])
            sdr.append(si_sdr(decoded, audio))
            mel.append(float(spectral(decoded, audio)["mel"]))
        report |= {f"si_sdr_{count}": float(np.mean(sdr)), f"mel_{count}": float(np.mean(mel))}
    effective = perplexity(histogram)
    report |= {f"perplexity_{i}": float(value) for i, value in enumerate(effective)}
    return report


def learning_rate(recipe: TrainConfig, step: int, progress: float) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    peak, final = recipe.optimizer.lr, recipe.optimizer.final_lr
    warmup = min(1.0, (step + 1) / (recipe.optimizer.warmup_steps + 1))
    return warmup * (final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def draw_num_codebooks(recipe: TrainConfig, rng: np.random.Generator) -> Tensor:
    """How many codebooks each crop keeps: all, or with the dropout's chance any number."""
    total, batch = recipe.model.num_codebooks, recipe.data.batch_size
    dropped = rng.random(batch) < recipe.quantizer.dropout
    return torch.from_numpy(np.where(dropped, rng.integers(1, total + 1, batch), total))


@torch.no_grad()
def initialize_codebooks(state: TrainState, draw: Callable[[], Tensor], codebook_size: int) -> None:
    """Start the quantizer from the latents of a few batches."""
    latents: list[Tensor] = []
    while sum(map(len, latents)) < 32 * codebook_size:
        latents.append(state.codec.encode_latent(draw()).flatten(0, 1))
    state.codec.quantizer.initialize(torch.cat(latents))
    state.average.load_state_dict(state.codec.state_dict())


@torch.no_grad()
def restart_dead_codes(
    state: TrainState, recipe: TrainConfig, latent: Tensor, codes: Tensor
) -> None:
    """Count the use of codes; every so often replace the dead ones from the current batch."""
    histogram = code_histogram(codes, recipe.model.codebook_size)
    state.usage.mul_(USAGE_DECAY).add_(histogram, alpha=1 - USAGE_DECAY)
    if (state.step + 1) % recipe.quantizer.restart_every == 0:
        average = state.usage.mean(dim=1, keepdim=True)
        dead = state.usage < DEAD_BELOW * average
        state.codec.quantizer.restart(latent, dead)
        # A restarted code gets the average, so that it has time to find its place.
        state.usage = torch.where(dead, average, state.usage)


def cut_log(path: Path, step: int) -> None:
    """Drop what an interrupted run logged after the checkpoint that it resumes from."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())


def _summary(report: dict[str, float]) -> str:
    shown = {k: v for k, v in report.items() if not k.startswith("perplexity")}
    text = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
    used = [value for name, value in report.items() if name.startswith("perplexity")]
    return f"{text}, perplexity {min(used):.0f} to {max(used):.0f}" if used else text
