"""``aecodec export`` and ``aecodec push``."""

from __future__ import annotations

from pathlib import Path

import click

from codec.cli import options
from codec.cli.errors import clear_errors
from codec.errors import CodecError, optional_packages
from codec.model_folder import GRAPHS, find_model


@click.command()
@click.argument("model")
@click.argument("out", type=options.PATH)
@click.option("-f", "--force", is_flag=True, help="Replace an existing model or its graphs.")
def export(model: str, out: Path, force: bool) -> None:
    """Copy MODEL to the folder OUT, with ONNX graphs that run without PyTorch.

    OUT may be MODEL itself, which then gets graphs.
    """
    with clear_errors(), optional_packages("export", "torch"):
        same = out.exists() and out.samefile(find_model(model))
        if not force and (out / (GRAPHS if same else "config.json")).exists():
            what = "graphs" if same else "a model"
            raise CodecError(f"{out} holds {what} already: give --force, or another folder")
        from codec.network.graphs import export_model

        export_model(model, out)
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
