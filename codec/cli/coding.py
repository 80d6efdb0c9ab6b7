"""``aecodec encode`` and ``aecodec decode``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from codec.bitrate import Bitrate, format_bitrate
from codec.cli.errors import WrongUse, clear_errors, in_one_line
from codec.cli.jobs import list_jobs, run_jobs
from codec.cli.options import (
    BACKEND,
    CODEBOOKS,
    END,
    START,
    THREADS,
    BitrateType,
    ByteSize,
    OutputRate,
    output_suffix,
    removed,
)
from codec.engines.names import Backend
from codec.errors import CodecError
from codec.format.summary import StreamSummary
from codec.model_folder import DEFAULT_MODEL
from codec.rate.modes import Average, Constant, FileSize, Quality, Rate


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option(
    "-b", "--bitrate", type=BitrateType(), help="Mean of all bytes, per channel: 6000, 6k, 2.4k."
)
@click.option(
    *("-k", "--codebooks"),
    type=click.IntRange(1, 255),
    help="The same number of codes in each frame. [all]",
)
@click.option("-q", "--quality", type=float, help="0 to 10: the same quality all through.")
@click.option("--file-size", type=ByteSize(), help="At most, of each file: 1MB, 250kB, 5000.")
@click.option("--plain", is_flag=True, help="Without entropy coding: larger, the same audio.")
@click.option(
    "--effort", type=click.IntRange(0, 3), default=0, help="Search for better codes: slower. [0]"
)
@click.option("--mono", is_flag=True, help="Mix all channels to one.")
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option(
    "-m", "--model", default=DEFAULT_MODEL, help="Packaged model, folder, or e.g. encodec=FOLDER."
)
@BACKEND
@THREADS
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@removed("--cbr", remedy="give the number of codes in each frame with --codebooks", is_flag=True)
@removed("--target-size", remedy="give --file-size")
@removed("--engine", remedy="give --backend")
@removed("--frames-per-packet", remedy="packets of files last 2 seconds")
def encode(
    paths: tuple[str, ...],
    bitrate: Bitrate | None,
    codebooks: int | None,
    quality: float | None,
    file_size: int | None,
    plain: bool,
    effort: int,
    mono: bool,
    out_dir: Path | None,
    model: str,
    backend: Backend | None,
    threads: int,
    force: bool,
) -> None:
    """Encode audio files to .codes files.

    Either one input and one output, or any number of files and folders with --out-dir.
    `-` is standard input or output.
    """
    with clear_errors():
        rate = rate_of(bitrate, codebooks, quality, file_size, plain=plain)
        jobs = list_jobs(paths, out_dir, ".codes", is_audio)
        from codec.files.encode import encode_file
        from codec.registry import load_model

        loaded = load_model(model, backend=backend, threads=threads)

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        summary = encode_file(
            source,
            target,
            model=loaded,
            rate=rate,
            mono=mono,
            effort=effort,
            force=force,
            progress=progress,
        )
        click.echo(f"{in_one_line(target)}: {describe_rate(summary)}", err=True)

    run_jobs(jobs, run, make_folders=out_dir is not None)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@CODEBOOKS
@click.option(
    "-r", "--sample-rate", type=OutputRate(), help="Of the output, or 'model'. [original]"
)
@START
@END
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option("--format", "suffix", help="wav, flac, ... [by the output's suffix, else wav]")
@click.option("-m", "--model", help="Model folder; otherwise the one the stream names.")
@BACKEND
@THREADS
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
@removed("-b", "--bitrate", remedy="give the number of codebooks to decode with --codebooks")
@removed("--engine", remedy="give --backend")
def decode(
    paths: tuple[str, ...],
    codebooks: int | None,
    sample_rate: int | Literal["model"] | None,
    start: float,
    end: float | None,
    out_dir: Path | None,
    suffix: str | None,
    model: str | None,
    backend: Backend | None,
    threads: int,
    force: bool,
) -> None:
    """Decode .codes files to audio files; the format follows the output's suffix."""
    with clear_errors():
        from codec.files.decode import FileDecoder, format_of, write_audio
        from codec.format.reading import open_codes
        from codec.io.outputs import check_files
        from codec.registry import load_model

        if suffix is not None:
            suffix = output_suffix(suffix)
        jobs = list_jobs(paths, out_dir, suffix or ".wav", is_codes)
        loaded = None
        if model or backend or threads > 1:
            loaded = load_model(model or DEFAULT_MODEL, backend=backend, threads=threads)

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        check_files(source, target)
        with open_codes(source) as file:
            span = start, end
            decoding = FileDecoder(file, str(source), loaded, codebooks, sample_rate, span)
            form = suffix or format_of(target)
            write_audio(decoding, target, form, force=force, progress=progress)
        if damage := decoding.summary.damage():
            raise CodecError(f"{damage}; the rest was decoded to {target}")

    run_jobs(jobs, run, make_folders=out_dir is not None)


def rate_of(
    bitrate: Bitrate | None,
    codebooks: int | None,
    quality: float | None,
    file_size: int | None,
    *,
    plain: bool,
) -> Rate:
    """The rate that the options ask for.

    Raises:
        WrongUse: they ask for several.
    """
    given = {
        "--bitrate": None if bitrate is None else Average(bitrate),
        "--codebooks": None if codebooks is None else Constant(codebooks, plain=plain),
        "--quality": None if quality is None else Quality(quality),
        "--file-size": None if file_size is None else FileSize(file_size),
    }
    rates = {name: rate for name, rate in given.items() if rate is not None}
    if len(rates) > 1:
        raise WrongUse(f"{' and '.join(rates)} are given: give one of them")
    rate = next(iter(rates.values()), Constant(plain=plain))
    if plain and not isinstance(rate, Constant):
        raise WrongUse(f"--plain has no {next(iter(rates))}: give --codebooks with it")
    return rate


def describe_rate(summary: StreamSummary) -> str:
    """The number of codebooks and the bitrate of what was written."""
    header = summary.header
    text = f"{'up to ' * header.variable}{header.num_codebooks} codebooks"
    if summary.bitrate is not None:
        text += f"; {format_bitrate(round(summary.bitrate))}"
        text += " per channel" * (header.channels > 1)
    return text


def is_audio(path: Path) -> bool:
    from codec.io.audio import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def is_codes(path: Path) -> bool:
    return path.suffix.lower() == ".codes"
