"""A folder of recordings, each handed to a codec, one by one or on all processors."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import safetensors.torch
import torch
from tqdm import tqdm

from codec.config import CodecConfig
from codec.corpus.clips import clip_length, read_clip
from codec.corpus.index import Clip, scan
from codec.errors import AudioError, CodecError
from codec.io.audio import Samples
from codec.network.model import Codec

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

OPENING_SECONDS = 30.0
"""How much of a recording is looked at, if not told otherwise."""


class Recordings:
    """The recordings of a folder and its subfolders, or rather their beginnings.

    What cannot be read is named in a warning and skipped.

    Args:
        folder: searched by `codec.corpus.index.scan`.
        seconds: how much of each is read, mono at the model's rate: this bounds the memory.
        every: take every n-th only.

    Attributes:
        skipped: for each name that is not usable, one line that says why.

    Raises:
        AudioError: there is no audio.
    """

    def __init__(self, folder: Path, *, seconds: float = OPENING_SECONDS, every: int = 1) -> None:
        index = scan(folder)
        self.skipped = dict(index.skipped)
        self._folder, self._seconds, self._clips = folder, seconds, index.clips[::every]

    def __len__(self) -> int:
        return len(self._clips)

    def each(
        self,
        codec: Codec,
        work: Callable[[Codec, Samples], Result],
        *,
        processes: int = 1,
        title: str,
    ) -> Iterator[tuple[Clip, Result]]:
        """What ``work`` makes of each recording, in order, with a progress bar on a terminal.

        Args:
            codec: for ``work``.
            work: takes the codec and audio ``[N]``; a function of a module, or a partial of one.
            processes: how many share the work, each on one thread of the CPU; 1 for none but this
                one. With more, a script must guard its main program by its ``__name__``.
            title: of the progress bar.

        Raises:
            AudioError: no recording can be read.
        """
        task = _Task(self._folder, self._seconds, work)
        outcomes = _spread(codec, task, self._clips, min(processes, len(self._clips)))
        bar = tqdm(outcomes, title, len(self._clips), disable=None, leave=False, unit="file")
        found = False
        for clip, outcome in zip(self._clips, bar, strict=True):
            if isinstance(outcome, _Unreadable):
                self.skipped[clip.name] = outcome.reason
                logger.warning("skipped: %s", outcome.reason)
            else:
                found = True
                yield clip, outcome
        if not found:
            raise AudioError(f"none of {len(self._clips)} recordings in {self._folder} can be read")


@dataclass(frozen=True)
class _Unreadable:
    reason: str


@dataclass(frozen=True)
class _Task(Generic[Result]):
    """Read a clip, then work on it."""

    folder: Path
    seconds: float
    work: Callable[[Codec, Samples], Result]

    def __call__(self, codec: Codec, clip: Clip) -> Result | _Unreadable:
        rate = codec.config.sample_rate
        end = min(max(1, round(self.seconds * rate)), clip_length(clip, rate))
        try:
            audio = read_clip(self.folder, clip, rate, 0, end)
        except AudioError as error:
            return _Unreadable(str(error))
        return self.work(codec, audio)


def _spread(
    codec: Codec, task: _Task[Result], clips: tuple[Clip, ...], processes: int
) -> Iterator[Result | _Unreadable]:
    if processes <= 1:
        yield from (task(codec, clip) for clip in clips)
        return
    weights = {name: tensor.cpu().contiguous() for name, tensor in codec.state_dict().items()}
    with ProcessPoolExecutor(
        processes,
        # A forked process may hang in locks that threads of this one held.
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(codec.config, safetensors.torch.save(weights)),
    ) as pool:
        try:
            yield from pool.map(partial(_in_worker, task), clips)
        except BrokenProcessPool as error:
            raise CodecError(
                "a worker process was ended, perhaps for lack of memory: take fewer seconds of "
                "each recording"
            ) from error


_codec: Codec | None = None
"""The model of a worker process."""


def _start_worker(config: CodecConfig, weights: bytes) -> None:
    global _codec
    torch.set_num_threads(1)
    _codec = Codec(config)
    _codec.load_state_dict(safetensors.torch.load(weights))
    _codec.eval().requires_grad_(False)


def _in_worker(task: _Task[Result], clip: Clip) -> Result | _Unreadable:
    assert _codec is not None
    return task(_codec, clip)
