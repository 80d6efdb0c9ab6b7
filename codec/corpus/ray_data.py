"""Code a corpus on a cluster, through Ray Data.

The driver divides the recordings into blocks of equal duration, which actors with an engine each
decode and code; the codes stream back in order and the driver writes them. Audio never enters the
object store, and codes are a thousandth of it, so neither blocks nor shards grow with the corpus.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from codec.arguments import first_line
from codec.corpus.coding import Coded, Task, Work
from codec.corpus.index import Clip, by_duration
from codec.corpus.parquet import import_pyarrow
from codec.corpus.workers import one_thread
from codec.engines.base import Engine
from codec.errors import CodecError, ModelError, optional_packages

BLOCK_SECONDS = 600.0
"""Audio in a block at most: 0.7 MB of codes at 6 kbit/s."""
BLOCKS_PER_WORKER = 4
"""Blocks per worker at least, so that all of them end at about the same time."""


class Cluster:
    """A Ray cluster, or a local one that starts with the first work and ends with it.

    Args:
        address: as for ``ray.init``; None for that of the environment, or else a local cluster.
        workers: number of workers; as many as there is room for if None.
        cpus_per_worker: CPUs that Ray reserves for a worker; it computes on one thread.
        gpus_per_worker: GPUs that Ray reserves for a worker, also a fraction; if any, its engine
            computes there.

    Raises:
        CodecError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
    ) -> None:
        import_pyarrow()
        with optional_packages("--ray", "ray"):
            self._ray = importlib.import_module("ray")
            importlib.import_module("ray.data")
        self._address, self._workers = address, workers
        self._cpus, self._gpus = cpus_per_worker, gpus_per_worker

    def run(self, engine: Engine, work: Work, tasks: Sequence[Task]) -> Iterator[list[Coded]]:
        """Results of ``work`` on each task, in order.

        Their files must be at the same paths on every machine of the cluster.

        Raises:
            CodecError: there is no cluster at the address.
        """
        ray = self._ray
        if not tasks:
            return
        started = not ray.is_initialized()
        if started:
            quiet = {"include_dashboard": False, "log_to_driver": False}
            try:
                ray.init(self._address, logging_level=logging.WARNING, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                place = self._address or "this machine"
                raise CodecError(
                    f"no Ray cluster at {place}: {first_line(error)}; check the address"
                ) from error
        try:
            yield from self._results(engine, work, tasks, self._workers or self._room())
        finally:
            if started:
                ray.shutdown()

    def _room(self) -> int:
        """Workers that the cluster has room for."""
        there = self._ray.cluster_resources()
        kinds = {"CPU": self._cpus, "GPU": self._gpus}
        room = [int(there.get(name, 0) / need) for name, need in kinds.items() if need]
        return max(1, min(room, default=1))

    def _results(
        self, engine: Engine, work: Work, tasks: Sequence[Task], workers: int
    ) -> Iterator[list[Coded]]:
        total = sum(task.seconds for task in tasks)
        blocks = _blocks(tasks, min(BLOCK_SECONDS, total / (BLOCKS_PER_WORKER * workers)))
        data = self._ray.data
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        dataset = data.from_arrow(blocks)
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        coded = dataset.map_batches(
            Worker,
            fn_constructor_args=(engine, work, "cuda" if self._gpus else "cpu"),
            batch_format="pyarrow",
            batch_size=None,  # the whole block
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            compute=data.ActorPoolStrategy(size=min(workers, len(blocks))),
        )
        rows = _rows(coded)
        for task in tasks:
            yield [next(rows) for _ in task.clips]


class Worker:
    """An actor: codes blocks of clips, on a device of PyTorch; a `ModelError` if it cannot."""

    def __init__(self, engine: Engine, work: Work, device: str = "cpu") -> None:
        if device != "cpu":
            move = getattr(engine, "to", None)
            if move is None:
                raise ModelError(
                    f"{type(engine).__name__} does not run on GPUs: give --backend torch"
                )
            engine = move(device)
        self._engine, self._work = engine, work

    def __call__(self, block: Any) -> Any:
        """Clips (a table) -> a row of codes for each."""
        pa = import_pyarrow()
        rows = map(json.loads, block["clip"].to_pylist())
        clips = tuple((folder, Clip(*facts)) for folder, *facts in rows)
        with one_thread():
            coded = self._work(self._engine, Task(0, (), clips))
        return pa.table(
            {
                "codes": pa.array([each.frames.ravel() for each in coded], pa.list_(pa.uint16())),
                "num_codebooks": [each.frames.shape[1] for each in coded],
                "num_samples": [each.num_samples for each in coded],
                "sample_rate": [each.sample_rate for each in coded],
                "reason": [each.reason for each in coded],
                "digest": [each.digest for each in coded],
            }
        )


def _blocks(tasks: Sequence[Task], seconds: float) -> list[Any]:
    """Tables of clips that last about that long, or one longer clip."""
    pa = import_pyarrow()
    clips = (clip for task in tasks for clip in task.clips)
    blocks = by_duration(clips, lambda clip: clip[1].seconds, seconds)
    # As JSON: names of files need not be UTF-8, which Arrow's strings must be.
    rows = ([json.dumps([folder, *astuple(clip)]) for folder, clip in block] for block in blocks)
    return [pa.table({"clip": pa.array(row, pa.string())}) for row in rows]


def _rows(dataset: Any) -> Iterator[Coded]:
    for table in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
        codes = table["codes"].combine_chunks()
        for number, row in enumerate(table.drop_columns("codes").to_pylist()):
            flat = codes[number].values.to_numpy(zero_copy_only=False).astype(np.uint16)
            frames = flat.reshape(-1, row["num_codebooks"])
            facts = (row[name] for name in ("num_samples", "sample_rate", "reason", "digest"))
            yield Coded(frames, *facts)
