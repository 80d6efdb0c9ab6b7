"""One optimizer step: codec, losses, discriminators, gradients, codebooks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from codec.errors import CodecError
from codec.network.bottleneck import Quantizer
from codec.quality.metrics import code_histogram
from train.data.batches import Batch, Corpus
from train.objective.balancer import Balancer, audio_gradients, combine, gradient_shares
from train.objective.discriminators import (
    Judgement,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from train.objective.losses import (
    SpectralLosses,
    level_loss,
    match_level,
    tonality_loss,
    waveform_loss,
)
from train.recipe.sections import RECONSTRUCTION, TrainConfig
from train.run.autoencoder import Autoencoder, Reconstruction
from train.run.devices import share_tensors
from train.run.schedule import learning_rate
from train.run.state import TrainState

USAGE_DECAY = 0.98
# A code used less than this share of the average is dead. Speech is not uniform: 0.1 would
# restart codes that are merely rare.
DEAD_BELOW = 0.03

# Latents that codebooks start from: enough of each entry to be a mean, in all what fits memories.
STARTS_PER_ENTRY = 32
MAX_STARTS = 2**17

# Spectra begin at up to this sample of a crop: frames half a window apart, elsewhere in every step,
# see as much as denser ones.
MAX_SHIFT = 1024
HOPS = 2

# The longest gradient of an item, relative to the median of the batch.
LOUDEST_ITEM = 2.0

LOSS_DECAY = 0.99
# A loss so many times its running mean is no accident any more if it lasts so many steps. A single
# crop may do that to one batch; its gradient is bounded, and teaches not to do it again.
EXPLOSION = 30.0
EXPLODING_STEPS = 10


class TrainingError(CodecError):
    """The run cannot go on: the message says what to change."""


@dataclass
class Trainer:
    """What a step needs beside the batch.

    Attributes:
        recipe: settings.
        fabric: device, precision, processes.
        state: all that changes.
        corpus: for the first codebooks.
        spectral: losses on spectra.
        balancer: weights of the losses that judge decoded audio.
        autoencoder: ``state.codec`` as Fabric runs it.
        optimizer: ``state.optimizer`` likewise.
        judges: ``state.discriminators`` likewise.
        judge_optimizer: ``state.discriminator_optimizer`` likewise.
        exploding_steps: how many steps in a row the loss was far from what it was.
    """

    recipe: TrainConfig
    fabric: Fabric
    state: TrainState
    corpus: Corpus
    spectral: SpectralLosses
    balancer: Balancer
    autoencoder: nn.Module
    optimizer: torch.optim.Optimizer
    judges: nn.Module | None = None
    judge_optimizer: torch.optim.Optimizer | None = None
    exploding_steps: int = 0


def set_up(recipe: TrainConfig, fabric: Fabric, state: TrainState, corpus: Corpus) -> Trainer:
    """Put everything where Fabric wants it."""
    autoencoder, optimizer = fabric.setup(Autoencoder(state.codec, recipe), state.optimizer)
    state.average.to(fabric.device)
    state.usage = state.usage.to(fabric.device)
    judges, judge_optimizer = None, None
    if state.discriminators is not None and state.discriminator_optimizer is not None:
        judges, judge_optimizer = fabric.setup(state.discriminators, state.discriminator_optimizer)
    weights = {name: getattr(recipe.loss, name) for name in RECONSTRUCTION}
    weights |= {
        "adversarial": recipe.adversarial.weight,
        "feature": recipe.adversarial.feature_weight,
    }
    return Trainer(
        recipe=recipe,
        fabric=fabric,
        state=state,
        corpus=corpus,
        spectral=SpectralLosses(recipe.model.sample_rate).to(fabric.device),
        balancer=Balancer(weights, reduce=lambda norms: _as_tensor(fabric.all_reduce(norms))),
        autoencoder=autoencoder,
        optimizer=optimizer,
        judges=judges,
        judge_optimizer=judge_optimizer,
    )


def train_step(
    trainer: Trainer, batch: Batch, progress: float, *, with_shares: bool = False
) -> dict[str, float]:
    """One optimizer step on one batch.

    Args:
        trainer: its state is changed.
        batch: of this process.
        progress: share of the run that is done.
        with_shares: tell how much each loss has to say, which costs some time.

    Returns:
        The losses by name, and ``loss``, their weighted sum; the norm of the gradient, and whether
        it was ``clipped``; with ``with_shares`` the share of the gradient at the audio by loss.

    Raises:
        TrainingError: a loss exploded; the codec was not changed by it.
    """
    recipe, state, fabric = trainer.recipe, trainer.state, trainer.fabric
    # All randomness of a step follows from the seed, the rank and its number: resuming is exact.
    rng = np.random.default_rng((recipe.run.seed, fabric.global_rank, state.step, 3))
    torch.manual_seed(int(rng.integers(2**62)))
    if state.step == recipe.quantizer.start_step and not state.fine_tuned:
        initialize_codebooks(trainer)
    quantized = state.fine_tuned or state.step >= recipe.quantizer.start_step
    rate = learning_rate(recipe, state.step, progress, state.monitor.halvings)
    _set_rate(trainer.optimizer, rate)

    degraded, clean = (audio.to(fabric.device) for audio in batch)
    output: Reconstruction = trainer.autoencoder(
        degraded,
        quantized=quantized,
        num_codebooks=draw_num_codebooks(recipe, rng).to(fabric.device),
    )
    # Gradients go first from the losses back to the audio, where they can be weighed, then on to
    # the weights: the graph is cut here.
    decoded = output.decoded.detach().requires_grad_()
    windows = rng.choice(trainer.spectral.windows, recipe.loss.windows_per_step, replace=False)
    begin = int(rng.integers(min(MAX_SHIFT, decoded.shape[-1] - max(windows) // 2)))
    matched = match_level(decoded, clean)
    on_audio = trainer.spectral(
        matched[..., begin:], clean[..., begin:], tuple(map(int, windows)), HOPS
    )
    on_audio["waveform"] = waveform_loss(matched, clean)
    on_audio["tonality"] = tonality_loss(matched, clean, recipe.model.sample_rate)
    on_audio["level"] = level_loss(decoded, clean)
    on_audio = {name: loss for name, loss in on_audio.items() if trainer.balancer.weights[name]}
    on_judges: dict[str, Tensor] = {}
    if trainer.judges is not None and state.step >= recipe.adversarial.start_step:
        judges_rate = rate * recipe.adversarial.lr / recipe.optimizer.lr
        on_judges["discriminator"] = train_judges(trainer, clean, decoded, judges_rate)
        waits = 0 if state.taught else recipe.adversarial.head_start
        if state.step >= recipe.adversarial.start_step + waits:
            on_audio |= ask_judges(trainer, clean, decoded)
    gradient, shares = weigh(trainer, on_audio, decoded, with_shares)
    gradient = limit_items(gradient)

    on_latent = {name: weight_of(recipe, name) * loss for name, loss in output.losses.items()}
    everything = on_audio | output.losses | on_judges
    # The mean over all processes, so that they agree on it, and on an explosion.
    means = _as_tensor(fabric.all_reduce(torch.stack(list(everything.values())).detach()))
    values = dict(zip(everything, means.tolist(), strict=True))
    values["loss"] = sum(trainer.balancer.weights[name] * values[name] for name in on_audio)
    values["loss"] += sum(weight_of(recipe, name) * values[name] for name in output.losses)
    check_explosion(trainer, values)
    trainer.optimizer.zero_grad()
    surrogate = (output.decoded * gradient).sum()
    fabric.backward(torch.stack([surrogate, *on_latent.values()]).sum())
    limit = recipe.optimizer.max_grad_norm
    norm = fabric.clip_gradients(
        trainer.autoencoder, trainer.optimizer, max_norm=limit, error_if_nonfinite=False
    )
    values["gradient_norm"] = float(_as_tensor(norm))
    values["clipped"] = float(values["gradient_norm"] > limit)
    if not np.isfinite(values["gradient_norm"]):
        raise TrainingError(_exploded(f"the gradient is {values['gradient_norm']}", trainer))
    trainer.optimizer.step()

    state.step += 1
    state.gradient_norms = trainer.balancer.state
    typical = values["loss"] if state.typical_loss is None else state.typical_loss
    bounded = min(values["loss"], EXPLOSION * typical)
    state.typical_loss = LOSS_DECAY * typical + (1 - LOSS_DECAY) * bounded
    may_restart = recipe.model.has_codes and "quantizer" not in recipe.optimizer.freeze
    if output.codes is not None and may_restart and progress < recipe.quantizer.restart_until:
        restart_dead_codes(trainer, output.latent, output.codes)
    # Early on an average over many steps would mostly remember the random start.
    decay = min(recipe.optimizer.average_decay, state.step / (state.step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.average.parameters()), list(state.codec.parameters()), 1 - decay
        )
    return values | {f"share_{name}": share for name, share in shares.items()}


def train_judges(trainer: Trainer, clean: Tensor, decoded: Tensor, rate: float) -> Tensor:
    """One step of the discriminators; their loss before it."""
    assert trainer.judges is not None and trainer.judge_optimizer is not None
    _set_rate(trainer.judge_optimizer, rate)
    # In one pass, since several processes can only follow one per step.
    both = [judgement.score for judgement in trainer.judges(torch.cat((clean, decoded.detach())))]
    real, made = zip(*(score.chunk(2) for score in both), strict=True)
    loss = discriminator_loss(
        [Judgement(score, []) for score in real],
        [Judgement(score, []) for score in made],
        trainer.recipe.adversarial.loss,
    )
    trainer.judge_optimizer.zero_grad()
    trainer.fabric.backward(loss)
    trainer.judge_optimizer.step()
    return loss.detach()


def ask_judges(trainer: Trainer, clean: Tensor, decoded: Tensor) -> dict[str, Tensor]:
    """The codec's losses against the discriminators as they are now."""
    # The plain module: gradients go to the audio and no further.
    judges = trainer.state.discriminators
    assert judges is not None
    with trainer.fabric.autocast():
        with torch.no_grad():
            real = judges(clean)
        made = judges(decoded)
    return {
        "adversarial": adversarial_loss(made, trainer.recipe.adversarial.loss).float(),
        "feature": feature_loss(real, made).float(),
    }


def weigh(
    trainer: Trainer, losses: dict[str, Tensor], decoded: Tensor, with_shares: bool
) -> tuple[Tensor, dict[str, float]]:
    """Gradient at the decoded audio of all losses that judge it, and each one's share of it."""
    balancer, balances = trainer.balancer, trainer.recipe.loss.balancer
    if not balances and not with_shares:
        weighted = [balancer.weights[name] * loss for name, loss in losses.items()]
        return torch.autograd.grad(torch.stack(weighted).sum(), decoded)[0], {}
    gradients = audio_gradients(losses, decoded)
    factors = balancer.factors(gradients) if balances else balancer.weights
    shares = gradient_shares(gradients, factors) if with_shares else {}
    return combine(gradients, factors), shares


def limit_items(gradient: Tensor) -> Tensor:
    """Let no item of a batch ``[B, 1, N]`` say more than `LOUDEST_ITEM` times what most say.

    Near silence logarithms are steep: a single silent crop would outweigh all others.
    """
    norms = gradient.flatten(1).norm(dim=1)
    limit = LOUDEST_ITEM * norms.median()
    factors = (limit / norms.clamp(min=1e-12)).clamp(max=1)
    limited: Tensor = gradient * factors[:, None, None]
    return limited


def weight_of(recipe: TrainConfig, name: str) -> float:
    """Weight of a loss that judges the latent or its codes."""
    section = recipe.regularization if name == "sparsity" else recipe.loss
    return float(getattr(section, name))


def draw_num_codebooks(recipe: TrainConfig, rng: np.random.Generator) -> Tensor:
    """How many codebooks each crop keeps: all, or with the dropout's chance any number."""
    total, batch = recipe.model.num_codebooks, recipe.data.batch_size
    dropped = rng.random(batch) < recipe.quantizer.dropout
    return torch.from_numpy(np.where(dropped, rng.integers(1, total + 1, batch), total))


@torch.no_grad()
def initialize_codebooks(trainer: Trainer) -> None:
    """Start the quantizer from the latents of a few batches, the same in all processes."""
    recipe, state, fabric = trainer.recipe, trainer.state, trainer.fabric
    rng = np.random.default_rng((recipe.run.seed, fabric.global_rank, state.step, 2))
    latents: list[Tensor] = []
    wanted = min(STARTS_PER_ENTRY * recipe.model.codebook_size, MAX_STARTS)
    while wanted > 0:
        audio = trainer.corpus.batch(rng).degraded.to(fabric.device)
        latent = _as_tensor(fabric.all_gather(state.codec.encode_latent(audio)))
        latents.append(latent.reshape(-1, latent.shape[-1]))
        wanted -= len(latents[-1])
    state.codec.quantizer.initialize(torch.cat(latents))
    share_tensors(fabric, list(state.codec.quantizer.parameters()))
    state.average.load_state_dict(state.codec.state_dict())


@torch.no_grad()
def restart_dead_codes(trainer: Trainer, latent: Tensor, codes: Tensor) -> None:
    """Count the use of codes; every so often replace the dead ones from the current batch."""
    state, recipe, fabric = trainer.state, trainer.recipe, trainer.fabric
    histogram = code_histogram(codes, recipe.model.codebook_size)
    histogram = _as_tensor(fabric.all_reduce(histogram, reduce_op="sum"))
    state.usage.mul_(USAGE_DECAY).add_(histogram, alpha=1 - USAGE_DECAY)
    if state.step % recipe.quantizer.restart_every == 0:
        average = state.usage.mean(dim=1, keepdim=True)
        dead = state.usage < DEAD_BELOW * average
        assert isinstance(state.codec.quantizer, Quantizer)
        state.codec.quantizer.restart(latent, dead)
        share_tensors(fabric, list(state.codec.quantizer.parameters()))
        # A restarted code gets the average, so that it has time to find its place.
        state.usage = torch.where(dead, average, state.usage)


def check_explosion(trainer: Trainer, values: dict[str, float]) -> None:
    """Raise a TrainingError if a loss is not finite, or the codec's stays far from what it was."""
    typical, loss = trainer.state.typical_loss, values["loss"]
    if not np.isfinite(values.get("discriminator", 0.0)):
        raise TrainingError(
            f"the discriminators' loss is {values['discriminator']} at step "
            f"{trainer.state.step + 1}: go on from the last checkpoint with --resume --set "
            f"adversarial.lr={trainer.recipe.adversarial.lr / 2:g}"
        )
    if not np.isfinite(loss):
        raise TrainingError(_exploded(f"the loss is {loss}", trainer))
    explodes = typical is not None and trainer.state.step > 100 and loss > EXPLOSION * typical
    trainer.exploding_steps = trainer.exploding_steps + 1 if explodes else 0
    if trainer.exploding_steps >= EXPLODING_STEPS:
        raise TrainingError(_exploded(f"the loss rose from {typical:.3g} to {loss:.3g}", trainer))


def _exploded(what: str, trainer: Trainer) -> str:
    lower = trainer.recipe.optimizer.lr / 2
    return (
        f"{what} at step {trainer.state.step + 1}: go on from the last checkpoint, if there is "
        f"one, with --resume and a lower optimizer.lr: --set optimizer.lr={lower:g}"
    )


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _as_tensor(value: object) -> Tensor:
    """Fabric's collectives promise less than they keep."""
    assert isinstance(value, Tensor)
    return value
