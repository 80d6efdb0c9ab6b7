"""``aecodec push``."""

from __future__ import annotations

import click

from codec.cli.errors import clear_errors


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
        from codec.model_folder import find_model
        from codec.registry import load_model

        load_model(model)  # checks that its files belong together
        place = push_model(find_model(model), name, licence=licence, private=private)
    click.echo(place)
