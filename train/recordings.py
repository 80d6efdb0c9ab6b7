"""A folder of recordings, gone through with a codec, each file by itself and on all processors."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.torch
import soxr
import torch
from tqdm import tqdm

from codec.audio import Samples, open_audio
from codec.config import CodecConfig
from codec.errors import AudioError, CodecError
from codec.model import Codec
from train.data import audio_files

Result = TypeVar("Result")


@dataclass(frozen=True)
class Recording:
    """A file of audio.

    Attributes:
        path: where it is.
        name: its path within the folder, with ``/``.
        kind: class of sound: the first folder that it lies in, or else its name up to the first
            underscore, or else the name of the whole folder.
    """

    path: Path
    name: str
    kind: str


def recordings(folder: Path, every: int = 1) -> list[Recording]:
    """Every ``every``-th file of audio under ``folder``, sorted by path.

    Raises:
        AudioError: there is none.
    """
    found = []
    for path in audio_files(folder)[::every]:
        inner = path.relative_to(folder)
        start, underscore, _ = inner.name.partition("_")
        kind = inner.parts[0] if len(inner.parts) > 1 else start
        if len(inner.parts) == 1 and not underscore:
            kind = folder.resolve().name
        found.append(Recording(path, inner.as_posix(), kind))
    return found


def load_opening(path: Path, sample_rate: int, seconds: float) -> Samples:
    """The first ``seconds`` of a file, mixed to mono and resampled: ``[N]``. The rest stays unread.

    Raises:
        AudioError: it cannot be read, holds no samples, or such that are not finite.
    """
    blocks, num_samples = [], 0
    with open_audio(path, mono=True) as reader:
        wanted = max(1, round(seconds * reader.sample_rate))
        for block in reader.blocks():
            blocks.append(block[0])
            num_samples += block.shape[1]
            if num_samples >= wanted:
                break
        rate = reader.sample_rate
    if not num_samples:
        raise AudioError(f"{path} holds no samples")
    mono: Samples = np.concatenate(blocks)[:wanted]
    if rate != sample_rate:
        mono = np.asarray(soxr.resample(mono, rate, sample_rate), np.float32)
    return mono


def map_recordings(
    codec: Codec,
    work: Callable[[Codec, Recording], Result],
    files: Sequence[Recording],
    *,
    processes: int = 1,
    title: str,
) -> Iterator[Result]:
    """What ``work`` makes of each file, in order, with a progress bar on a terminal.

    Args:
        codec: handed to ``work``.
        work: a function of a module, or a partial of one.
        files: to go through.
        processes: how many to share the work, each on one thread of the CPU; 1 for none but this
            one. With more, a script must guard its main program (``if __name__ == "__main__"``).
        title: of the progress bar.
    """
    bar = partial(tqdm, desc=title, total=len(files), disable=None, leave=False, unit="file")
    processes = min(processes, len(files))
    if processes <= 1:
        yield from bar(work(codec, file) for file in files)
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
            yield from bar(pool.map(partial(_in_worker, work), files))
        except BrokenProcessPool as error:
            raise CodecError(
                "a worker process was ended, perhaps for lack of memory: take fewer seconds of "
                "each file"
            ) from error


_codec: Codec | None = None
"""The model of a worker process."""


def _start_worker(config: CodecConfig, weights: bytes) -> None:
    global _codec
    torch.set_num_threads(1)
    _codec = Codec(config)
    _codec.load_state_dict(safetensors.torch.load(weights))
    _codec.eval().requires_grad_(False)


def _in_worker(work: Callable[[Codec, Recording], Result], file: Recording) -> Result:
    assert _codec is not None
    return work(_codec, file)
