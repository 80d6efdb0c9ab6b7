"""Work on every recording of a folder, in this process or in several."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from codec.arrays import Samples
from codec.corpus.clips import clip_length, read_clip
from codec.corpus.index import Clip, fault, scan, with_bar
from codec.engines.base import Engine
from codec.errors import AudioError, CodecError
from codec.io.pipes import keep_stderr_apart
from codec.registry import ModelLike, as_model

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

OPENING_SECONDS = 30.0
"""Length of the beginning of a recording that is read by default."""
ITEMS_AHEAD = 64
"""Items per process whose results may wait for that of an earlier item."""


class Recordings:
    """The beginnings of the recordings in a folder and its subfolders, or of every n-th of them.

    Recordings that cannot be read are named in a warning and skipped. So many seconds are read,
    mono at the model's rate, which bounds the memory.

    Attributes:
        skipped: for each name that cannot be used, one line with the reason.

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
        model: ModelLike,
        work: Callable[[Engine, Samples], Result],
        *,
        processes: int = 1,
        title: str,
    ) -> Iterator[tuple[Clip, Result]]:
        """Results of ``work`` on each recording, in order, with a progress bar on a terminal.

        The work, a function of a module or a partial of one, takes the engine, which ``model`` is
        or names, and audio ``[N]``. For ``processes`` see `in_order`.

        Raises:
            AudioError: no recording can be read.
        """
        task = partial(_on_clip, self._folder, self._seconds, work)
        engine, count = as_model(model).engine, len(self._clips)
        outcomes = in_order(engine, task, self._clips, min(processes, count))
        found = False
        for clip, outcome in zip(self._clips, with_bar(outcomes, title, count), strict=True):
            if isinstance(outcome, AudioError):
                self.skipped[clip.name] = str(outcome)
                logger.warning("skipped: %s", outcome)
            else:
                found = True
                yield clip, outcome
        if not found:
            raise AudioError(f"none of {count} recordings in {self._folder} can be read")


def _on_clip(
    folder: Path,
    seconds: float,
    work: Callable[[Engine, Samples], Result],
    engine: Engine,
    clip: Clip,
) -> Result | AudioError:
    rate = engine.spec.sample_rate
    end = min(max(1, round(seconds * rate)), clip_length(clip, rate))
    try:
        audio = read_clip(folder, clip, rate, 0, end)
    except Exception as error:  # no recording may end the work on others
        return AudioError(fault(clip.name, error))
    return work(engine, audio)


def in_order(
    engine: Engine,
    work: Callable[[Engine, Item], Result],
    items: Iterable[Item],
    processes: int,
) -> Iterator[Result]:
    """Results of ``work`` on each item, in order.

    Args:
        engine: the first argument of ``work``.
        work: takes the engine and an item; a function of a module, or a partial of one.
        items: the second arguments; `ITEMS_AHEAD` per process are taken ahead of the results.
        processes: number of processes that share the work, each on one thread of the CPU; 1 works
            in this process. With more, a script must guard its main program by its ``__name__``.

    Raises:
        CodecError: a process was killed.
    """
    if processes <= 1:
        yield from (work(engine, item) for item in items)
        return
    # A forked process may hang in locks that threads of this one held.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, _start_worker, (engine,))
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(_in_worker, work, item))
            if len(pending) >= ITEMS_AHEAD * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise CodecError(
            "a worker process was killed, perhaps for lack of memory: use fewer processes, or "
            "close other programs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread of the CPU for a while: rounding depends on the number of threads."""
    torch = sys.modules.get("torch")  # an engine that needs it has imported it
    if torch is None or (threads := torch.get_num_threads()) == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_engine: Engine | None = None
"""The engine of a worker process."""


def _start_worker(engine: Engine) -> None:
    global _engine
    _engine = engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    keep_stderr_apart()
    if torch := sys.modules.get("torch"):  # one thread each: the work is spread over processes
        torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the main process, even if it was killed: a pool would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_worker(work: Callable[[Engine, Item], Result], item: Item) -> Result:
    assert _engine is not None
    return work(_engine, item)
