"""``aecodec export`` and ``aecodec push``."""

from __future__ import annotations

from pathlib import Path

import click

from codec.cli import options
from codec.cli.errors import clear_errors
from codec.errors import CodecError, optional_packages
from codec.model_folder import find_model


@click.command()
@click.argument("model")
@click.argument("out", type=options.PATH)
@click.option("--onnx", is_flag=True, help="ONNX graphs for other programs instead.")
@click.option("-f", "--force", is_flag=True, help="Replace what OUT holds.")
def export(model: str, out: Path, onnx: bool, force: bool) -> None:
    """Write MODEL with weights of 8 bits to the folder OUT."""
    with clear_errors(), optional_packages("export --onnx", "onnx"):
        if not force and any((out / name).exists() for name in ("config.json", "graphs.json")):
            raise CodecError(f"{out} holds a model already: give --force, or another folder")
        if onnx:
            from codec.network.graphs import export_graphs as write
        else:
            from codec.export import export_model as write

        write(model, out)
    click.echo(out)


@click.command()
@click.argument("model")
@click.argument("name", metavar="USER/NAME")
@click.option("--licence", required=True, help="Of the weights, as the hub names it: mit, ...")
@click.option("--private", is_flag=True, help="Do not let others see it.")
def push(model: str, name: str, licence: str, private: bool) -> None:
    """Upload MODEL with its card to the Hugging Face hub.

    Log in there before (`hf auth login`). Afterwards, --model hf://USER/NAME is this model.
    """
    with clear_errors():
        from codec.hub import push_model
        from codec.registry import load_model

        load_model(model)  # checks that its files belong together
        place = push_model(find_model(model), name, licence=licence, private=private)
    click.echo(place)
