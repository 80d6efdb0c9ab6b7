"""One optimizer step: codec, losses, discriminators, gradients, codebooks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from train.data.batches import Batch, Corpus
from train.objective.balancer import Balancer, audio_gradients, combine, gradient_shares
from train.objective.objective import Objective
from train.randomness import Stream, generator, seed_torch
from train.recipe.sections import OptimizerConfig, QuantizerConfig, TrainConfig
from train.run.adversary import Adversary
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
    recipe, fabric, state = trainer.recipe, trainer.fabric, trainer.state
    adversary, balancer, step = state.adversary, state.balancer, state.step
    rng, rate = begin_step(trainer, progress)
    degraded, clean = (audio.to(fabric.device) for audio in batch)
    output = code_batch(trainer, degraded, clean, rng)
    # Losses see what is after the run-in, where states are as in a long recording. The graph is cut
    # here: gradients flow from the losses to the audio, where they are weighted, and then from the
    # audio to the weights.
    heard = output.decoded[..., -recipe.heard_samples :]
    clean = clean[..., -heard.shape[-1] :]
    decoded = heard.detach().requires_grad_()

    compared = reconstruction_losses(trainer.objective, decoded, clean, rng)
    discriminator_losses = train_discriminators(adversary, step, decoded, clean, rate)
    judged = generator_losses(adversary, step, decoded, clean)
    gradient, shares = weight_gradients(
        compared,
        judged,
        decoded,
        balancer,
        balances=recipe.loss.balancer,
        share=recipe.adversarial.share,
        with_shares=with_shares,
    )
    gradient = clip_item_gradients(gradient)

    latent_weights = {name: latent_weight(recipe, name) for name in output.losses}
    figures = mean_losses(fabric, compared | judged | output.losses | discriminator_losses)
    figures["loss"] = sum(balancer.weights[name] * figures[name] for name in compared | judged)
    figures["loss"] += sum(weight * figures[name] for name, weight in latent_weights.items())
    state.guard.check(figures, step, recipe.optimizer.lr, recipe.adversarial.lr)

    on_latent = [weight * output.losses[name] for name, weight in latent_weights.items()]
    backpropagate(fabric, trainer.optimizer, heard, gradient, on_latent)
    figures |= update_weights(
        fabric, trainer.autoencoder, trainer.optimizer, recipe.optimizer, step
    )
    finish_step(state, output, figures["loss"], progress, fabric)
    return figures | {f"share_{name}": share for name, share in shares.items()}


def begin_step(trainer: Trainer, progress: float) -> tuple[np.random.Generator, float]:
    """Initialise codebooks if it is time; random numbers and learning rate of this step."""
    recipe, fabric, state = trainer.recipe, trainer.fabric, trainer.state
    rng = draw_randomness(recipe.run.seed, fabric.global_rank, state.step)
    if state.codebooks.starts(state.step):
        initialize_codebooks(state, trainer.corpus, recipe.run.seed, fabric)
    rate = learning_rate(recipe.optimizer, state.step, progress, state.monitor.halvings)
    set_learning_rate(trainer.optimizer, rate)
    return rng, rate


def code_batch(
    trainer: Trainer, degraded: Tensor, clean: Tensor, rng: np.random.Generator
) -> Reconstruction:
    """Code the audio ``[B, 1, N]`` with random numbers of codebooks, and decode it."""
    recipe, state = trainer.recipe, trainer.state
    num_codebooks = draw_num_codebooks(
        rng, recipe.quantizer, recipe.model.num_codebooks, len(degraded), recipe.data.crop_frames
    )
    return reconstruct(
        trainer.autoencoder,
        degraded,
        clean,
        quantized=state.codebooks.quantizes(state.step),
        num_codebooks=num_codebooks.to(trainer.fabric.device),
    )


def draw_randomness(seed: int, rank: int, step: int) -> np.random.Generator:
    """The generator of this step, which torch's own draws follow from as well."""
    rng = generator(seed, Stream.STEP, rank=rank, number=step)
    seed_torch(rng)
    return rng


def initialize_codebooks(state: TrainState, corpus: Corpus, seed: int, fabric: Fabric) -> None:
    """Initialise the codebooks from latents of random batches."""
    rng = generator(seed, Stream.CODEBOOKS, rank=fabric.global_rank, number=state.step)

    def draw_latents() -> Tensor:
        return state.codec.encode_latent(corpus.batch(rng).degraded.to(fabric.device))

    state.codebooks.initialize(state.codec.quantizer, draw_latents, fabric)
    state.average.restart(state.codec)


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


def reconstruct(
    autoencoder: nn.Module,
    degraded: Tensor,
    clean: Tensor,
    *,
    quantized: bool,
    num_codebooks: Tensor,
) -> Reconstruction:
    """Encode and decode a batch ``[B, 1, N]``, see `Autoencoder.forward`."""
    output: Reconstruction = autoencoder(
        degraded, clean, quantized=quantized, num_codebooks=num_codebooks
    )
    return output


def reconstruction_losses(
    objective: Objective, decoded: Tensor, clean: Tensor, rng: np.random.Generator
) -> Losses:
    """The losses of the objective, with a random view."""
    return objective(decoded, clean, objective.draw_view(rng, decoded.shape[-1]))


def train_discriminators(
    adversary: Adversary | None, step: int, decoded: Tensor, clean: Tensor, rate: float
) -> Losses:
    """One step of the discriminators, if it is their time: their loss."""
    if adversary is None or not adversary.trains(step):
        return {}
    return {"discriminator": adversary.train(clean, decoded, rate)}


def generator_losses(
    adversary: Adversary | None, step: int, decoded: Tensor, clean: Tensor
) -> Losses:
    """The codec's losses against the discriminators, if it is their time."""
    if adversary is None or not adversary.trains_codec(step):
        return {}
    return adversary.generator_losses(clean, decoded)


def weight_gradients(
    compared: Losses,
    judged: Losses,
    decoded: Tensor,
    balancer: Balancer,
    *,
    balances: bool,
    share: float,
    with_shares: bool,
) -> tuple[Tensor, Figures]:
    """Gradient of all losses at the decoded audio.

    Args:
        compared: losses that compare with the original.
        judged: losses against the discriminators.
        decoded: ``[B, 1, N]``.
        balancer: weights of the losses.
        balances: whether it scales gradients so that the weights are shares of their sum.
        share: length of the gradient of ``judged`` relative to that of ``compared``, item by item;
            0 adds all losses by their weights instead.
        with_shares: whether to measure shares.

    Returns:
        The gradient ``[B, 1, N]``, and with ``with_shares`` the share of every loss.
    """
    if not share or not judged:
        return sum_gradients(compared | judged, decoded, balancer, balances, with_shares)
    gradient, shares = sum_gradients(compared, decoded, balancer, balances, with_shares)
    opposed, opposed_shares = sum_gradients(judged, decoded, balancer, balances, with_shares)
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
    losses: Losses, decoded: Tensor, balancer: Balancer, balances: bool, with_shares: bool
) -> tuple[Tensor, Figures]:
    """`weight_gradients` of losses that are weighted by the recipe or by the balancer."""
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


def latent_weight(recipe: TrainConfig, name: str) -> float:
    """Weight of a loss of the latent or its codes."""
    return float(getattr(recipe.regularization if name == "sparsity" else recipe.loss, name))


def mean_losses(fabric: Fabric, losses: Losses) -> Figures:
    """Means of losses over all processes."""
    means = mean(fabric, torch.stack(list(losses.values())).detach())
    return dict(zip(losses, means.tolist(), strict=True))


def backpropagate(
    fabric: Fabric,
    optimizer: torch.optim.Optimizer,
    decoded: Tensor,
    gradient: Tensor,
    on_latent: list[Tensor],
) -> None:
    """Continue the gradient from the audio to the weights, with that of the latent's losses."""
    optimizer.zero_grad()
    surrogate = (decoded * gradient).sum()
    fabric.backward(torch.stack([surrogate, *on_latent]).sum())


def update_weights(
    fabric: Fabric,
    autoencoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: OptimizerConfig,
    step: int,
) -> Figures:
    """Clip the gradient and step the optimizer: the norm, and whether it was clipped."""
    limit = config.max_grad_norm
    clipped = fabric.clip_gradients(
        autoencoder, optimizer, max_norm=limit, error_if_nonfinite=False
    )
    assert isinstance(clipped, Tensor)
    norm = float(clipped)
    if not np.isfinite(norm):
        raise exploded(f"the gradient is {norm}", step, config.lr)
    optimizer.step()
    return {"gradient_norm": norm, "clipped": float(norm > limit)}


def finish_step(
    state: TrainState, output: Reconstruction, loss: float, progress: float, fabric: Fabric
) -> None:
    """Count the step and update what follows the weights: codebooks, average, mean loss."""
    state.step += 1
    state.guard.note(loss)
    state.codebooks.update(
        state.codec.quantizer,
        output.latent,
        output.codes,
        step=state.step,
        progress=progress,
        fabric=fabric,
    )
    state.average.update(state.codec, state.step)
