"""``aecodec tokenize`` and ``aecodec detokenize``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from codec.cli.errors import Failure, WrongUse, clear_errors, in_one_line
from codec.cli.options import POSITIVE, output_suffix, removed
from codec.io.pipes import is_terminal
from codec.model_folder import DEFAULT_MODEL

LAYOUTS = click.Choice(["parquet", "webdataset", "codes"])
WORKERS = click.option("-w", "--workers", type=click.IntRange(1), help="Number of processes.")


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--format", "layout", type=LAYOUTS, default="parquet", help="[parquet]")
@click.option(
    "-m", "--model", default=DEFAULT_MODEL, help="Packaged model, folder, or e.g. encodec=FOLDER."
)
@click.option("-k", "--codebooks", type=click.IntRange(1), help="The first ones. [all]")
@removed("-b", "--bitrate", remedy="give the number of codes of a frame with --codebooks")
@WORKERS
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="Use a Ray cluster: --ray alone for that of the environment, or a local one.",
)
@click.option("--cpus-per-worker", type=POSITIVE, default=1.0, help="With --ray. [1]")
@click.option(
    "--gpus-per-worker", type=click.FloatRange(0), default=0.0, help="With --ray, e.g. 0.25. [0]"
)
@click.option("--shard-hours", type=POSITIVE, default=10.0, help="Audio in a shard. [10]")
@click.option("--path-column", help="Column of the paths in manifests. [path, audio_filepath]")
@click.option("--max-errors", type=click.IntRange(0), help="Bad recordings allowed. [any number]")
@click.option("-f", "--force", is_flag=True, help="Start again where --out holds other tokens.")
def tokenize(
    sources: tuple[str, ...],
    out: Path,
    layout: str,
    model: str,
    codebooks: int | None,
    workers: int | None,
    address: str | None,
    cpus_per_worker: float,
    gpus_per_worker: float,
    shard_hours: float,
    path_column: str | None,
    max_errors: int | None,
    force: bool,
) -> None:
    """Code all recordings of folders, globs, WebDataset shards (.tar) and manifests.

    A manifest is a Parquet file or JSON lines with a column of paths. Recordings are mixed down to
    mono. The same command again continues where the last one was interrupted. Recordings that
    cannot be read are listed in errors.jsonl.
    """
    with clear_errors():
        from codec.corpus.ray_data import Cluster
        from codec.corpus.tokenize import tokenize as code
        from codec.corpus.tokens.naming import ERRORS
        from codec.registry import load_model

        if address is not None and (Path(address).exists() and address):
            raise WrongUse(f"--ray {address} is a file or folder: put --ray after the sources")
        cluster = None
        if address is not None:
            cluster = Cluster(
                address or None, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker
            )
        with hours_bar() as progress:
            outcome = code(
                sources,
                out,
                model=load_model(model),
                codebooks=codebooks,
                layout=layout,
                workers=workers,
                ray=cluster,
                shard_hours=shard_hours,
                max_errors=max_errors,
                path_column=path_column,
                force=force,
                progress=progress,
            )
    errors = f"{outcome.num_errors} errors"
    if outcome.num_errors:
        errors += f" (see {out / ERRORS})"
    click.echo(
        f"{out}: {outcome.num_recordings} recordings, {outcome.hours:.3f} hours, {errors}; "
        f"{outcome.num_written} of {outcome.num_shards} shards written in "
        f"{outcome.seconds:.1f} seconds",
        err=True,
    )


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@click.option("--format", "suffix", default="wav", help="wav, flac, ... [wav]")
@click.option("-m", "--model", help="Model folder; otherwise the one the tokens name.")
@WORKERS
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def detokenize(
    source: Path, out: Path, suffix: str, model: str | None, workers: int | None, force: bool
) -> None:
    """Decode a folder of tokens, a shard of one or a .codes file to audio files."""
    with clear_errors():
        from codec.corpus.detokenize import detokenize as decode
        from codec.registry import load_model

        suffix = output_suffix(suffix)
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
