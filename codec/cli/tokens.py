"""``aecodec tokenize`` and ``aecodec detokenize``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec.cli import options
from codec.cli.errors import Failure, WrongUse, clear_errors, in_one_line
from codec.io.pipes import is_terminal

if TYPE_CHECKING:
    from codec.corpus.ray_data import Cluster
    from codec.corpus.tokenize import Tokenizer
    from codec.engines.names import Backend

LAYOUTS = click.Choice(["parquet", "webdataset", "codes"])
WORKERS = click.option("-w", "--workers", type=click.IntRange(1), help="Number of processes.")
RAY = options.several(
    click.option(
        "--ray",
        "address",
        is_flag=False,
        flag_value="",
        metavar="[ADDRESS]",
        help="Use a Ray cluster: --ray alone for that of the environment, or a local one.",
    ),
    click.option("--cpus-per-worker", type=options.POSITIVE, default=1.0, help="With --ray. [1]"),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(0),
        default=0.0,
        help="With --ray, e.g. 0.25. [0]",
    ),
)
OUT = click.option("-o", "--out", required=True, type=options.PATH, help="Output folder.")


def workers_of(
    workers: int | None, address: str | None, cpus_per_worker: float, gpus_per_worker: float
) -> int | Cluster:
    if address is None:
        return workers or 1
    if address and Path(address).exists():
        raise WrongUse(f"--ray {address} is a file or folder: put --ray after the sources")
    from codec.corpus.ray_data import Cluster

    return Cluster(
        address or None,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )


def tokenizer_of(
    model: str | None, backend: Backend | None, codebooks: int | None, path_column: str | None
) -> Tokenizer:
    from codec.corpus.tokenize import Tokenizer

    loaded = options.ModelChoice(model, backend).load()
    return Tokenizer(loaded, codebooks=codebooks, path_column=path_column)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@OUT
@click.option("--format", "layout", type=LAYOUTS, default="parquet", help="[parquet]")
@options.MODEL
@options.BACKEND
@click.option("-k", "--codebooks", type=click.IntRange(1), help="The first ones. [all]")
@options.removed("-b", "--bitrate", remedy="give the number of codes of a frame with --codebooks")
@WORKERS
@RAY
@click.option("--shard-hours", type=options.POSITIVE, default=10.0, help="Audio in a shard. [10]")
@click.option("--path-column", help="Column of the paths in manifests. [path, audio_filepath]")
@click.option("--max-errors", type=click.IntRange(0), help="Bad recordings allowed. [any number]")
@click.option("-f", "--force", is_flag=True, help="Start again where --out holds other tokens.")
@options.gathered(workers=workers_of, tokenizer=tokenizer_of)
def tokenize(
    sources: tuple[str, ...],
    out: Path,
    tokenizer: Tokenizer,
    layout: str,
    shard_hours: float,
    workers: int | Cluster,
    max_errors: int | None,
    force: bool,
) -> None:
    """Code all recordings of folders, globs, WebDataset shards (.tar) and manifests.

    A manifest is a Parquet file or JSON lines with a column of paths. Recordings are mixed down to
    mono. The same command again continues where the last one was interrupted. Recordings that
    cannot be read are listed in errors.jsonl.
    """
    with clear_errors():
        from codec.corpus.tokenize import Shards, tokenize as code
        from codec.corpus.tokens.naming import ERRORS

        with hours_bar() as progress:
            outcome = code(
                sources,
                out,
                tokenizer,
                shards=Shards(layout, shard_hours),
                workers=workers,
                max_errors=max_errors,
                force=force,
                progress=progress,
            )
    where = f" (see {out / ERRORS})" if outcome.num_errors else ""
    click.echo(
        f"{out}: {outcome.num_recordings} recordings, {outcome.hours:.3f} hours, "
        f"{outcome.num_errors} errors{where}; {outcome.num_written} of {outcome.num_shards} shards "
        f"written in {outcome.seconds:.1f} seconds",
        err=True,
    )


@click.command()
@click.argument("source", type=options.PATH)
@OUT
@click.option("--format", "suffix", default="wav", help="wav, flac, ... [wav]")
@click.option("-m", "--model", help="Model folder; otherwise the one the tokens name.")
@WORKERS
@options.FORCE
def detokenize(
    source: Path, out: Path, suffix: str, model: str | None, workers: int | None, force: bool
) -> None:
    """Decode a folder of tokens, a shard of one or a .codes file to audio files."""
    with clear_errors():
        from codec.corpus.detokenize import detokenize as decode
        from codec.registry import load_model

        suffix = options.output_suffix(suffix)
        engine = load_model(model) if model else None

        def report(number: str, reason: str) -> None:
            if reason:
                click.echo(in_one_line(f"aecodec: {number}: {reason}"), err=True)

        failures = decode(
            source,
            out,
            model=engine,
            suffix=suffix,
            workers=workers or 1,
            force=force,
            report=report,
        )
    if failures:
        raise Failure(f"{failures} recordings could not be decoded")


@contextmanager
def hours_bar() -> Iterator[Callable[[float, float], None]]:
    """On a terminal: hours done and to do, hours of audio per second, and the time left."""
    from tqdm import tqdm

    layout = "{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} hours [{desc}{remaining} left]"
    hidden = not is_terminal()
    with ExitStack() as stack:
        bar: Any = None
        began = 0.0

        def progress(done: float, total: float) -> None:
            nonlocal bar, began
            if bar is None:  # not before the recordings have been found, which has its own bar
                began = time.monotonic()
                bar = stack.enter_context(
                    tqdm(total=total / 3600, leave=False, disable=hidden, bar_format=layout)
                )
            if done:
                speed = done / 3600 / (time.monotonic() - began)
                bar.set_description_str(f"{speed:.4f} hours per second, ", refresh=False)
            bar.update(done / 3600 - bar.n)

        yield progress
