"""The training loop: `fit` sets up, `run` steps and regularly validates and saves."""

from __future__ import annotations

import copy
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from tqdm import tqdm

from codec.corpus.index import Index, scan
from codec.entropy.context_file import CONTEXT_FILE
from codec.errors import ConfigError
from codec.hub import read_regular
from codec.io.outputs import write_atomically
from codec.model_folder import find_model
from codec.network.weights import load_codec, save_codec
from train.context.fit import fit_context
from train.data.batches import Corpus, split, validation_clips
from train.randomness import Stream, generator
from train.recipe.loading import to_toml
from train.recipe.sections import TrainConfig
from train.report.advice import advice
from train.report.journal import Journal
from train.report.progress import Progress
from train.report.summary import summary
from train.report.validation import validate
from train.run.calibrate import remove_dc
from train.run.checkpoint import find_checkpoints, load_newest, save_checkpoint
from train.run.devices import Devices, largest, make_fabric
from train.run.errors import TrainingError
from train.run.schedule import Budget
from train.run.state import new_state
from train.run.step import Trainer, set_up, train_step

logger = logging.getLogger(__name__)

SHARES_EVERY = 50
"""Steps between measurements of each loss's share of the gradient norm, which take longer."""

CALIBRATION_CROPS = 48
"""Number of crops that a model is calibrated with before it is written."""


def fit(
    recipe: TrainConfig,
    data: Path,
    out: Path,
    *,
    valid: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    initial_model: str | None = None,
    devices: Devices | None = None,
) -> bool:
    """Train a codec on a folder of audio.

    Args:
        recipe: the recipe, from `load_recipe`.
        data: folder of training audio.
        out: folder of the model, ready for `load_codec`. Files that only training needs are in
            ``out/training``: checkpoints, ``best`` (the model at its best validation), the
            recipe, the log, TensorBoard's files, the names of the validation files.
        valid: folder of other audio for validation; without it some files of ``data`` are held
            out.
        minutes: wall-clock budget for training and validation, instead of the recipe's steps;
            the learning rate reaches its final value at the end of it.
        resume: continue from the newest checkpoint in ``out``.
        initial_model: start from the weights of this model, and its discriminators if it has any.
        devices: what to compute on; the one that is found if None.

    Returns:
        Whether this is the first of the processes, which reports for all.

    Raises:
        CodecError: in one line that names the remedy.
    """
    home = out / "training"
    found = find_checkpoints(home / "checkpoints")
    check_beginning(recipe, out, initial_model, found=bool(found), resume=resume)
    # Codebooks have no gradient until the quantizer starts.
    late_codebooks = recipe.quantizer.start_step > 0
    fabric = make_fabric(recipe.run.precision, devices, find_unused_parameters=late_codebooks)
    state = new_state(recipe, initial_model)
    fabric.barrier()  # no process writes before all have looked for checkpoints
    index, held_out = find_audio(recipe, data, valid, home)
    found_clips = validation_clips(held_out, recipe.data, recipe.model.sample_rate)
    clips = [(name, clip.to(fabric.device)) for name, clip in found_clips]
    trainer = set_up(recipe, fabric, state, make_corpus(index, recipe))
    if resume:
        load_newest(state, found)
    journal = None
    if fabric.is_global_zero:
        journal = begin_journal(trainer, home, [name for name, _ in clips])
        if initial_model is not None:
            keep_context(recipe, find_model(initial_model), out)
    run(trainer, Budget(recipe.run.steps, minutes), clips, journal, out)
    if fabric.is_global_zero:
        complete(recipe, index, out)
    return fabric.is_global_zero


def check_beginning(
    recipe: TrainConfig, out: Path, initial_model: str | None, *, found: bool, resume: bool
) -> None:
    """Check that a run can begin, or be continued; ``found`` says whether it has checkpoints."""
    if found and not resume:
        raise TrainingError(
            f"{out} contains a run: continue it with --resume, or give another --out"
        )
    if resume and not found:
        raise TrainingError(f"nothing to resume in {out}: start the run without --resume")
    if resume and initial_model is not None:
        raise TrainingError("--resume continues with its own weights: leave out the initial model")
    if recipe.optimizer.freeze and initial_model is None and not resume:
        raise ConfigError("optimizer.freeze keeps trained weights: use it with aecodec finetune")


def find_audio(
    recipe: TrainConfig, data: Path, valid: Path | None, home: Path
) -> tuple[Index, Index]:
    """The audio for training and for validation."""
    index = scan(data, cache=home / "index.json")
    if valid is None:
        return split(index, recipe.data, recipe.model.sample_rate)
    return index, scan(valid, cache=home / "index_valid.json")


def begin_journal(trainer: Trainer, home: Path, names: Sequence[str]) -> Journal:
    """Write down what is trained and which files validate it."""
    home.mkdir(parents=True, exist_ok=True)
    write_atomically(home / "recipe.toml", to_toml(trainer.recipe).encode())
    lines = "".join(f"{name}\n" for name in names)
    write_atomically(home / "validation.txt", os.fsencode(lines))
    journal, hours = Journal(home, trainer.state.step), trainer.corpus.hours
    logger.info("training on %.2f hours, validating on %d files", hours, len(names))
    return journal


def complete(recipe: TrainConfig, index: Index, out: Path) -> None:
    """Add the context model to a trained model."""
    if recipe.context.steps and not (out / CONTEXT_FILE).exists():
        logger.info("fitting the context model")
        fit_context(recipe, load_codec(out), index, out)


def keep_context(recipe: TrainConfig, source: Path, out: Path) -> None:
    """Take over the context model of the initial model, if its codes stay as they are."""
    if {"encoder", "quantizer"} <= {*recipe.optimizer.freeze} and (source / CONTEXT_FILE).exists():
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / CONTEXT_FILE, read_regular(source / CONTEXT_FILE))


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
    shown = Progress(audio_seconds_per_step(trainer), state.step, visible=journal is not None)
    clock = time.monotonic() - state.seconds
    stop = 0.0
    with stopped_by_signals() as stopped:
        done = budget.progress(state.step, state.seconds)
        if done >= 1:
            logger.info("this run is done: to continue, give it more --minutes or run.steps")
        while done < 1 and not stop:
            validates = (state.step + 1) % recipe.run.validate_every == 0
            with_shares = validates or state.step % SHARES_EVERY == 0
            figures = train_step(trainer, next(batches), done, with_shares=with_shares)
            state.means.add(figures)
            # All processes must agree on when to end.
            state.seconds, stop = largest(fabric, [time.monotonic() - clock, stopped()])
            done = budget.progress(state.step, state.seconds)
            shown.update(state.step, state.seconds, done, figures["loss"])
            if validates or done >= 1:
                measure(trainer, clips, journal, done, out)
                stop = stop or state.monitor.should_stop(recipe.run)
            if state.step % recipe.run.checkpoint_every == 0:
                save(trainer, out)
        save(trainer, out)
    shown.close()
    if journal is not None:
        journal.close()
    if stopped():
        raise TrainingError(
            f"stopped at step {state.step}: nothing is lost, continue with --resume"
        )
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
    """Validate the averaged model in the first process, and share the result with all."""
    recipe, state = trainer.recipe, trainer.state
    value, figures = 0.0, state.means.take()
    if journal is not None:
        codec = state.average.codec
        report = {"step": state.step, "seconds": state.seconds} | figures
        codec.eval()
        report |= validate(codec, clips, trainer.objective)
        journal.add(report)
        journal.show(codec, clips, state.step)
        codec.train()
        notes = [f"  note: {line}" for line in advice(journal.history, recipe.model, progress)]
        if sys.stderr is not None:
            tqdm.write("\n".join([summary(report, recipe.model), *notes]), file=sys.stderr)
        value = report.get(f"validation_{recipe.run.metric}", math.nan)
    value = trainer.fabric.broadcast(value)
    if math.isnan(value):
        raise TrainingError(
            f"{recipe.run.metric} is undefined on the validation files: set run.metric=mel"
        )
    improved = state.monitor.update(recipe.run, recipe.optimizer, value, state.step)
    if improved and journal is not None:
        save_model(trainer, out / "training" / "best", out.resolve().name)


def save(trainer: Trainer, out: Path) -> None:
    """Write the checkpoint and the model so far, in the first process.

    Raises:
        TrainingError: weights are not finite; earlier checkpoints are kept.
    """
    state, keep = trainer.state, trainer.recipe.run.keep_checkpoints
    modules = [state.codec, *([state.adversary.discriminators] if state.adversary else [])]
    if not all(p.isfinite().all() for module in modules for p in module.parameters()):
        raise TrainingError(
            f"the weights became NaN before step {state.step}: continue from the last checkpoint "
            "with --resume and a lower optimizer.lr or adversarial.lr (by --set)"
        )
    if trainer.fabric.is_global_zero:
        save_checkpoint(state, out / "training" / "checkpoints", keep)
        save_model(trainer, out, out.resolve().name)
        if state.adversary is not None:
            state.adversary.save(out)
    trainer.fabric.barrier()


def save_model(trainer: Trainer, folder: Path, name: str) -> None:
    """Write the averaged model, calibrated; in half precision if that keeps frozen weights."""
    recipe, codec = trainer.recipe, trainer.state.average.codec
    if "decoder" not in recipe.optimizer.freeze:
        rng = generator(recipe.run.seed, Stream.CALIBRATION)
        batches = math.ceil(CALIBRATION_CROPS / recipe.data.batch_size)
        crops = torch.cat([trainer.corpus.batch(rng).clean for _ in range(batches)])
        codec = copy.deepcopy(codec)
        remove_dc(codec, crops[:CALIBRATION_CROPS].to(trainer.fabric.device))
    frozen = [p for p in trainer.state.codec.parameters() if not p.requires_grad]
    half = all(torch.equal(p, p.half().float()) for p in frozen)
    save_codec(codec, folder, name=name, half=half)


def make_corpus(index: Index, recipe: TrainConfig) -> Corpus:
    """The training audio of a recipe."""
    return Corpus(
        index,
        recipe.data,
        recipe.augment,
        sample_rate=recipe.model.sample_rate,
        crop_samples=recipe.crop_samples,
        seed=recipe.run.seed,
    )


def audio_seconds_per_step(trainer: Trainer) -> float:
    """Audio that all processes train on in a step."""
    data, world_size = trainer.recipe.data, trainer.fabric.world_size
    frames = data.batch_size * data.crop_frames * world_size
    return float(frames / trainer.recipe.model.frame_rate)


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM end the run after the present step, and a second signal at once."""
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
        pass  # not in the main thread, which alone receives signals
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
