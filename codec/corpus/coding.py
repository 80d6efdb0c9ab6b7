"""Code recordings: the work that processes and clusters share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from codec.arrays import StoredCodes
from codec.corpus.index import Clip, clip_digest, fault, open_clip
from codec.corpus.sources import readable
from codec.corpus.workers import one_thread
from codec.engines.base import Engine
from codec.errors import AudioError
from codec.format.timeline import Timeline
from codec.io.audio import AudioReader, Resampler
from codec.rate.block import Block
from codec.rate.modes import Constant
from codec.session.analyzer import Analyzer
from codec.session.packing import Packing
from codec.session.plan import make_plan


@dataclass(frozen=True)
class Coded:
    """What became of a recording."""

    frames: StoredCodes  # its codes
    num_samples: int  # per channel of the recording, as many as were read
    sample_rate: int  # of the recording, in Hz
    reason: str = ""  # why it could not be coded, in one line; empty if it was
    digest: str = ""  # SHA-256 of its file or member, in hexadecimal digits; empty if not known


@dataclass(frozen=True)
class Task:
    """Recordings of a shard that are coded together."""

    shard: int
    positions: tuple[int, ...]  # of the recordings in the shard
    clips: tuple[tuple[str, Clip], ...]  # their folders and clips

    @property
    def seconds(self) -> float:
        return sum(clip.seconds for _, clip in self.clips)


Work: TypeAlias = Callable[[Engine, Task], list[Coded]]
"""Codes a task: `code_task` with the number of codebooks given."""


def code_task(num_codebooks: int, engine: Engine, task: Task) -> list[Coded]:
    """Code all recordings of a task; what cannot be read gets a reason in place of codes."""
    return [_code_clip(engine, num_codebooks, Path(folder), clip) for folder, clip in task.clips]


def _code_clip(engine: Engine, num_codebooks: int, folder: Path, clip: Clip) -> Coded:
    digest = ""
    try:
        # Before it is coded: if it changes meanwhile, the next run codes it again.
        digest = clip_digest(folder, clip)
        mono = engine.spec.channels_coded_together == 1
        with open_clip(folder, clip, mono=mono) as reader:
            coded = code_audio(engine, num_codebooks, reader)
    except Exception as error:  # no recording may end the corpus
        coded = uncodable(engine.spec.num_codes(num_codebooks), fault(clip.name, error))
    return replace(coded, digest=digest)


def uncodable(num_codes: int, reason: str) -> Coded:
    return Coded(np.zeros((0, num_codes), np.uint16), 0, 0, readable(reason))


def code_audio(engine: Engine, num_codebooks: int, reader: AudioReader) -> Coded:
    """Code a whole recording with the codes that `codec.encode_file` makes.

    Recordings are mixed down to mono. A model that codes several channels together takes those of a
    recording with as many, and of all others their mix for each of them. No audio stays in memory.

    Raises:
        AudioError: the recording cannot be read, or is empty.
    """
    sample_rate, channels = reader.sample_rate, engine.spec.channels_coded_together
    # Steps as long as the packets of files: others would be rounded differently.
    rate, packing = Constant(num_codebooks, plain=True), Packing.file()
    plan = make_plan(engine, rate, packing, channels=channels, original_sample_rate=sample_rate)
    analyzer = Analyzer(plan)
    resampler = Resampler(sample_rate, engine.spec.sample_rate, channels)
    pieces, num_samples = [np.zeros((0, plan.header.num_codes()), np.uint16)], 0

    def keep(blocks: Iterator[Block]) -> None:
        pieces.extend(block.codes[0].T.astype(np.uint16) for block in blocks)

    with one_thread():
        for audio in reader.blocks():
            num_samples += audio.shape[1]
            if len(audio) != channels:
                audio = np.repeat(audio.mean(axis=0, keepdims=True), channels, axis=0)
            keep(analyzer.push(resampler.push(audio)))
        length = Timeline(plan.header).model_length(num_samples)
        keep(analyzer.push(resampler.finish(length)))
        keep(analyzer.finish(num_samples))
    if not num_samples:
        raise AudioError("the recording contains no samples")
    return Coded(np.concatenate(pieces), num_samples, sample_rate)
