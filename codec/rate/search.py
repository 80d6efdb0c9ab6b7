"""Rate-distortion optimised search for codes: the effort of an encoder.

The nearest embedding of each codebook in turn leaves a larger error than other codes of the same
number would. A beam search keeps several candidates from one codebook to the next (the M-algorithm,
Jelinek and Anderson, 1971, doi:10.1109/TIT.1971.1054606). Of those that are left, the one with the
least sum of error and bits times lambda is sent (Sullivan and Wiegand, 1998,
doi:10.1109/79.733497); the bits are those of the context model. Any decoder decodes the codes.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.arrays import Integers, Latents
from codec.core.library import BeamSizes, Packets, call, core
from codec.engines.base import CodeTables
from codec.entropy.context import ContextModel

Floats = npt.NDArray[np.float32]

CANDIDATES = (1, 4, 8, 16)
"""Candidates that are kept at each effort."""


class CodeSearch:
    """Finds codes that are nearer to a latent than the nearest embeddings one by one.

    Threads may share a search, one waits for the other. It can be copied and pickled.

    Args:
        tables: of the model.
        num_candidates: number of candidates that are kept for each frame.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> embeddings, maps = rng.standard_normal((4, 32, 3)), rng.standard_normal((4, 3, 6))
        >>> search = CodeSearch(CodeTables(embeddings, maps, np.zeros((4, 6))), num_candidates=8)
        >>> codes, errors = search.candidates(rng.standard_normal((5, 6)), np.full(5, 3))
        >>> codes.shape, bool((errors[:, 0] <= errors[:, 1]).all())
        ((5, 8, 4), True)
    """

    def __init__(self, tables: CodeTables, num_candidates: int) -> None:
        sizes, (num_codebooks, dim, latent_dim) = [*map(len, tables.embeddings)], tables.maps.shape
        self._num_codebooks, self._num_candidates = num_codebooks, num_candidates
        self._tables, self._lock = tables, threading.Lock()
        beam = ctypes.c_void_p()
        call(
            "aec_beam_create",
            *(BeamSizes(dim, latent_dim, num_candidates), np.array(sizes, np.uint32)),
            np.concatenate(tables.embeddings, dtype=np.float32).reshape(-1),
            *(np.ascontiguousarray(each, np.float32) for each in (tables.maps, tables.biases)),
            beam,
        )
        self._beam = beam
        # Not at exit, when threads may still compute.
        weakref.finalize(self, core().aec_beam_destroy, beam).atexit = False

    def candidates(self, latent: Latents, counts: Integers) -> tuple[Integers, Floats]:
        """The best codes that are found for each frame, the best first.

        Args:
            latent: ``[N, D]``.
            counts: ``[N]``, numbers of codes.

        Returns:
            Codes ``[N, M, K]``, `NO_CODE` where they are absent, and mean squares ``[N, M]`` of
            what they leave of the latent, infinite where there are fewer than M candidates.
        """
        shape = len(latent), self._num_candidates
        found = np.empty((*shape, self._num_codebooks), np.int32)
        errors = np.empty(shape, np.float32)
        given = np.ascontiguousarray(latent, np.float32)
        with self._lock:  # the beam has memory for one thread at a time
            call("aec_beam_search", self._beam, given, counts.astype(np.uint32), found, errors)
        return found.astype(np.int64), errors

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeSearch, (self._tables, self._num_candidates)


def rate_distortion_search(
    model: ContextModel,
    candidates: Integers,
    errors: Floats,
    lambda_: float,
    segments: int = 1,
) -> Integers:
    """The candidates with the least sum of error and bits times lambda, frame after frame.

    Args:
        model: gives the bits of codes after those that were chosen before.
        candidates: ``[C, T, M, K]``, from `CodeSearch.candidates`.
        errors: ``[C, T, M]``, their weighted errors.
        lambda_: error that is as bad as one bit.
        segments: number of parts of the packet in which the context is reset.

    Returns:
        Codes ``[C, K, T]``.
    """
    channels, num_frames, count, num_codebooks = candidates.shape
    shape = Packets(1, channels, num_codebooks, num_frames, segments)
    chosen = np.empty((channels, num_frames), np.uint32)
    call(
        "aec_search_codes",
        *(model.handle, shape, count),
        *(np.ascontiguousarray(candidates, np.int32), np.ascontiguousarray(errors, np.float32)),
        *(lambda_, chosen, model.scratch(channels + count)),
    )
    best = chosen.astype(np.int64)[..., None, None]
    return np.take_along_axis(candidates, best, axis=2)[:, :, 0].transpose(0, 2, 1)
