"""Code a corpus on a cluster, through Ray Data.

The driver divides the recordings into blocks of equal duration, which actors with an engine each
decode and code; the codes stream back in order and the driver writes them. Audio never enters the
object store, and codes are a thousandth of it, so neither blocks nor shards grow with the corpus.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from codec.corpus.coding import Coded, Task, Work
from codec.corpus.extras import import_pyarrow, import_ray
from codec.corpus.index import Clip
from codec.corpus.workers import one_thread
from codec.engines.base import Engine
from codec.errors import CodecError, ModelError

BLOCK_SECONDS = 600.0
"""Audio in a block at most: 0.7 MB of codes at 6 kbit/s."""
BLOCKS_PER_WORKER = 4
"""Blocks per worker at least, so that all of them end at about the same time."""


class Cluster:
    """A Ray cluster, or a local one that starts with the first work and ends with it.

    Args:
        address: as for ``ray.init``; None for that of the environment, or else a local cluster.
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
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
    ) -> None:
        import_pyarrow()
        self._ray = import_ray()
        self._address = address
        self._cpus, self._gpus = cpus_per_worker, gpus_per_worker

    def run(
        self, engine: Engine, work: Work, tasks: Sequence[Task], workers: int | None
    ) -> Iterator[list[Coded]]:
        """Results of ``work`` on each task, in order.

        Args:
            engine: is sent to every worker.
            work: takes the engine and a task.
            tasks: their files must be at the same paths on every machine of the cluster.
            workers: number of workers; as many as there is room for if None.

        Raises:
            CodecError: there is no cluster at the address.
        """
        ray = self._ray
        if not tasks:
            return
        started = not ray.is_initialized()
        if started:
            try:
                ray.init(
                    self._address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise CodecError(
                    f"no Ray cluster at {self._address or 'this machine'}: {reason}; "
                    "check the address"
                ) from error
        try:
            yield from self._results(engine, work, tasks, workers or self._room())
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
    """An actor: codes blocks of clips.

    Args:
        engine: the model.
        work: takes the engine and a task.
        device: where PyTorch is to compute.

    Raises:
        ModelError: the engine cannot compute there.
    """

    def __init__(self, engine: Engine, work: Work, device: str = "cpu") -> None:
        if device != "cpu":
            move = getattr(engine, "to", None)
            if move is None:
                raise ModelError(f"{type(engine).__name__} does not run on GPUs: use CPU workers")
            engine = move(device)
        self._engine, self._work = engine, work

    def __call__(self, block: Any) -> Any:
        """Clips (a table) -> a row of codes for each."""
        pa = import_pyarrow()
        rows = block.to_pylist()
        rows = [{name: _from_bytes(value) for name, value in row.items()} for row in rows]
        clips = tuple((row.pop("folder"), Clip(**row)) for row in rows)
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
    schema = pa.schema(
        {"folder": pa.binary()}
        | {
            name: pa.int64() if name in NUMBERS else pa.binary()
            for name in Clip.__dataclass_fields__
        }
    )
    blocks: list[list[dict[str, Any]]] = [[]]
    length = 0.0
    for folder, clip in (each for task in tasks for each in task.clips):
        if blocks[-1] and length + clip.seconds > seconds:
            blocks.append([])
            length = 0.0
        row = {"folder": folder} | asdict(clip)
        blocks[-1].append({name: _to_bytes(value) for name, value in row.items()})
        length += clip.seconds
    return [pa.Table.from_pylist(block, schema) for block in blocks]


# Names of files need not be UTF-8, which Arrow's strings must be.
def _to_bytes(value: Any) -> Any:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _from_bytes(value: Any) -> Any:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


NUMBERS = {"offset", "size", "num_samples", "sample_rate", "channels"}


def _rows(dataset: Any) -> Iterator[Coded]:
    for table in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
        codes = table["codes"].combine_chunks()
        for number, row in enumerate(table.drop_columns("codes").to_pylist()):
            flat = codes[number].values.to_numpy(zero_copy_only=False).astype(np.uint16)
            frames = flat.reshape(-1, row["num_codebooks"])
            facts = (row[name] for name in ("num_samples", "sample_rate", "reason", "digest"))
            yield Coded(frames, *facts)
