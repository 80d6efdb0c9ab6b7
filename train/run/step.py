"""One optimizer step: codec, losses, discriminators, gradients, codebooks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from train.data.batches import Batch, Corpus
from train.objective.balancer import audio_gradients, combine, gradient_shares
from train.objective.objective import Objective
from train.randomness import Stream, generator, seed_torch
from train.recipe.sections import QuantizerConfig, TrainConfig
from train.run.autoencoder import Autoencoder, Reconstruction
from train.run.devices import mean
from train.run.errors import TrainingError as TrainingError
from train.run.explosion import exploded
from train.run.optimizers import set_learning_rate
from train.run.schedule import learning_rate
from train.run.state import TrainState, make_objective

# Longest gradient of an item, relative to the median of the batch.
MAX_ITEM_GRADIENT = 2.0
# Mean number of frames until the number of codebooks changes, where it does.
FRAMES_PER_COUNT = 6

Losses = dict[str, Tensor]
Figures = dict[str, float]


@dataclass
class Trainer:
    """What a step needs besides the batch.

    Attributes:
        recipe: the settings.
        fabric: device, precision, processes.
        state: everything that changes.
        corpus: training audio.
        objective: reconstruction losses.
        autoencoder: ``state.codec`` as Fabric runs it.
        optimizer: ``state.optimizer`` as Fabric runs it.
    """

    recipe: TrainConfig
    fabric: Fabric
    state: TrainState
    corpus: Corpus
    objective: Objective
    autoencoder: nn.Module
    optimizer: torch.optim.Optimizer


def set_up(recipe: TrainConfig, fabric: Fabric, state: TrainState, corpus: Corpus) -> Trainer:
    """Move the state to the device of ``fabric``."""
    trains_encoder = "encoder" not in recipe.optimizer.freeze
    autoencoder, optimizer = fabric.setup(
        Autoencoder(state.codec, recipe.regularization, trains_encoder=trains_encoder),
        state.optimizer,
    )
    state.average.codec.to(fabric.device)
    state.codebooks.usage = state.codebooks.usage.to(fabric.device)
    state.balancer.reduce = lambda norms: mean(fabric, norms)
    if state.adversary is not None:
        state.adversary.set_up(fabric)
    return Trainer(
        recipe=recipe,
        fabric=fabric,
        state=state,
        corpus=corpus,
        objective=make_objective(recipe),
        autoencoder=autoencoder,
        optimizer=optimizer,
    )


def train_step(
    trainer: Trainer, batch: Batch, progress: float, *, with_shares: bool = False
) -> Figures:
    """One optimizer step on one batch.

    Args:
        trainer: its state is changed.
        batch: the batch of this process.
        progress: share of the run that is done.
        with_shares: also measure each loss's share of the gradient norm, which takes some time.

    Returns:
        The losses by name, and ``loss``, their weighted sum; ``gradient_norm``, and whether it was
        ``clipped``; with ``with_shares`` the share of the gradient at the audio by loss.

    Raises:
        TrainingError: a loss exploded. The codec was not changed by this step.
    """
    rng = draw_randomness(trainer)
    initialize_codebooks(trainer)
    rate = set_learning_rates(trainer, progress)
    degraded, clean = (audio.to(trainer.fabric.device) for audio in batch)

    output = reconstruct(trainer, degraded, clean, rng)
    clean = clean[..., -output.decoded.shape[-1] :]
    # The graph is cut here. Gradients flow from the losses to the audio, where they are weighted,
    # and then from the audio to the weights.
    decoded = output.decoded.detach().requires_grad_()
    audio_losses = reconstruction_losses(trainer, decoded, clean, rng)
    discriminator_losses = train_discriminators(trainer, decoded, clean, rate)
    audio_losses |= generator_losses(trainer, decoded, clean)
    gradient, shares = weight_gradients(trainer, audio_losses, decoded, with_shares)
    gradient = clip_item_gradients(gradient)

    figures = loss_figures(trainer, audio_losses, output.losses, discriminator_losses)
    check_explosion(trainer, figures)
    backpropagate(trainer, output, gradient)
    figures |= update_weights(trainer)
    finish_step(trainer, output, figures["loss"], progress)
    return figures | {f"share_{name}": share for name, share in shares.items()}


def draw_randomness(trainer: Trainer) -> np.random.Generator:
    """The generator of this step, which torch's own draws follow from as well."""
    seed, rank = trainer.recipe.run.seed, trainer.fabric.global_rank
    rng = generator(seed, Stream.STEP, rank=rank, number=trainer.state.step)
    seed_torch(rng)
    return rng


def initialize_codebooks(trainer: Trainer) -> None:
    """Initialise the codebooks from latents of random batches, if this is the step for it."""
    state, fabric = trainer.state, trainer.fabric
    if not state.codebooks.starts(state.step):
        return
    seed, rank = trainer.recipe.run.seed, fabric.global_rank
    rng = generator(seed, Stream.CODEBOOKS, rank=rank, number=state.step)

    def draw_latents() -> Tensor:
        return state.codec.encode_latent(trainer.corpus.batch(rng).degraded.to(fabric.device))

    state.codebooks.initialize(state.codec.quantizer, draw_latents, fabric)
    state.average.restart(state.codec)


def set_learning_rates(trainer: Trainer, progress: float) -> float:
    """Set and return the learning rate of this step."""
    state = trainer.state
    rate = learning_rate(trainer.recipe.optimizer, state.step, progress, state.monitor.halvings)
    set_learning_rate(trainer.optimizer, rate)
    return rate


def reconstruct(
    trainer: Trainer, degraded: Tensor, clean: Tensor, rng: np.random.Generator
) -> Reconstruction:
    """Encode and decode a batch ``[B, 1, N]``, with random numbers of codebooks.

    The decoded audio is that after the run-in, where states are as in a long recording.
    """
    recipe = trainer.recipe
    num_codebooks = draw_num_codebooks(
        rng, recipe.quantizer, recipe.model.num_codebooks, len(degraded), recipe.data.crop_frames
    )
    output: Reconstruction = trainer.autoencoder(
        degraded,
        clean,
        quantized=trainer.state.codebooks.quantizes(trainer.state.step),
        num_codebooks=num_codebooks.to(trainer.fabric.device),
    )
    return output._replace(decoded=output.decoded[..., -recipe.heard_samples :])


def draw_num_codebooks(
    rng: np.random.Generator, config: QuantizerConfig, total: int, batch_size: int, num_frames: int
) -> Tensor:
    """Number of codebooks of each item ``[B]``, or of each of its frames ``[B, T]``.

    An item has all of them, or with probability ``config.dropout`` any number. Of the latter,
    ``config.frame_dropout`` is the share whose number changes from time to time, as in streams of
    variable bitrate.
    """
    dropped = rng.random(batch_size) < config.dropout
    counts = np.where(dropped, rng.integers(1, total + 1, batch_size), total)
    if not config.frame_dropout:
        return torch.from_numpy(counts)
    varying = dropped & (rng.random(batch_size) < config.frame_dropout)
    changes = rng.random((batch_size, num_frames)) < 1 / FRAMES_PER_COUNT
    drawn = rng.integers(1, total + 1, (batch_size, num_frames))
    # Each frame has the number that was drawn at the last change before it.
    last = np.maximum.accumulate(np.where(changes, np.arange(num_frames), 0), axis=1)
    by_frame = np.take_along_axis(drawn, last, axis=1)
    return torch.from_numpy(np.where(varying[:, None], by_frame, counts[:, None]))


def reconstruction_losses(
    trainer: Trainer, decoded: Tensor, clean: Tensor, rng: np.random.Generator
) -> Losses:
    """The losses of the objective, with a random view."""
    return trainer.objective(decoded, clean, trainer.objective.draw_view(rng, decoded.shape[-1]))


def train_discriminators(trainer: Trainer, decoded: Tensor, clean: Tensor, rate: float) -> Losses:
    """One step of the discriminators, if it is their time: their loss."""
    adversary = trainer.state.adversary
    if adversary is None or not adversary.trains(trainer.state.step):
        return {}
    return {"discriminator": adversary.train(clean, decoded, rate)}


def generator_losses(trainer: Trainer, decoded: Tensor, clean: Tensor) -> Losses:
    """The codec's losses against the discriminators, if it is their time."""
    adversary = trainer.state.adversary
    if adversary is None or not adversary.trains_codec(trainer.state.step):
        return {}
    return adversary.generator_losses(clean, decoded)


def weight_gradients(
    trainer: Trainer, losses: Losses, decoded: Tensor, with_shares: bool
) -> tuple[Tensor, dict[str, float]]:
    """Gradient ``[B, 1, N]`` of all losses at the decoded audio, and each loss's share of it."""
    share, adversary = trainer.recipe.adversarial.share, trainer.state.adversary
    judged = {
        name: losses[name] for name in (adversary.weights if adversary else ()) if name in losses
    }
    if not share or not judged:
        return sum_gradients(trainer, losses, decoded, with_shares)
    compared = {name: loss for name, loss in losses.items() if name not in judged}
    gradient, shares = sum_gradients(trainer, compared, decoded, with_shares)
    opposed, opposed_shares = sum_gradients(trainer, judged, decoded, with_shares)
    shares = {name: value / (1 + share) for name, value in shares.items()}
    shares |= {name: value * share / (1 + share) for name, value in opposed_shares.items()}
    return gradient + share * match_length(opposed, gradient), shares


def match_length(gradient: Tensor, other: Tensor) -> Tensor:
    """Scale the gradient ``[B, 1, N]`` of each item to the length of another.

    Example:
        >>> match_length(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([[[0.6000, 0.8000]]])
    """
    lengths = [each.flatten(1).norm(dim=1)[:, None, None] for each in (gradient, other)]
    matched: Tensor = gradient * (lengths[1] / lengths[0].clamp(min=1e-12))
    return matched


def sum_gradients(
    trainer: Trainer, losses: Losses, decoded: Tensor, with_shares: bool
) -> tuple[Tensor, dict[str, float]]:
    """`weight_gradients` of losses that are weighted by the recipe or by the balancer."""
    balancer, balances = trainer.state.balancer, trainer.recipe.loss.balancer
    if not balances and not with_shares:
        weighted = [balancer.weights[name] * loss for name, loss in losses.items()]
        return torch.autograd.grad(torch.stack(weighted).sum(), decoded)[0], {}
    gradients = audio_gradients(losses, decoded)
    factors = balancer.factors(gradients) if balances else balancer.weights
    shares = gradient_shares(gradients, factors) if with_shares else {}
    return combine(gradients, factors), shares


def clip_item_gradients(gradient: Tensor) -> Tensor:
    """Clip each item's gradient to `MAX_ITEM_GRADIENT` times the batch median: ``[B, 1, N]``.

    Logarithms are steep near silence: a single silent crop would dominate all others.

    Example:
        >>> gradient = torch.tensor([1.0, 1.0, 50.0])[:, None, None]
        >>> clip_item_gradients(gradient).flatten().tolist()
        [1.0, 1.0, 2.0]
    """
    norms = gradient.flatten(1).norm(dim=1)
    limit = MAX_ITEM_GRADIENT * norms.median()
    factors = (limit / norms.clamp(min=1e-12)).clamp(max=1)
    clipped: Tensor = gradient * factors[:, None, None]
    return clipped


def loss_figures(
    trainer: Trainer, audio_losses: Losses, latent_losses: Losses, discriminator_losses: Losses
) -> Figures:
    """All losses and their weighted sum, ``loss``; the same in all processes."""
    losses = audio_losses | latent_losses | discriminator_losses
    means = mean(trainer.fabric, torch.stack(list(losses.values())).detach())
    figures: Figures = dict(zip(losses, means.tolist(), strict=True))
    weights = trainer.state.balancer.weights
    figures["loss"] = sum(weights[name] * figures[name] for name in audio_losses)
    figures["loss"] += sum(latent_weight(trainer, name) * figures[name] for name in latent_losses)
    return figures


def latent_weight(trainer: Trainer, name: str) -> float:
    """Weight of a loss of the latent or its codes."""
    recipe = trainer.recipe
    return float(getattr(recipe.regularization if name == "sparsity" else recipe.loss, name))


def check_explosion(trainer: Trainer, figures: Figures) -> None:
    """Raise a TrainingError if a loss is not finite, or the total has been too high for long."""
    recipe, state = trainer.recipe, trainer.state
    state.guard.check(figures, state.step, recipe.optimizer.lr, recipe.adversarial.lr)


def backpropagate(trainer: Trainer, output: Reconstruction, gradient: Tensor) -> None:
    """Continue the gradient from the audio to the weights, with that of the latent's losses."""
    on_latent = [latent_weight(trainer, name) * loss for name, loss in output.losses.items()]
    trainer.optimizer.zero_grad()
    surrogate = (output.decoded * gradient).sum()
    trainer.fabric.backward(torch.stack([surrogate, *on_latent]).sum())


def update_weights(trainer: Trainer) -> Figures:
    """Clip the gradient and step the optimizer: the norm, and whether it was clipped."""
    limit = trainer.recipe.optimizer.max_grad_norm
    clipped = trainer.fabric.clip_gradients(
        trainer.autoencoder, trainer.optimizer, max_norm=limit, error_if_nonfinite=False
    )
    assert isinstance(clipped, Tensor)
    norm = float(clipped)
    if not np.isfinite(norm):
        raise exploded(f"the gradient is {norm}", trainer.state.step, trainer.recipe.optimizer.lr)
    trainer.optimizer.step()
    return {"gradient_norm": norm, "clipped": float(norm > limit)}


def finish_step(trainer: Trainer, output: Reconstruction, loss: float, progress: float) -> None:
    """Count the step and update what follows the weights: codebooks, average, mean loss."""
    state = trainer.state
    state.step += 1
    state.guard.note(loss)
    state.codebooks.update(
        state.codec.quantizer,
        output.latent,
        output.codes,
        step=state.step,
        progress=progress,
        fabric=trainer.fabric,
    )
    state.average.update(state.codec, state.step)
