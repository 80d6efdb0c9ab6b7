"""``aecodec encode`` and ``aecodec decode``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from codec.bitrate import Bitrate, format_bitrate
from codec.cli import options
from codec.cli.errors import WrongUse, clear_errors, in_one_line
from codec.cli.jobs import Files
from codec.errors import CodecError
from codec.format.summary import StreamSummary
from codec.rate.modes import Average, Constant, FileSize, Quality, Rate

PATHS = click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
RATE = options.several(
    click.option(
        *("-b", "--bitrate"),
        type=options.bitrate,
        help="Mean of all bytes, per channel: 6000, 6k, 2.4k.",
    ),
    click.option(
        *("-k", "--codebooks"),
        type=click.IntRange(1, 255),
        help="The same number of codes in each frame. [all]",
    ),
    click.option("-q", "--quality", type=float, help="0 to 10: the same quality all through."),
    click.option("--file-size", type=options.size, help="At most, of each file: 1MB, 250kB, 5000."),
    click.option("--plain", is_flag=True, help="Without entropy coding: larger, the same audio."),
)
OUT_DIR = click.option("-d", "--out-dir", type=options.PATH, help="Folder for the outputs.")


def rate_of(
    bitrate: Bitrate | None,
    codebooks: int | None,
    quality: float | None,
    file_size: int | None,
    *,
    plain: bool,
) -> Rate:
    """The rate that the options ask for; `WrongUse` if they ask for several."""
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


@click.command()
@PATHS
@RATE
@click.option(
    "--effort", type=click.IntRange(0, 3), default=0, help="Search for better codes: slower. [0]"
)
@click.option("--mono", is_flag=True, help="Mix all channels to one.")
@OUT_DIR
@options.MODEL
@options.BACKEND
@options.THREADS
@options.FORCE
@options.removed(
    "--cbr", remedy="give the number of codes in each frame with --codebooks", is_flag=True
)
@options.removed("--target-size", remedy="give --file-size")
@options.removed("--engine", remedy="give --backend")
@options.removed("--frames-per-packet", remedy="packets of files last 2 seconds")
@options.gathered(rate=rate_of, files=Files, model=options.ModelChoice)
def encode(files: Files, rate: Rate, effort: int, mono: bool, model: options.ModelChoice) -> None:
    """Encode audio files to .codes files.

    Either one input and one output, or any number of files and folders with --out-dir.
    `-` is standard input or output.
    """
    with clear_errors():
        from codec.files.encode import encode_file
        from codec.io.audio import SUFFIXES

        pairs = files.pairs(".codes", SUFFIXES)
        loaded = model.load(for_files=len(pairs))

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        summary = encode_file(
            source,
            target,
            model=loaded,
            rate=rate,
            mono=mono,
            effort=effort,
            force=files.force,
            progress=progress,
        )
        click.echo(f"{in_one_line(target)}: {describe_rate(summary)}", err=True)

    files.run(pairs, run, at_once=model.threads)


@click.command()
@PATHS
@options.CODEBOOKS
@click.option(
    *("-r", "--sample-rate"), type=options.rate, help="Of the output, or 'model'. [original]"
)
@options.START
@options.END
@OUT_DIR
@click.option("--format", "suffix", help="wav, flac, ... [by the output's suffix, else wav]")
@options.STREAM_MODEL
@options.BACKEND
@options.THREADS
@options.FORCE
@options.removed(
    "-b", "--bitrate", remedy="give the number of codebooks to decode with --codebooks"
)
@options.removed("--engine", remedy="give --backend")
@options.gathered(files=Files, model=options.ModelChoice)
def decode(
    files: Files,
    codebooks: int | None,
    sample_rate: int | Literal["model"] | None,
    start: float,
    end: float | None,
    suffix: str | None,
    model: options.ModelChoice,
) -> None:
    """Decode .codes files to audio files; the format follows the output's suffix."""
    with clear_errors():
        from codec.files.decode import FileDecoder, format_of, write_audio
        from codec.format.reading import open_codes
        from codec.io.outputs import check_files

        if suffix is not None:
            suffix = options.output_suffix(suffix)
        pairs = files.pairs(suffix or ".wav", {".codes"})
        loaded = model.load(for_files=len(pairs)) if model != options.ModelChoice() else None

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        check_files(source, target)
        with open_codes(source) as file:
            span = start, end
            decoding = FileDecoder(file, str(source), loaded, codebooks, sample_rate, span)
            form = suffix or format_of(target)
            write_audio(decoding, target, form, force=files.force, progress=progress)
        if damage := decoding.summary.damage():
            raise CodecError(f"{damage}; the rest was decoded to {target}")

    files.run(pairs, run, at_once=model.threads)


def describe_rate(summary: StreamSummary) -> str:
    header = summary.header
    text = f"{'up to ' * header.variable}{header.num_codebooks} codebooks"
    if summary.bitrate is not None:
        text += f"; {format_bitrate(round(summary.bitrate))}"
        text += " per channel" * (header.channels > 1)
    return text
