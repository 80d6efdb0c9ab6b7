"""``aecodec info``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from codec.cli.errors import Failure, WrongUse, clear_errors, in_one_line
from codec.config import CodecConfig
from codec.format.reading import summarize_file
from codec.format.summary import StreamSummary
from codec.model_folder import (
    DEFAULT_MODEL,
    WEIGHTS,
    find_by_fingerprint,
    find_model,
    read_description,
)
from codec.registry import default_backend, pretrained_source


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("-m", "--model", help="Describe this model (a folder, or a packaged name).")
@click.option("--packets", is_flag=True, help="List the packets of the files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(paths: tuple[Path, ...], model: str | None, packets: bool, as_json: bool) -> None:
    """Describe .codes files, checked without decoding, or a model."""
    if packets and Path("-") in paths:
        raise WrongUse("packets are listed from files, not from standard input")
    if not paths and model is None:
        model = ""
    failed = False
    names: dict[str, str] = {}
    if model is not None:
        with clear_errors():
            facts = model_facts(model)
            names[facts["fingerprint"]] = facts["model"]
            show(facts, as_json)
    for path in paths:
        try:
            with clear_errors():
                summary = summarize_file(path)
                show(stream_facts(path, summary, names), as_json)
                if packets:
                    show_packets(path, model, as_json)
        except Failure as failure:
            failed = True
            click.echo(f"aecodec: {in_one_line(failure.about(path))}", err=True)
        else:
            failed = failed or summary.damage() is not None
    if failed:
        sys.exit(1)


def stream_facts(path: Path, summary: StreamSummary, names: dict[str, str]) -> dict[str, Any]:
    header = summary.header
    packaged = find_by_fingerprint(header.fingerprint)
    name = read_description(packaged)["name"] if packaged else None
    seconds = summary.duration_seconds
    return {
        "file": str(path),
        "duration_seconds": round(seconds, 6),
        "num_samples": summary.num_samples,
        "sample_rate": header.original_sample_rate,
        "channels": header.channels,
        "num_codebooks": header.num_codebooks,
        "codebook_sizes": [each.size for each in header.codebooks],
        "codes_per_frame": [each.per_frame for each in header.codebooks],
        "channels_coded_together": header.channels_coded_together,
        "bitrate": None if summary.bitrate is None else round(summary.bitrate),
        "payload_bitrate": round(float(summary.payload_bitrate), 3),
        "bits_per_frame": summary.bits_distribution(),
        "bytes": summary.num_bytes,
        "packets": summary.num_packets,
        "frames_per_packet": header.frames_per_packet,
        "model_sample_rate": header.sample_rate,
        "hop_length": header.hop_length,
        "entropy_coding": bool(header.context),
        "variable": header.variable,
        "model": names.get(header.fingerprint.hex(), name),
        "model_fingerprint": header.fingerprint.hex(),
        "damage": summary.damage(),
    }


def model_facts(model: str) -> dict[str, Any]:
    if pretrained_source(model):
        return pretrained_facts(model)
    folder = find_model(model or DEFAULT_MODEL)
    description = read_description(folder)
    config = CodecConfig.from_dict(description["codec"])
    latency = config.hop_length + description["delay"]
    return {
        "model": description["name"],
        "folder": str(folder),
        "fingerprint": description["fingerprint"],
        "sample_rate": config.sample_rate,
        "frame_rate": float(config.frame_rate),
        "bottleneck": config.bottleneck,
        "plain_bitrates": [float(bitrate) for bitrate in config.plain_bitrates],
        "algorithmic_latency_ms": round(1000 * latency / config.sample_rate, 3),
        "weights_bytes": (folder / WEIGHTS).stat().st_size,
        "backend": default_backend(folder),
    }


def pretrained_facts(model: str) -> dict[str, Any]:
    from codec.registry import load_model

    spec = load_model(model).spec
    return {
        "model": spec.name,
        "fingerprint": spec.fingerprint.hex(),
        "sample_rate": spec.sample_rate,
        "frame_rate": float(spec.frame_rate),
        "plain_bitrates": [float(bitrate) for bitrate in spec.plain_bitrates],
        "algorithmic_latency_ms": round(1000 * spec.latency / spec.sample_rate, 3),
    }


def show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, list):
            value = " ".join(f"{item:g}" for item in value) or None
        click.echo(
            f"{name.replace('_', ' '):<{width}}  {'-' if value is None else in_one_line(value)}"
        )


def show_packets(path: Path, model: str | None, as_json: bool) -> None:
    """A line for each packet: its beginning, frames, bytes, bits per frame, codes per frame."""
    from codec.files.listing import list_packets

    if not as_json:
        click.echo("seconds   frames   bytes   bits/frame   codes/frame   coding")
    for each in list_packets(path, model or None):
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(each)))
            continue
        bits = f"{8 * each.num_bytes / each.num_frames:.0f}" if each.num_frames else "-"
        codes = "-" if each.codebooks is None else f"{each.codebooks:.2f}"
        click.echo(
            f"{each.seconds:7.2f}  {each.num_frames:7}  {each.num_bytes:6}  {bits:>11}  "
            f"{codes:>12}   {each.coding}"
        )
