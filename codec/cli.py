"""The ``aecodec`` command. Results go to stdout, everything else to stderr.

Exit status: 0 done, 1 could not (one line says why), 2 wrong usage. Modules that need torch are
imported inside the commands that need them, so that ``--help`` and ``info`` answer at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import codec
from codec.config import Bitrate, CodecConfig, format_bitrate, parse_bitrate
from codec.errors import CodecError, ConfigError
from codec.format.reading import Scan, scan_file

if TYPE_CHECKING:
    from codec.format.container import Header
    from codec.network.model import Codec
    from train.recipe.sections import TrainConfig

# What `pip install "aecodec[train]"` adds.
EXTRA_MODULES = {"lightning_fabric", "librosa", "matplotlib", "pystoi", "scipy", "tensorboard"}

POSITIVE = click.FloatRange(min=0, min_open=True)


class Failure(click.ClickException):
    """One line on stderr, exit status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"aecodec: {self.message}", err=True)


class WrongUse(Failure):
    """One line on stderr, exit status 2."""

    exit_code = 2


class BitrateType(click.ParamType[Bitrate]):
    """``6000``, ``6k`` or ``2.4k``."""

    name = "bitrate"

    def convert(self, value: Any, param: Any, ctx: Any) -> Bitrate:
        try:
            return value if isinstance(value, int | Fraction) else parse_bitrate(value)
        except ConfigError as error:
            raise WrongUse(str(error)) from error


class OutputRate(click.ParamType[int | Literal["model"]]):
    """A number of samples per second, or ``model``."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | Literal["model"]:
        if value == "model":
            return "model"
        if not str(value).isdecimal() or not 1000 <= int(value) <= 384_000:
            raise WrongUse(
                f"sample rate {value!r}: give samples per second (1000 to 384000) or 'model'"
            )
        return int(value)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what can go wrong into one clear line."""
    try:
        yield
    except CodecError as error:
        raise Failure(str(error)) from error
    except BrokenPipeError as error:
        raise Failure("the reader of the output went away") from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        reason = error.strerror or error
        raise Failure(f"cannot read or write{where}: {reason}; choose another place") from error
    except MemoryError as error:
        raise Failure("not enough memory: close other programs, or use fewer channels") from error
    except RuntimeError as error:
        # Torch's own ways to say it; anything else is a bug, and shows itself as one.
        if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
            raise
        raise Failure(
            "not enough memory: close other programs; in training, lower data.batch_size or "
            "data.crop_frames"
        ) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(codec.__version__, prog_name="aecodec")
def main() -> None:
    """A neural audio codec: sound to a few kilobits per second and back."""
    # Ended by another program, as by Ctrl-C: leave nothing half-written.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option(
    "-b", "--bitrate", type=BitrateType(), help="Per channel: 6000, 6k, 2.4k. [the highest]"
)
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option("--mono", is_flag=True, help="Mix all channels to one.")
@click.option("--frames-per-packet", type=click.IntRange(1, 65535), help="[2 seconds' worth]")
@click.option("-m", "--model", help="Model folder or packaged model.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def encode(
    paths: tuple[str, ...],
    bitrate: Bitrate | None,
    out_dir: Path | None,
    mono: bool,
    frames_per_packet: int | None,
    model: str | None,
    force: bool,
) -> None:
    """Encode audio files to .codes files.

    Either one input and one output, or any number of files and folders with --out-dir.
    `-` is standard input or output.
    """
    with clear_errors():
        jobs = list_jobs(paths, out_dir, ".codes", is_audio)
        from codec.files import encode_file
        from codec.network.weights import load_codec
        from codec.registry import DEFAULT_MODEL

        loaded = load_codec(model or DEFAULT_MODEL)
        loaded.config.codebooks_for(bitrate)

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        scan = encode_file(
            loaded,
            source,
            target,
            bitrate=bitrate,
            mono=mono,
            frames_per_packet=frames_per_packet,
            force=force,
            progress=progress,
        )
        click.echo(f"{target}: {describe_rate(scan)}", err=True)

    run_jobs(jobs, run, make_folders=out_dir is not None)


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option(
    "-b", "--bitrate", type=BitrateType(), help="Decode at most this much of each channel."
)
@click.option(
    "-r", "--sample-rate", type=OutputRate(), help="Of the output, or 'model'. [as it was]"
)
@click.option("-d", "--out-dir", type=click.Path(path_type=Path), help="Folder for the outputs.")
@click.option("--format", "suffix", help="wav, flac, ... [by the output's suffix, else wav]")
@click.option("-m", "--model", help="Model folder; otherwise the one the stream names.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def decode(
    paths: tuple[str, ...],
    bitrate: Bitrate | None,
    sample_rate: int | Literal["model"] | None,
    out_dir: Path | None,
    suffix: str | None,
    model: str | None,
    force: bool,
) -> None:
    """Decode .codes files to audio files; the format follows the output's suffix."""
    with clear_errors():
        from codec.files import decode_file
        from codec.io.audio import FORMATS

        if suffix is not None:
            suffix = f".{suffix.lower().lstrip('.')}"
            if suffix not in FORMATS:
                names = ", ".join(name[1:] for name in FORMATS)
                raise WrongUse(f"format {suffix[1:]!r} is unknown: give one of {names}")
        jobs = list_jobs(paths, out_dir, suffix or ".wav", is_codes)

    loaded: dict[bytes, Codec] = {}

    def codec_for(header: Header) -> Codec:
        if header.fingerprint not in loaded:
            from codec.network.weights import load_codec
            from codec.registry import DEFAULT_MODEL, find_by_fingerprint

            found = model or find_by_fingerprint(header.fingerprint) or DEFAULT_MODEL
            loaded[header.fingerprint] = load_codec(found)
        return loaded[header.fingerprint]

    def run(source: Path, target: Path, progress: Callable[[float], None]) -> None:
        scan = decode_file(
            codec_for,
            source,
            target,
            bitrate=bitrate,
            sample_rate=sample_rate,
            suffix=suffix,
            force=force,
            progress=progress,
        )
        if damage := scan.damage():
            raise CodecError(f"{damage}; the rest was decoded to {target}")

    run_jobs(jobs, run, make_folders=out_dir is not None)


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("-m", "--model", help="Describe this model (a folder, or a packaged name).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(paths: tuple[Path, ...], model: str | None, as_json: bool) -> None:
    """Describe .codes files, checking them without decoding; or a model."""
    if not paths and model is None:
        model = ""
    failed = False
    if model is not None:
        with clear_errors():
            show(model_facts(model), as_json)
    for path in paths:
        try:
            with clear_errors():
                scan = scan_file(path)
        except Failure as failure:
            failed = True
            click.echo(f"aecodec: {about(path, failure)}", err=True)
            continue
        with clear_errors():
            show(stream_facts(path, scan), as_json)
        failed = failed or scan.damage() is not None
    if failed:
        sys.exit(1)


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `train` and `finetune` have in common."""
    folder = click.Path(path_type=Path)
    options = [
        click.option("--data", required=True, type=folder, help="Folder of training audio."),
        click.option("--out", type=folder, help="Folder for the model, and for all of the run."),
        click.option("--valid", type=folder, help="Audio to measure on. [some files of --data]"),
        click.option("--minutes", type=POSITIVE, help="Wall-clock budget."),
        click.option(
            "-s", "--set", "overrides", multiple=True, help="Replace a value: optimizer.lr=3e-4."
        ),
        click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out."),
        click.option("--dry-run", is_flag=True, help="Show what would be trained, and on what."),
        click.option("--device", default="auto", help="auto, cpu, cuda or mps."),
        click.option("--devices", type=click.IntRange(min=1), default=1, help="How many of them."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.argument("recipe")
@training_options
def train(recipe: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Train a codec by RECIPE, a packaged name or a TOML file."""
    with clear_errors(), training_packages():
        from train.recipe.sections import load_recipe

        run_training(load_recipe(recipe, overrides), **options)


@main.command()
@click.argument("model")
@click.option("--recipe", help="Train by this one. [the recipe that made the model]")
@click.option("--freeze", multiple=True, help="Keep encoder, quantizer or decoder as they are.")
@training_options
def finetune(
    model: str,
    recipe: str | None,
    freeze: tuple[str, ...],
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Train MODEL on, a packaged name or a folder.

    With --freeze encoder --freeze quantizer only the decoder changes, and every file that MODEL
    has coded stays valid.
    """
    with clear_errors(), training_packages():
        from train.recipe.sections import recipe_of_model

        own = options["out"] and options["out"] / "training" / "recipe.toml"
        if options["resume"] and recipe is None and own and own.exists():
            recipe = str(own)  # what was frozen when the run began stays frozen
        loaded = recipe_of_model(model, recipe, overrides, freeze)
        run_training(loaded, initial_model=None if options["resume"] else model, **options)


def run_training(
    recipe: TrainConfig,
    *,
    data: Path,
    out: Path | None,
    devices: int,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train, or only tell what would be."""
    if dry_run:
        from codec.corpus.index import scan
        from train.report.dry_run import describe

        click.echo(describe(recipe, scan(data)))
        return
    if out is None:
        raise WrongUse("give --out, a folder for the model and for all of the run")
    from train.run.loop import fit

    log_to_stderr()
    if fit(recipe, data, out, num_devices=devices, **options):
        click.echo(out)


def log_to_stderr() -> None:
    """Let people see what training and measuring have to say, and nothing of their machinery."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@contextmanager
def training_packages() -> Iterator[None]:
    """Say how to install what only training needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRA_MODULES:
            raise
        raise Failure(
            f'training needs {error.name}, which is not installed: pip install "aecodec[train]"'
        ) from error


@main.command()
@click.argument("model")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-b", "--bitrates", help="Per channel: 1.5k,3k,6k. [the lowest, a quarter, half and all]"
)
@click.option("--seconds", type=POSITIVE, default=30.0, help="Take so much of each file. [30]")
@click.option("--every", type=click.IntRange(1), default=1, help="Take every n-th file only.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write JSON, too.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
def evaluate(
    model: str,
    folder: Path,
    bitrates: str | None,
    seconds: float,
    every: int,
    json_path: Path | None,
    force: bool,
) -> None:
    """Measure MODEL on the recordings in DIR, by class of sound and bitrate.

    The class of a file is the folder that it lies in, or else its name up to the first
    underscore. STOI is about speech, and says little of other sounds.
    """
    convert = BitrateType().convert
    wanted = [convert(each, None, None) for each in bitrates.split(",")] if bitrates else None
    log_to_stderr()
    with clear_errors(), training_packages():
        from codec.files import atomic_output
        from codec.network.weights import load_codec
        from codec.quality.evaluate import evaluate as measure

        if json_path is not None and json_path.exists() and not force:
            raise CodecError(f"{json_path} exists: give --force to replace it")
        found = measure(
            load_codec(model),
            folder,
            wanted,
            seconds=seconds,
            every=every,
            processes=os.cpu_count() or 1,
        )
        click.echo(found.table())
        if json_path is not None:
            with atomic_output(json_path, force=force) as file:
                file.write(json.dumps(found.to_dict(), indent=1).encode() + b"\n")


@main.command()
@click.argument("model")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="For the pictures.")
@click.option("--seconds", type=POSITIVE, default=30.0, help="Take so much of each file. [30]")
@click.option("--every", type=click.IntRange(1), default=1, help="Take every n-th file only.")
@click.option("-f", "--force", is_flag=True, help="Replace existing files.")
def inspect(model: str, folder: Path, out: Path, seconds: float, every: int, force: bool) -> None:
    """Draw how MODEL does on the recordings in DIR.

    Use of the codebooks, a map of the latents, and the error of every file, the worst first.
    """
    log_to_stderr()
    with clear_errors(), training_packages():
        from codec.network.weights import load_codec
        from codec.quality.inspect import inspect as draw

        written = draw(
            load_codec(model),
            folder,
            out,
            seconds=seconds,
            every=every,
            force=force,
            processes=os.cpu_count() or 1,
        )
    for path in written:
        click.echo(path)


def list_jobs(
    paths: tuple[str, ...], out_dir: Path | None, suffix: str, wanted: Callable[[Path], bool]
) -> list[tuple[Path, Path]]:
    """Inputs and outputs that the arguments name; folders are searched for ``wanted`` files."""
    if out_dir is None:
        if len(paths) != 2:
            raise WrongUse("name one input and one output, or any number of inputs and --out-dir")
        if paths[1].endswith("/"):
            raise CodecError(f"{paths[1]} is a folder: name a file in it, or give --out-dir")
        return [(Path(paths[0]), Path(paths[1]))]
    if out_dir.exists() and not out_dir.is_dir():
        raise CodecError(f"{out_dir} is a file: give a folder to --out-dir")
    jobs: dict[Path, Path] = {}
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(entry for entry in path.rglob("*") if entry.is_file() and wanted(entry))
            if not found:
                raise CodecError(f"{path} holds no file to work on: name files, or another folder")
        for source in found:
            inner = source.relative_to(path) if path.is_dir() else Path(source.name)
            target = out_dir / inner.with_suffix(suffix)
            if jobs.get(target, source) != source:
                raise CodecError(
                    f"{jobs[target]} and {source} would both become {target}: "
                    "use another --out-dir for one of them"
                )
            jobs[target] = source
    return [(source, target) for target, source in jobs.items()]


def run_jobs(
    jobs: list[tuple[Path, Path]],
    run: Callable[[Path, Path, Callable[[float], None]], None],
    *,
    make_folders: bool,
) -> None:
    """Run every job; a bad file is reported and the others go on."""
    failures = []
    for source, target in jobs:
        try:
            with clear_errors(), progress_bar(source.name) as progress:
                if make_folders:
                    target.parent.mkdir(parents=True, exist_ok=True)
                run(source, target, progress)
        except Failure as failure:
            if len(jobs) == 1:
                raise
            failures.append(source)
            click.echo(f"aecodec: {about(source, failure)}", err=True)
    if failures:
        names = ", ".join(map(str, failures))
        raise Failure(f"{len(failures)} of {len(jobs)} files failed: {names}")


def about(path: Path, failure: Failure) -> str:
    """The message, with the file that it is about."""
    return failure.message if str(path) in failure.message else f"{path}: {failure.message}"


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing otherwise."""
    from tqdm import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=1.0, desc=name, leave=False, disable=None, bar_format=layout) as bar:

        def progress(share: float) -> None:
            bar.n = share
            bar.refresh()

        yield progress


def describe_rate(scan: Scan) -> str:
    """Payload and file bitrate of what was written."""
    header = scan.header
    text = (
        f"{header.num_codebooks} codebooks, "
        f"{format_bitrate(header.bitrate / header.channels)} per channel"
    )
    if scan.duration_seconds:
        file_rate = 8 * scan.num_bytes / scan.duration_seconds
        text += (
            f"; payload {format_bitrate(header.bitrate)}, file {format_bitrate(round(file_rate))}"
        )
    return text


def stream_facts(path: Path, scan: Scan) -> dict[str, Any]:
    header = scan.header
    seconds = scan.duration_seconds
    return {
        "file": str(path),
        "duration_seconds": round(seconds, 6),
        "num_samples": scan.num_samples,
        "sample_rate": header.original_sample_rate,
        "channels": header.channels,
        "num_codebooks": header.num_codebooks,
        "payload_bitrate": float(header.bitrate),
        "file_bitrate": round(8 * scan.num_bytes / seconds) if seconds else None,
        "bytes": scan.num_bytes,
        "packets": scan.num_packets,
        "frames_per_packet": header.frames_per_packet,
        "model_sample_rate": header.sample_rate,
        "hop_length": header.hop_length,
        "model_fingerprint": header.fingerprint.hex(),
        "damage": scan.damage(),
    }


def model_facts(model: str) -> dict[str, Any]:
    from codec.registry import DEFAULT_MODEL, find_model, read_description

    folder = find_model(model or DEFAULT_MODEL)
    description = read_description(folder)
    config = CodecConfig.from_dict(description["codec"])
    return {
        "model": description["name"],
        "folder": str(folder),
        "fingerprint": description["fingerprint"],
        "sample_rate": config.sample_rate,
        "frame_rate": float(config.frame_rate),
        "bottleneck": config.bottleneck,
        "bitrates": [float(bitrate) for bitrate in config.bitrates],
        "algorithmic_latency_ms": round(1000 * config.latency_seconds, 3),
        "weights_bytes": (folder / "weights.safetensors").stat().st_size,
    }


def show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, list):
            value = " ".join(f"{item:g}" for item in value) or None
        click.echo(f"{name.replace('_', ' '):<{width}}  {'-' if value is None else value}")


def is_audio(path: Path) -> bool:
    from codec.io.audio import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def is_codes(path: Path) -> bool:
    return path.suffix.lower() == ".codes"


if __name__ == "__main__":
    main()
