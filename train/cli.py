"""``aecodec train``, ``aecodec finetune`` and ``aecodec fit-context``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codec.cli.errors import WrongUse, clear_errors
from codec.cli.options import PATH, POSITIVE, log_to_stderr, several
from codec.errors import optional_packages

if TYPE_CHECKING:
    from train.recipe.sections import TrainConfig


training_options = several(
    click.option("--data", required=True, type=PATH, help="Folder of training audio."),
    click.option("--out", type=PATH, help="Folder for the model and its run."),
    click.option("--valid", type=PATH, help="Validation audio. [some files of --data]"),
    click.option("--minutes", type=POSITIVE, help="Wall-clock budget."),
    click.option(
        "-s", "--set", "overrides", multiple=True, help="Replace a value: optimizer.lr=3e-4."
    ),
    click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out."),
    click.option("--dry-run", is_flag=True, help="Describe the model and the data only."),
    click.option("--device", default="auto", help="auto, cpu, cuda or mps."),
    click.option("--devices", type=click.IntRange(min=1), default=1, help="Number of devices."),
)
"""Options that `train` and `finetune` share."""


@click.command()
@click.argument("recipe")
@click.option(
    "--from",
    "initial_model",
    help="Start from the weights of this model, which may have fewer codebooks and no second "
    "synthesis stage.",
)
@training_options
def train(recipe: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Train a codec with RECIPE, a packaged name or a TOML file."""
    with clear_errors(), optional_packages("training", "train"):
        from train.recipe.loading import load_recipe

        run_training(load_recipe(recipe, overrides), **options)


@click.command()
@click.argument("model")
@click.option("--recipe", help="Train with this recipe. [that of the model]")
@click.option("--freeze", multiple=True, help="Do not train encoder, quantizer or decoder.")
@training_options
def finetune(
    model: str,
    recipe: str | None,
    freeze: tuple[str, ...],
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Continue training MODEL, a packaged name or a folder.

    With --freeze encoder --freeze quantizer only the decoder changes, and every file that MODEL
    has coded can still be decoded.
    """
    with clear_errors(), optional_packages("training", "train"):
        from train.recipe.loading import recipe_of_model

        own = options["out"] and options["out"] / "training" / "recipe.toml"
        if options["resume"] and recipe is None and own and own.exists():
            recipe = str(own)  # parts that were frozen when the run began stay frozen
        loaded = recipe_of_model(model, recipe, overrides, freeze)
        run_training(loaded, initial_model=None if options["resume"] else model, **options)


@click.command("fit-context")
@click.argument("model", type=PATH)
@click.option("--data", required=True, type=PATH, help="Folder of training audio.")
@click.option("--recipe", help="Fit with this recipe. [that of the model]")
@click.option(
    "-s", "--set", "overrides", multiple=True, help="Replace a value: context.steps=4000."
)
def fit_context(model: Path, data: Path, recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Fit the context model of MODEL, a folder: its streams become a fifth to a third smaller.

    Streams name the context model that they were coded with. Keep a copy of the folder if MODEL
    has a context model already and streams that were coded with it.
    """
    with clear_errors(), optional_packages("training", "train"):
        from codec.corpus.index import scan
        from codec.network.weights import load_codec
        from train.context.fit import fit_context
        from train.recipe.loading import recipe_of_model

        loaded = recipe_of_model(str(model), recipe, overrides, ())
        if not loaded.context.steps:
            raise WrongUse("the recipe has no steps for it: give --set context.steps=4000")
        log_to_stderr()
        fit_context(loaded, load_codec(model), scan(data), model)
        click.echo(model)


def run_training(
    recipe: TrainConfig,
    *,
    data: Path,
    out: Path | None,
    device: str,
    devices: int,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train, or describe what would be trained."""
    if dry_run:
        from codec.corpus.index import scan
        from train.report.dry_run import describe

        click.echo(describe(recipe, scan(data)))
        return
    if out is None:
        raise WrongUse("give --out, a folder for the model and for all of the run")
    from train.run.devices import Devices
    from train.run.loop import fit

    log_to_stderr()
    if fit(recipe, data, out, devices=Devices(device, devices), **options):
        click.echo(out)
