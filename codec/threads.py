"""Work in several threads of one process. The core computes without holding others up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R],
    items: Sequence[T],
    threads: int,
    stop: Callable[[], object] = lambda: None,
) -> list[R]:
    """What ``work`` returns for each item, some of which are worked on at once.

    Args:
        work: what is done with an item.
        items: what is worked on.
        threads: most items at once.
        stop: called if an exception, such as an interrupt, ends all; those that are being worked on
            are waited for.

    Example:
        >>> in_threads(len, ["a", "bc"], threads=2)
        [1, 2]
    """
    if min(threads, len(items)) < 2:
        return list(map(work, items))
    from concurrent.futures import ThreadPoolExecutor  # which most processes do not need

    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:  # such as an interrupt: those that have not begun never will
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
