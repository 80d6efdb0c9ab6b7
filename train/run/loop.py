"""The training loop, top to bottom: `fit` sets up, `run` steps, now and then measures and saves."""

from __future__ import annotations

import copy
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from codec.corpus.index import scan
from codec.errors import ConfigError
from codec.io.outputs import write_atomically
from codec.network.weights import save_codec
from train.data.batches import Corpus, split, validation_clips
from train.recipe.sections import TrainConfig, to_toml
from train.report.health import advice, summary, validate
from train.report.journal import Journal
from train.run.calibrate import remove_dc
from train.run.checkpoint import find_checkpoints, load_newest, save_checkpoint
from train.run.devices import largest, make_fabric
from train.run.schedule import Budget
from train.run.state import start
from train.run.step import Trainer, TrainingError, set_up, train_step

logger = logging.getLogger(__name__)

SHARES_EVERY = 50
"""Steps between those that tell how much each loss has to say: they take longer."""

CALIBRATION_CROPS = 48
"""Crops that a model is calibrated with before it is written."""


def fit(
    recipe: TrainConfig,
    data: Path,
    out: Path,
    *,
    valid: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    initial_model: str | None = None,
    device: str = "auto",
    num_devices: int = 1,
) -> bool:
    """Train a codec on a folder of audio.

    Args:
        recipe: the recipe, from `load_recipe`.
        data: folder of training audio.
        out: becomes a model folder, ready for `load_codec`. What only training needs lies in
            ``out/training``: checkpoints, ``best`` (the model at its best validation), the
            recipe, the log, TensorBoard's files, the names of the validation files.
        valid: folder of other audio to measure on; without it some files of ``data`` are kept
            from training for that.
        minutes: wall-clock budget for training and validation, instead of the recipe's steps;
            the learning rate ends annealed when it does.
        resume: go on from the newest checkpoint in ``out``.
        initial_model: start from the weights of this model, and its discriminators if it has any.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        num_devices: how many; processes that ``torchrun`` has started count by themselves.

    Returns:
        Whether this is the first of the processes, the one that has something to say.

    Raises:
        CodecError: with one line that names the remedy.
    """
    home = out / "training"
    found = find_checkpoints(home / "checkpoints")
    if found and not resume:
        raise TrainingError(f"{out} holds a run: go on with it by --resume, or give another --out")
    if resume and not found:
        raise TrainingError(f"nothing to resume in {out}: start the run without --resume")
    if resume and initial_model is not None:
        raise TrainingError("--resume goes on with its own weights: leave out the initial model")
    if recipe.optimizer.freeze and initial_model is None and not resume:
        raise ConfigError("optimizer.freeze keeps what was learned: use it with aecodec finetune")
    fabric = make_fabric(recipe, device, num_devices)
    state = start(recipe, initial_model)
    fabric.barrier()  # nobody writes before everybody has looked
    index = scan(data, cache=home / "index.json")
    if valid is None:
        index, held_out = split(index, recipe)
    else:
        held_out = scan(valid, cache=home / "index_valid.json")
    clips = [(name, clip.to(fabric.device)) for name, clip in validation_clips(held_out, recipe)]
    if not clips:
        raise TrainingError("no recording can be read and is long enough to measure on")
    trainer = set_up(recipe, fabric, state, Corpus(index, recipe))
    if resume:
        load_newest(state, found)
        trainer.balancer.state = state.gradient_norms
    journal = None
    if fabric.is_global_zero:
        home.mkdir(parents=True, exist_ok=True)
        write_atomically(home / "recipe.toml", to_toml(recipe).encode())
        names = "".join(f"{name}\n" for name, _ in clips)
        write_atomically(home / "validation.txt", os.fsencode(names))
        journal = Journal(home, state.step)
        hours = trainer.corpus.hours
        logger.info("training on %.2f hours, measuring on %d files", hours, len(clips))
    run(trainer, Budget(recipe.run.steps, minutes), clips, journal, out)
    return fabric.is_global_zero


def run(
    trainer: Trainer,
    budget: Budget,
    clips: list[tuple[str, Tensor]],
    journal: Journal | None,
    out: Path,
) -> None:
    """Train until the budget is spent. ``journal`` is None in all processes but the first."""
    recipe, fabric, state = trainer.recipe, trainer.fabric, trainer.state
    batches = trainer.corpus.batches(state.step, fabric.global_rank, fabric.world_size)
    bar = ProgressBar(trainer, visible=journal is not None)
    clock = time.monotonic() - state.seconds
    stop = 0.0
    with stopped_by_signals() as stopped:
        done = budget.progress(state.step, state.seconds)
        if done >= 1:
            logger.info("this run is done: to go on, give it more --minutes or run.steps")
        while done < 1 and not stop:
            validates = (state.step + 1) % recipe.run.validate_every == 0
            with_shares = validates or state.step % SHARES_EVERY == 0
            figures = train_step(trainer, next(batches), done, with_shares=with_shares)
            state.note(figures)
            # All processes must agree when to end.
            state.seconds, stop = largest(fabric, [time.monotonic() - clock, stopped()])
            done = budget.progress(state.step, state.seconds)
            bar.update(done, figures["loss"])
            if validates or done >= 1:
                measure(trainer, clips, journal, done, out)
                stop = stop or state.monitor.should_stop(recipe)
            if state.step % recipe.run.checkpoint_every == 0:
                save(trainer, out)
        save(trainer, out)
    bar.close()
    if journal is not None:
        journal.close()
    if stopped():
        raise TrainingError(f"stopped at step {state.step}: nothing is lost, go on with --resume")
    if journal is not None and state.monitor.best_step < state.step:
        best = out / "training" / "best"
        logger.info("%s was best at step %d: %s", recipe.run.metric, state.monitor.best_step, best)


def measure(
    trainer: Trainer,
    clips: list[tuple[str, Tensor]],
    journal: Journal | None,
    progress: float,
    out: Path,
) -> None:
    """Validate the averaged model in the first process, and tell all how it went."""
    recipe, state = trainer.recipe, trainer.state
    value, figures = 0.0, state.take_means()
    if journal is not None:
        report = {"step": state.step, "seconds": state.seconds} | figures
        state.average.eval()
        report |= validate(state.average, clips, trainer.spectral, recipe)
        journal.add(report)
        journal.show(state.average, clips, state.step)
        state.average.train()
        notes = [f"  note: {line}" for line in advice(journal.history, recipe, progress)]
        tqdm.write("\n".join([summary(report, recipe), *notes]), file=sys.stderr)
        value = report.get(f"validation_{recipe.run.metric}", math.nan)
    value = trainer.fabric.broadcast(value)
    if math.isnan(value):
        raise TrainingError(
            f"{recipe.run.metric} cannot be told on the validation files: set run.metric=mel"
        )
    if state.monitor.update(recipe, value, state.step) and journal is not None:
        save_model(trainer, out / "training" / "best", out.resolve().name)


def save(trainer: Trainer, out: Path) -> None:
    """Write the checkpoint and the model so far, in the first process.

    Raises:
        TrainingError: the weights are no numbers any more; the checkpoints before stay.
    """
    state, keep = trainer.state, trainer.recipe.run.keep_checkpoints
    for module in (state.codec, state.discriminators):
        if module is not None and not all(p.isfinite().all() for p in module.parameters()):
            raise TrainingError(
                f"the weights became NaN before step {state.step}: go on from the last checkpoint "
                "with --resume and a lower optimizer.lr or adversarial.lr (by --set)"
            )
    if trainer.fabric.is_global_zero:
        save_checkpoint(state, out / "training" / "checkpoints", keep)
        save_model(trainer, out, out.resolve().name)
        if state.discriminators is not None:
            tensors = {k: v.contiguous() for k, v in state.discriminators.state_dict().items()}
            write_atomically(out / "discriminators.safetensors", safetensors.torch.save(tensors))
    trainer.fabric.barrier()


def save_model(trainer: Trainer, folder: Path, name: str) -> None:
    """Write the averaged model, calibrated; in half precision if that keeps frozen weights."""
    recipe, codec = trainer.recipe, trainer.state.average
    if "decoder" not in recipe.optimizer.freeze:
        rng = np.random.default_rng((recipe.run.seed, 0, 0, 3))
        batches = math.ceil(CALIBRATION_CROPS / recipe.data.batch_size)
        crops = torch.cat([trainer.corpus.batch(rng).clean for _ in range(batches)])
        codec = copy.deepcopy(codec)
        remove_dc(codec, crops[:CALIBRATION_CROPS].to(trainer.fabric.device))
    frozen = [p for p in trainer.state.codec.parameters() if not p.requires_grad]
    half = all(torch.equal(p, p.half().float()) for p in frozen)
    save_codec(codec, folder, name=name, half=half)


class ProgressBar:
    """How far, how fast and how much longer; nothing where nobody looks."""

    def __init__(self, trainer: Trainer, *, visible: bool) -> None:
        recipe, world = trainer.recipe, trainer.fabric.world_size
        frames = recipe.data.batch_size * recipe.data.crop_frames * world
        self._audio_seconds = float(frames / recipe.model.frame_rate)
        self._state = trainer.state
        self._last = (trainer.state.step, time.monotonic())
        layout = "{desc} {percentage:3.0f}%|{bar:20}|{postfix}"
        self._bar = tqdm(
            total=100, desc="training", disable=None if visible else True, bar_format=layout
        )

    def update(self, progress: float, loss: float) -> None:
        """Show the present state, now and then."""
        step, now = self._state.step, time.monotonic()
        last_step, last = self._last
        if self._bar.disable or now - last < 1:
            return
        speed = (step - last_step) * self._audio_seconds / (now - last)
        left = self._state.seconds * (1 / progress - 1) if progress else 0.0
        self._bar.n = round(100 * progress, 1)
        self._bar.set_postfix_str(
            f"step {step}, loss {loss:.3f}, {speed:.0f} audio-s/s, "
            f"{left // 60:.0f}:{left % 60:02.0f} left"
        )
        self._last = (step, now)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._bar.close()


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM end the run after the step at hand; asked twice, at once."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, catch)
    except ValueError:
        pass  # not in the main thread, where signals are somebody else's
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
