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

import safetensors.torch
import torch
from tqdm import tqdm

from codec.audio import Samples
from codec.config import CodecConfig
from codec.errors import CodecError
from codec.model import Codec
from train.crops import clip_length, read_clip
from train.index import Clip

Result = TypeVar("Result")


@dataclass(frozen=True)
class Recording:
    """A clip, and the folder that it was found in."""

    folder: Path
    clip: Clip

    @property
    def name(self) -> str:
        """Its path within the folder, with ``/``."""
        return self.clip.name

    @property
    def kind(self) -> str:
        """Its class of sound, see `Clip`."""
        return self.clip.kind


def load_opening(recording: Recording, sample_rate: int, seconds: float) -> Samples:
    """The first ``seconds`` of a recording, mono at ``sample_rate``: ``[N]``.

    Raises:
        AudioError: it cannot be read.
    """
    wanted = max(1, round(seconds * sample_rate))
    length = min(wanted, clip_length(recording.clip, sample_rate))
    return read_clip(recording.folder, recording.clip, sample_rate, 0, length)


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
