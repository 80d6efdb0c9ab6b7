"""``aecodec evaluate`` and ``aecodec inspect``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from codec.cli import options
from codec.cli.errors import clear_errors
from codec.errors import optional_packages
from codec.io.outputs import atomic_output, check_writable

MODEL = click.argument("model")
FOLDER = click.argument("folder", metavar="DIR", type=options.PATH)
SECONDS = click.option(
    "--seconds", type=options.POSITIVE, default=30.0, help="Length taken of each file. [30]"
)
EVERY = click.option("--every", type=click.IntRange(1), default=1, help="Take every n-th file.")


@click.command()
@MODEL
@FOLDER
@click.option(
    *("-k", "--codebooks"),
    type=options.counts,
    help="Plain codes of so many codebooks: 3,6,12. [one, a quarter, half, all]",
)
@SECONDS
@EVERY
@click.option(
    "--naturalness/--no-naturalness",
    default=True,
    help="Measure DNSMOS, PLCMOS and the similarity of speakers too, which takes most of the time, "
    "if their packages are installed (speechmos, resemblyzer). [yes]",
)
@options.removed("-b", "--bitrates", remedy="give numbers of codebooks with --codebooks")
@options.BACKEND
@click.option("--json", "json_path", type=options.PATH, help="Write JSON as well.")
@options.FORCE_ONE
@options.gathered(model=options.ModelChoice)
def evaluate(
    model: options.ModelChoice,
    folder: Path,
    codebooks: tuple[int, ...] | None,
    seconds: float,
    every: int,
    naturalness: bool,
    json_path: Path | None,
    force: bool,
) -> None:
    """Measure MODEL on the recordings in DIR, by class of sound and bitrate.

    The class of a recording is the first folder in DIR that it lies in, or else its name up to
    the first underscore. STOI, DNSMOS, PLCMOS, the similarity of speakers and the contrast of
    harmonics (to 1.5, 4 and 8 kHz, less that of the original) are measures for speech and mean
    little for other sounds. DNSMOS and PLCMOS hear only the decoded audio.
    """
    options.log_to_stderr()
    with clear_errors(), optional_packages("evaluation", "evaluate"):
        from codec.evaluation.evaluate import evaluate as measure

        if json_path is not None:
            check_writable(json_path, force=force)
        found = measure(
            model.load(),
            folder,
            codebooks,
            seconds=seconds,
            every=every,
            naturalness=naturalness,
            processes=os.cpu_count() or 1,
        )
        click.echo(found.table())
        if json_path is not None:
            with atomic_output(json_path, force=force) as file:
                file.write(json.dumps(found.to_dict(), indent=1).encode() + b"\n")


@click.command()
@MODEL
@FOLDER
@click.option("--out", required=True, type=options.PATH, help="For the pictures.")
@SECONDS
@EVERY
@options.FORCE
def inspect(model: str, folder: Path, out: Path, seconds: float, every: int, force: bool) -> None:
    """Draw how MODEL codes the recordings in DIR.

    Writes pictures of the use of the codebooks, a map of the latents, and the error of every
    file, the worst first.
    """
    options.log_to_stderr()
    with clear_errors(), optional_packages("inspection", "evaluate"):
        from codec.evaluation.inspect import inspect as draw

        written = draw(
            options.ModelChoice(model, "torch").load(),
            folder,
            out,
            seconds=seconds,
            every=every,
            force=force,
            processes=os.cpu_count() or 1,
        )
    for path in written:
        click.echo(path)
