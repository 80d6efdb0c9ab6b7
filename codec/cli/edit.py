"""``aecodec cut``, ``concat``, ``peel`` and ``verify``: streams without decoding."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from codec.cli import options
from codec.cli.errors import Failure, WrongUse, clear_errors, in_one_line

SOURCE = click.argument("source", type=options.PATH, metavar="IN")
TARGET = click.argument("target", type=options.PATH, metavar="OUT")


@click.command()
@SOURCE
@TARGET
@options.START
@options.END
@options.STREAM_MODEL
@options.FORCE_ONE
def cut(
    source: Path, target: Path, start: float, end: float | None, model: str | None, force: bool
) -> None:
    """Cut a part out of a .codes file, exact to the sample."""
    with clear_errors():
        from codec.files.edit import cut_file

        cut_file(source, target, span=(start, end), model=model, force=force)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=options.PATH, metavar="IN... OUT")
@options.FORCE_ONE
def concat(paths: tuple[Path, ...], force: bool) -> None:
    """Join .codes files of one model, sampling rate and number of channels."""
    if len(paths) < 2:
        raise WrongUse("name one or more inputs, and the output")
    with clear_errors():
        from codec.files.edit import concat_files

        concat_files(paths[:-1], paths[-1], force=force)


@click.command()
@SOURCE
@TARGET
@options.CODEBOOKS
@options.STREAM_MODEL
@options.FORCE_ONE
@options.removed("-b", "--bitrate", remedy="give the number of codebooks to keep with --codebooks")
def peel(source: Path, target: Path, codebooks: int | None, model: str | None, force: bool) -> None:
    """Lower the bitrate of a .codes file by dropping its upper codebooks."""
    if codebooks is None:
        raise WrongUse("give the number of codebooks to keep with --codebooks")
    with clear_errors():
        from codec.files.edit import peel_file

        peel_file(source, target, codebooks=codebooks, model=model, force=force)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=options.PATH, metavar="FILE...")
def verify(paths: tuple[Path, ...]) -> None:
    """Check every checksum of .codes files; exit with status 1 if one is damaged."""
    from codec.format.reading import summarize_file

    failed = False
    for path in paths:
        try:
            with clear_errors():
                damage = summarize_file(path).damage()
        except Failure as failure:
            damage = failure.message
        click.echo(in_one_line(f"{path}: {damage or 'undamaged'}"))
        failed = failed or damage is not None
    if failed:
        sys.exit(1)
