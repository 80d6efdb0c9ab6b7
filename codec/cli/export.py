"""``aecodec export``."""

from __future__ import annotations

from pathlib import Path

import click

from codec.cli.errors import clear_errors
from codec.errors import CodecError, optional_packages
from codec.model_folder import GRAPHS, find_model


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
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
