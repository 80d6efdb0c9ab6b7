"""Batches of training crops, and the recordings to validate on."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codec.arrays import Samples
from codec.corpus.clips import clip_length, read_clip
from codec.corpus.index import Clip, Index
from codec.errors import AudioError
from codec.evaluation.mel import MEL_WINDOWS
from train.data.augment import Augmenter
from train.data.crops import Crops
from train.data.manifest import clip_weights
from train.randomness import Stream, generator
from train.recipe.sections import AugmentConfig, DataConfig

logger = logging.getLogger(__name__)

MIN_CLIP_SAMPLES = max(MEL_WINDOWS)
VALIDATION_SHARE = 0.02
# When crops come from files, most of the time is spent on seeking and decoding. So each place that
# is read serves a run of steps, one crop in each, cut from a stretch of this many crops.
STEPS_PER_READ = 8
CROPS_PER_READ = 5


class Batch(NamedTuple):
    """Input and target of a step, ``[B, 1, N]``: the same tensor unless inputs are degraded."""

    degraded: Tensor
    clean: Tensor


class Corpus:
    """Training audio as batches.

    Args:
        index: index of the training audio.
        data: how it is drawn.
        augment: how it is augmented.
        sample_rate: samples per second of the batches.
        crop_samples: length of a crop.
        seed: seed of all draws.

    Raises:
        ConfigError: class weights name a class that does not exist.
        AudioError: none of it can be decoded.
    """

    def __init__(
        self,
        index: Index,
        data: DataConfig,
        augment: AugmentConfig,
        *,
        sample_rate: int,
        crop_samples: int,
        seed: int,
    ) -> None:
        self._data, self._seed = data, seed
        self.hours = index.hours
        self._crops = Crops(
            index,
            sample_rate,
            class_weights=data.class_weights,
            clip_weights=clip_weights(index, data),
            memory_gb=data.memory_gb,
        )
        self._augment = Augmenter(augment, sample_rate, crop_samples, data.memory_gb)

    @property
    def in_memory(self) -> bool:
        """Whether the audio is kept in memory; otherwise it is read from its files."""
        return self._crops.in_memory

    def batch(self, rng: np.random.Generator) -> Batch:
        """Independent random crops, which depend on ``rng`` alone."""
        sources = [self._draw(rng) for _ in range(self._data.batch_size)]
        return self._batch(sources, rng, lambda _: self._draw(rng))

    def batches(
        self, first_step: int, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """The batches of ``first_step`` and all steps after it, without end.

        The batch of step n depends on the recipe, ``rank`` and n alone: not on the first step of
        the iteration, nor on the number of ``data.workers``, which end with the iterator.

        Args:
            first_step: first step, from 0.
            rank: rank of the training process; each process gets its own batches.
            world_size: number of training processes.
        """
        assert 0 <= rank < world_size
        length = self.steps_per_run
        runs: Iterable[Iterable[Batch]]
        if self._data.workers:
            runs = self._runs_by_workers(first_step // length, rank)
        else:
            runs = (self._run(number, rank) for number in itertools.count(first_step // length))
        # This is a generator itself, so that closing or dropping it ends the workers.
        yield from itertools.islice(itertools.chain.from_iterable(runs), first_step % length, None)

    @property
    def steps_per_run(self) -> int:
        """Number of steps that share one read of the files."""
        return 1 if self.in_memory else STEPS_PER_READ

    def _run(self, number: int, rank: int) -> Iterator[Batch]:
        """The batches of the steps that share one read of the files."""
        length = self.steps_per_run
        if length == 1:
            yield self.batch(generator(self._seed, Stream.BATCH, rank=rank, number=number))
            return
        rng = generator(self._seed, Stream.READ, rank=rank, number=number)
        spread = (CROPS_PER_READ - 1) * self._augment.num_source_samples
        pieces = [self._draw(rng, spread) for _ in range(self._data.batch_size)]
        for step in range(number * length, (number + 1) * length):
            rng = generator(self._seed, Stream.BATCH, rank=rank, number=step)
            yield self._batch(
                [self._cut(piece, rng) for piece in pieces], rng, partial(self._mixed, pieces, rng)
            )

    def _mixed(self, pieces: list[Samples], rng: np.random.Generator, slot: int) -> Samples:
        """A source to mix into the crop from ``pieces[slot]``: cut from another piece."""
        if len(pieces) == 1:
            return self._draw(rng)
        away = 1 + int(rng.integers(len(pieces) - 1))
        return self._cut(pieces[(slot + away) % len(pieces)], rng)

    def _draw(self, rng: np.random.Generator, spread: int = 0) -> Samples:
        return self._crops.draw(rng, self._augment.num_source_samples, spread + 1)

    def _cut(self, piece: Samples, rng: np.random.Generator) -> Samples:
        size = self._augment.num_source_samples
        start = int(rng.integers(len(piece) - size + 1))
        return piece[start : start + size]

    def _batch(
        self,
        sources: list[Samples],
        rng: np.random.Generator,
        draw_other: Callable[[int], Samples],
    ) -> Batch:
        pairs = [
            self._augment(source, rng, partial(draw_other, slot))
            for slot, source in enumerate(sources)
        ]
        clean = torch.from_numpy(np.stack([clean for _, clean in pairs]))[:, None]
        if all(degraded is clean for degraded, clean in pairs):
            return Batch(clean, clean)
        return Batch(
            torch.from_numpy(np.stack([degraded for degraded, _ in pairs]))[:, None], clean
        )

    def _runs_by_workers(self, first: int, rank: int) -> Iterator[list[Batch]]:
        loader = DataLoader(
            _Runs(self, rank),
            batch_size=None,
            sampler=itertools.count(first),
            num_workers=self._data.workers,
            collate_fn=list,
            # Forked processes share the audio in memory.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            generator=torch.Generator(),  # otherwise starting workers draws from the global one
        )
        yield from loader


class _Runs(Dataset[Iterable[Batch]]):
    """Runs of batches by number, for the workers; torch limits each of them to one thread."""

    def __init__(self, corpus: Corpus, rank: int) -> None:
        self._corpus, self._rank = corpus, rank

    def __getitem__(self, number: int) -> Iterable[Batch]:
        return self._corpus._run(number, self._rank)


def split(index: Index, data: DataConfig, sample_rate: int) -> tuple[Index, Index]:
    """Hold out about 2 % of the clips for validation: training index, validation index.

    The choice depends on the clips' names alone. Classes contribute in turn, at most half of their
    clips. If every class has a single clip, one of them is used for both, with a warning.
    """
    if len(index.clips) == 1:
        logger.warning(
            "there is only %s: it is used for both training and validation", index.clips[0].name
        )
        return index, index
    wanted = max(1, round(VALIDATION_SHARE * len(index.clips)))
    usable = [clip for clip in index.clips if _long_enough(clip, sample_rate)] or index.clips
    spare = {
        sound_class: count // 2
        for sound_class, count in Counter(c.sound_class for c in index.clips).items()
    }
    held: set[Clip] = set()
    for clip in _in_turn(usable):
        if spare[clip.sound_class] and len(held) < min(wanted, data.validation_files):
            spare[clip.sound_class] -= 1
            held.add(clip)
    if not held:
        only = next(_in_turn(usable))
        logger.warning(
            "every class has a single clip: %s is used for both training and validation", only.name
        )
        return index, Index(index.folder, (only,), index.skipped)
    return (
        Index(index.folder, tuple(c for c in index.clips if c not in held), index.skipped),
        Index(index.folder, tuple(c for c in index.clips if c in held), index.skipped),
    )


def validation_clips(index: Index, data: DataConfig, sample_rate: int) -> list[tuple[str, Tensor]]:
    """Names and beginnings ``[1, 1, N]`` of some clips, evenly spread over the classes.

    Which ones follows from their names. Those that are too short or cannot be read are named in a
    warning, and others take their place.

    Raises:
        AudioError: there is none to measure on.
    """
    found: list[tuple[str, Tensor]] = []
    for clip in _in_turn(index.clips):
        if len(found) == data.validation_files:
            break
        if not _long_enough(clip, sample_rate):
            logger.warning("%s is too short for validation", clip.name)
            continue
        end = min(clip_length(clip, sample_rate), round(data.validation_seconds * sample_rate))
        try:
            audio = read_clip(index.folder, clip, sample_rate, 0, end)
        except (AudioError, OSError) as error:
            logger.warning("not used for validation: %s", error)
            continue
        found.append((clip.name, torch.from_numpy(audio)[None, None]))
    if not found:
        raise AudioError(
            f"no recording under {index.folder} can be read and is long enough for validation: "
            f"give recordings of more than {MIN_CLIP_SAMPLES / sample_rate:.2f} s"
        )
    return sorted(found, key=lambda pair: pair[0])


def _long_enough(clip: Clip, sample_rate: int) -> bool:
    return clip_length(clip, sample_rate) > MIN_CLIP_SAMPLES


def _digest(clip: Clip) -> bytes:
    return hashlib.sha256(os.fsencode(clip.name)).digest()


def _in_turn(clips: Iterable[Clip]) -> Iterator[Clip]:
    """One clip of every class in turn, in an order that depends on names alone."""
    by_class: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=_digest):
        by_class.setdefault(clip.sound_class, []).append(clip)
    # The classes with most clips first: there may be more classes than turns.
    classes = sorted(by_class.values(), key=lambda each: (-len(each), each[0].sound_class))
    for turn in itertools.zip_longest(*classes):
        yield from (clip for clip in turn if clip is not None)
