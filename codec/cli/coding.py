"""``aecodec encode`` and ``aecodec decode``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from codec.bitrate import Bitrate, format_bitrate
from codec.cli.errors import clear_errors, in_one_line
from codec.cli.jobs import list_jobs, run_jobs
from codec.cli.options import (
    ENGINE,
    THREADS,
    BitrateType,
    ByteSize,
    OutputRate,
    Seconds,
    output_suffix,
)
from codec.engines.names import Backend
from codec.errors import CodecError
from codec.format.summary import StreamSummary
from codec.model_folder import DEFAULT_MODEL


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option("-b", "--bitrate", type=BitrateType(), help="Per channel: 6000, 6k, 2.4k. [highest]")
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option("--mono", is_flag=True, help="Mix all channels to one.")
@click.option("--frames-per-packet", type=click.IntRange(1, 65535), help="[2 seconds' worth]")
@click.option("--cbr", is_flag=True, help="The same number of codes in every frame.")
@click.option("-q", "--quality", type=float, help="0 to 10, in place of a bitrate.")
@click.option("--target-size", type=ByteSize(), help="Of the whole file: 1MB, 250kB, 5000.")
@click.option(
    "--effort", type=click.IntRange(0, 3), default=0, help="Search for better codes: slower. [0]"
)
@click.option("--plain", is_flag=True, help="Without entropy coding: larger, the same audio.")
@click.option(
    "-m", "--model", default=DEFAULT_MODEL, help="Packaged model, folder, or e.g. encodec=FOLDER."
)
@ENGINE
@THREADS
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def encode(
    paths: tuple[str, ...],
    bitrate: Bitrate | None,
    out_dir: Path | None,
    mono: bool,
    frames_per_packet: int | None,
    cbr: bool,
    quality: float | None,
    target_size: int | None,
    effort: int,
    plain: bool,
    model: str,
    engine: Backend | None,
    threads: int,
    force: bool,
) -> None:
    """Encode audio files to .codes files.

    Either one input and one output, or any number of files and folders with --out-dir.
    `-` is standard input or output.
    """
    with clear_errors():
        jobs = list_jobs(paths, out_dir, ".codes", is_audio)
        from codec.files import encode_file
        from codec.registry import load_model

        loaded = load_model(model, backend=engine, threads=threads)
        loaded.spec.codebooks_for(bitrate)

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        summary = encode_file(
            source,
            target,
            model=loaded,
            bitrate=bitrate,
            mono=mono,
            frames_per_packet=frames_per_packet,
            entropy_coding=not plain,
            variable=False if cbr else None,
            quality=quality,
            target_bytes=target_size,
            effort=effort,
            force=force,
            progress=progress,
        )
        click.echo(f"{in_one_line(target)}: {describe_rate(summary)}", err=True)

    run_jobs(jobs, run, make_folders=out_dir is not None)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option(
    "-b", "--bitrate", type=BitrateType(), help="Decode at most this bitrate of each channel."
)
@click.option(
    "-r", "--sample-rate", type=OutputRate(), help="Of the output, or 'model'. [original]"
)
@click.option("--from", "start", type=Seconds(), default=0.0, help="Seconds, or 1:05.5. [0]")
@click.option("--to", "end", type=Seconds(), help="Seconds, or 1:05.5. [the end]")
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option("--format", "suffix", help="wav, flac, ... [by the output's suffix, else wav]")
@click.option("-m", "--model", help="Model folder; otherwise the one the stream names.")
@ENGINE
@THREADS
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def decode(
    paths: tuple[str, ...],
    bitrate: Bitrate | None,
    sample_rate: int | Literal["model"] | None,
    start: float,
    end: float | None,
    out_dir: Path | None,
    suffix: str | None,
    model: str | None,
    engine: Backend | None,
    threads: int,
    force: bool,
) -> None:
    """Decode .codes files to audio files; the format follows the output's suffix."""
    with clear_errors():
        from codec.files import decode_file
        from codec.registry import load_model

        if suffix is not None:
            suffix = output_suffix(suffix)
        jobs = list_jobs(paths, out_dir, suffix or ".wav", is_codes)
        loaded = None
        if model or engine or threads > 1:
            loaded = load_model(model or DEFAULT_MODEL, backend=engine, threads=threads)

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        summary = decode_file(
            source,
            target,
            model=loaded,
            bitrate=bitrate,
            sample_rate=sample_rate,
            suffix=suffix,
            start=start,
            end=end,
            force=force,
            progress=progress,
        )
        if damage := summary.damage():
            raise CodecError(f"{damage}; the rest was decoded to {target}")

    run_jobs(jobs, run, make_folders=out_dir is not None)


def describe_rate(summary: StreamSummary) -> str:
    """Payload and file bitrate of what was written."""
    header = summary.header
    text = (
        f"{header.num_codebooks} codebooks, "
        f"{format_bitrate(header.bitrate / header.channels)} per channel"
    )
    if header.variable:
        text = f"up to {header.num_codebooks} codebooks"
    if summary.duration_seconds:
        payload, file = summary.payload_bitrate, 8 * summary.num_bytes / summary.duration_seconds
        text += f"; payload {format_bitrate(round(payload))}, file {format_bitrate(round(file))}"
    return text


def is_audio(path: Path) -> bool:
    from codec.io.audio import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def is_codes(path: Path) -> bool:
    return path.suffix.lower() == ".codes"
