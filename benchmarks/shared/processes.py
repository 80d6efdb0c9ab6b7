"""Work in processes of their own, each limited to a number of threads."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD_LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def process_pool(processes: int, threads: int = 1) -> Iterator[ProcessPoolExecutor]:
    """New processes for the duration of a ``with`` block.

    They are spawned: a process forked after torch has started threads may hang. When the block is
    left by an error or an interrupt, work that has not begun is dropped.

    Args:
        processes: number of processes.
        threads: number of threads of torch, OpenMP and Numba in each of them, and in the programs
            that they start.
    """
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ |= dict.fromkeys(THREAD_LIMITS, str(threads))  # inherited by the processes
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, torch.set_num_threads, (threads,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Iterator[tuple[int, Result]]:
    """Apply ``work`` to every item, in several processes with one thread each.

    Args:
        work: function at the top level of a module, or a partial of one.
        items: what ``work`` takes.
        processes: number of processes; 1 for this process.

    Yields:
        Number of the item and the result, in the order in which they are finished.

    Example:
        >>> dict(run_in_processes(len, ["a", "bcd"], processes=1))
        {0: 1, 1: 3}
    """
    if processes == 1:
        torch.set_num_threads(1)
        for number, item in enumerate(items):
            yield number, work(item)
    elif items:
        with process_pool(min(processes, len(items))) as pool:
            numbers = {pool.submit(work, item): number for number, item in enumerate(items)}
            for future in as_completed(numbers):
                yield numbers[future], future.result()
