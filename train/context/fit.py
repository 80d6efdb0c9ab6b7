"""Fit the context model of a codec to the codes of a corpus."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from codec.arrays import Booleans
from codec.core.frames import slopes
from codec.corpus.index import Index
from codec.entropy.context import ContextModel, ContextShape, Integers
from codec.entropy.context_file import save_context
from codec.errors import ConfigError, ModelError
from codec.io.outputs import write_atomically
from codec.network.bottleneck import Quantizer
from codec.network.model import Codec
from codec.rate.allocation import Floats, lambda_for
from train.context.net import ContextNet
from train.data.batches import Corpus
from train.randomness import Stream, generator, seed_weights
from train.recipe.sections import ContextConfig, TrainConfig
from train.report.progress import Progress

logger = logging.getLogger(__name__)


PACKET_SECONDS = 2.0
"""Length of a sequence: in files the context begins anew in every packet, which is as long."""
RUN_IN_FRAMES = 14
"""Frames before a sequence, in which the encoder's state becomes that of a long recording."""
FULL_SHARE, CONSTANT_SHARE = 0.3, 0.3
"""Shares of the sequences that have all codebooks, and the same number of codes in every frame; in
the others it varies as in streams of variable bitrate."""
WARM_UP_STEPS = 200
COOLDOWN = 0.5
"""Share of the steps at the end over which the learning rate falls to zero."""
AVERAGE_DECAY = 0.998
MAX_GRADIENT_NORM = 1.0
CHECKPOINT = "context_fit.safetensors"
"""File in the model folder from which an interrupted fit continues; removed at its end."""
CHECKPOINT_EVERY = 200
REPORT_BATCHES = 4
"""Batches after the last step by which bits per code are reported."""


def fit_context(recipe: TrainConfig, codec: Codec, index: Index, folder: Path) -> ContextModel:
    """Fit a context model and write it to the folder of its codec.

    A fit that was interrupted continues from its last checkpoint if it is started in the same way.

    Args:
        recipe: its section ``[context]``, and how audio is drawn.
        codec: the codec, as loaded from ``folder``.
        index: training audio.
        folder: the model folder.

    Returns:
        The context model as it was written.

    Raises:
        ConfigError: the model has no codes.
        ModelError: the codec was never saved.
    """
    if not codec.fingerprint:
        raise ModelError("this model has no fingerprint yet: save_codec() and load_codec() it")
    config, seed = recipe.context, recipe.run.seed
    seed_weights(seed)
    values = code_values(codec)
    net = ContextNet(context_shape(codec, config), values)
    average = ContextNet(net.shape, values)
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=(0.9, 0.98))
    packet_frames = round(PACKET_SECONDS * float(codec.config.frame_rate))
    # All that the result depends on, except for the audio.
    sections = [dataclasses.asdict(each) for each in (config, recipe.data, recipe.augment)]
    identity = json.dumps([codec.fingerprint.hex(), seed, sections], default=str)
    checkpoint = Checkpoint(folder / CHECKPOINT, identity, net, average, optimizer)
    first = checkpoint.load()
    batches = code_batches(recipe, codec, index, packet_frames, first)
    begin = time.monotonic()
    shown = Progress(recipe.data.batch_size * PACKET_SECONDS, 0, visible=True)
    for step in range(first, config.steps):
        codes, errors = next(batches)
        counts, variable = draw_counts(generator(seed, Stream.CONTEXT, number=step), errors.numpy())
        loss = mean_bits(net, codes, torch.from_numpy(counts), torch.from_numpy(variable))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * learning_rate(step, config.steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(net.parameters()), weight=1 - decay
            )
        if (step + 1) % CHECKPOINT_EVERY == 0:
            checkpoint.save(step + 1)
        done = (step + 1) / config.steps
        shown.update(step + 1, time.monotonic() - begin, done, float(loss.detach()))
    shown.close()
    logger.info(bits_report(average, [next(batches)[0] for _ in range(REPORT_BATCHES)]))
    fitted = save_context(folder, net.shape, average.tensors(), codec.fingerprint)
    checkpoint.path.unlink(missing_ok=True)
    return fitted


@torch.no_grad()
def bits_report(net: ContextNet, batches: Sequence[Tensor]) -> str:
    """One line: bits per code of each codebook, of plain codes and in the mean.

    Args:
        net: the context model.
        batches: codes ``[B, K, T]``, all present.
    """
    found = []
    for codes in batches:
        everything = codes.new_full((len(codes), codes.shape[2]), codes.shape[1])
        found.append(net(codes, everything)[0].mean((0, 2)))
    of_books = torch.stack(found).mean(0)
    plain = net.shape.codebook_size.bit_length() - 1
    each = " ".join(f"{bits:.2f}" for bits in of_books.tolist())
    return (
        f"bits per code, first codebook to last: {each}; "
        f"mean {float(of_books.mean()):.2f} of {plain}"
    )


@dataclasses.dataclass
class Checkpoint:
    """Where a fit is, in a file.

    Attributes:
        path: the file.
        identity: what the fit depends on; a checkpoint of another one is not continued.
        net: the context model.
        average: the mean of its weights.
        optimizer: its optimizer.
    """

    path: Path
    identity: str
    net: ContextNet
    average: ContextNet
    optimizer: torch.optim.Optimizer

    def save(self, step: int) -> None:
        """Write the state after ``step`` steps."""
        tensors = {
            f"{name}.{key}": value.contiguous()
            for name, module in (("net", self.net), ("average", self.average))
            for key, value in module.state_dict().items()
        }
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        facts = {"step": str(step), "identity": self.identity}
        write_atomically(self.path, safetensors.torch.save(tensors, facts))

    def load(self) -> int:
        """Continue from the file: the number of steps that are done, 0 if there is none."""
        if not self.path.exists():
            return 0
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                facts = file.metadata()
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ModelError(f"{self.path} is damaged: {error}; remove it") from error
        if facts["identity"] != self.identity:
            logger.warning("%s is of another fit: beginning anew", self.path)
            return 0
        for name, module in (("net", self.net), ("average", self.average)):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
            module.load_state_dict(own)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        logger.info("continuing after step %s", facts["step"])
        return int(facts["step"])


def context_shape(codec: Codec, config: ContextConfig) -> ContextShape:
    """Sizes of the context model of a codec."""
    return ContextShape(
        num_codebooks=codec.config.num_codebooks,
        codebook_size=codec.config.codebook_size,
        entry_dim=config.entry_dim,
        width=config.width,
        hidden=config.hidden,
        dilations=config.dilations,
    )


@torch.no_grad()
def code_values(codec: Codec) -> Tensor:
    """What each code adds to the latent: ``[K, codebook_size, D]``.

    Raises:
        ConfigError: the model has no codes, or codes that a context model cannot be about.
    """
    quantizer, size = codec.quantizer, codec.config.codebook_size
    if not isinstance(quantizer, Quantizer):
        raise ConfigError("this model has continuous latents and no codes: nothing to fit")
    if not codec.config.has_simple_codes:
        raise ConfigError(
            "this model codes several channels together: context models are for channels that are "
            "coded on their own, use plain codes"
        )
    values = []
    for count in range(1, codec.config.num_codebooks + 1):
        codes = torch.zeros(1, count, size, dtype=torch.int64)
        codes[:, -1] = torch.arange(size)
        values.append(quantizer.decode(codes)[0])
    return torch.stack(values)


@torch.no_grad()
def code_batches(
    recipe: TrainConfig, codec: Codec, index: Index, packet_frames: int, first_step: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes of random places in the corpus and their errors, ``[B, K, packet_frames]`` each."""
    corpus = Corpus(
        index,
        recipe.data,
        recipe.augment,
        sample_rate=codec.config.sample_rate,
        crop_samples=(RUN_IN_FRAMES + packet_frames) * codec.config.hop_length,
        seed=recipe.run.seed,
    )
    assert isinstance(codec.quantizer, Quantizer)
    for batch in corpus.batches(first_step):
        latent = codec.encode_latent(batch.degraded)[:, RUN_IN_FRAMES:]
        yield codec.quantizer.encode_with_errors(latent)


def draw_counts(rng: np.random.Generator, errors: Floats) -> tuple[Integers, Booleans]:
    """Number of codes of each frame, and whether it varies within a sequence.

    Args:
        rng: source of all choices.
        errors: ``[B, K, T]``, as from `code_batches`.

    Returns:
        ``[B, T]`` and ``[B]``.
    """
    batch_size, total, num_frames = errors.shape
    kind = rng.random((batch_size,))
    constant = np.where(kind < FULL_SHARE, total, rng.integers(1, total + 1, batch_size))
    counts = np.repeat(constant[:, None], num_frames, axis=1)
    variable = kind >= FULL_SHARE + CONSTANT_SHARE
    for item in np.flatnonzero(variable):
        found = slopes(errors[item].T, np.ones(total))
        budget = rng.uniform(1, total) * num_frames
        counts[item] = (found > lambda_for(found, budget)).sum(axis=1)
    return counts, variable


def mean_bits(net: ContextNet, codes: Tensor, counts: Tensor, variable: Tensor) -> Tensor:
    """Mean bits per code, including those of the number of codes where it varies."""
    of_codes, of_counts = net(codes, counts)
    present = torch.arange(codes.shape[1])[:, None] < counts[:, None]
    total = (of_codes * present).sum() + (of_counts * variable[:, None]).sum()
    mean: Tensor = total / present.sum()
    return mean


def learning_rate(step: int, steps: int) -> float:
    """Learning rate as a share of the highest: a warm-up, a plateau, a cooldown to zero."""
    left = (steps - step) / (COOLDOWN * steps)
    return min(1.0, (step + 1) / min(WARM_UP_STEPS, steps), left)
