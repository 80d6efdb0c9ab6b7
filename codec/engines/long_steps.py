"""`LongSteps`: steps of many frames in several threads, to the same bits as in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.threads import in_threads

Step: TypeAlias = Callable[..., tuple[Any, ...]]
"""Takes frames and the state before them; returns arrays of the frames and the state after them."""

FIRST_RUN_IN = 64
"""Frames of a run-in at first, which suffice for the packaged model."""
LEAST = 3
"""Least length of a part, in run-ins."""


class LongSteps:
    """Computes long steps in parts, side by side.

    A part begins with a run-in: the frames before it, from the initial state. No layer looks back
    for ever, so after enough frames the state is what it would be after all of them. Whether they
    were enough is seen when the part before is done: if it leaves another state, to the bit, the
    part is computed again from that, and run-ins become longer. So results do not depend on the
    number of threads.

    Args:
        step: computes some frames.
        begin: the initial state for a number of rows.
        stride: elements of a frame along the last axis of what the step takes.
        axes: along which the arrays that it returns are joined.

    Example:
        >>> def differences(x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ...     return np.diff(x, prepend=state), x[-1:]
        >>> steps = LongSteps(differences, np.zeros, stride=1, axes=(0,))
        >>> found, state = steps.run(np.arange(400), np.zeros(1), threads=2)
        >>> float(found.sum()), state
        (399.0, array([399]))
    """

    def __init__(
        self, step: Step, begin: Callable[[int], Any], stride: int, axes: Sequence[int]
    ) -> None:
        self._step, self._begin, self._stride, self._axes = step, begin, stride, axes
        self._run_in = FIRST_RUN_IN

    def run(
        self, x: npt.NDArray[Any], state: npt.NDArray[Any], threads: int, **options: Any
    ) -> tuple[Any, ...]:
        """What the step returns for all frames.

        Args:
            x: the frames.
            state: before them.
            threads: parts at most.
            **options: further arguments of the step.
        """
        run_in, num_frames = self._run_in, x.shape[-1] // self._stride
        count = min(threads, num_frames // (LEAST * run_in))
        if count < 2:
            return self._step(x, state, **options)
        edges = [num_frames * index // count for index in range(count + 1)]

        def compute(start: int, stop: int, before: Any) -> tuple[Any, ...]:
            frames = x[..., start * self._stride : stop * self._stride]
            return self._step(frames, before, **options)

        def part(index: int) -> tuple[Any, tuple[Any, ...]]:
            start, before = edges[index], state
            if index:
                before = compute(start - run_in, start, self._begin(len(state)))[-1]
            return before, compute(start, edges[index + 1], before)

        results = []
        for index, (before, result) in enumerate(in_threads(part, range(count), count)):
            if not np.array_equal(before, state):
                self._run_in = max(self._run_in, 2 * run_in)
                result = compute(edges[index], edges[index + 1], state)
            results.append(result)
            state = result[-1]
        *arrays, _ = zip(*results, strict=True)
        joined = map(np.concatenate, arrays, self._axes)
        return (*joined, state)
