"""The command group, and where each command is found.

Exit status: 0 = success, 1 = failure (one-line reason on stderr), 2 = wrong usage, 130 = Ctrl-C.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any

import click

import codec
from codec.cli.errors import Failure, Interrupted

COMMANDS = {
    "encode": "codec.cli.coding:encode",
    "decode": "codec.cli.coding:decode",
    "info": "codec.cli.info:info",
    "verify": "codec.cli.edit:verify",
    "cut": "codec.cli.edit:cut",
    "concat": "codec.cli.edit:concat",
    "peel": "codec.cli.edit:peel",
    "export": "codec.cli.models:export",
    "web": "codec.cli.web:web",
    "tokenize": "codec.cli.tokens:tokenize",
    "detokenize": "codec.cli.tokens:detokenize",
    "push": "codec.cli.models:push",
    "train": "train.cli:train",
    "finetune": "train.cli:finetune",
    "fit-context": "train.cli:fit_context",
    "evaluate": "codec.cli.evaluation:evaluate",
    "inspect": "codec.cli.evaluation:inspect",
}
"""Module and function of every command; a module is imported when its command is used."""

HOME = Path(codec.__file__).resolve().parent.parent

_was_interrupted = False


class CommandsByName(click.Group):
    """A group that imports its commands when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        package = module.partition(".")[0]
        if stranger := _shadowed(package):
            return _unavailable(name, f"{stranger} shadows aecodec's package: rename it")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BaseException as error:
            # Libraries that are being imported turn it into errors of their own.
            if _was_interrupted or isinstance(error, KeyboardInterrupt):
                raise Interrupted("interrupted") from None
            raise


@click.group(cls=CommandsByName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(codec.__version__, prog_name="aecodec")
def main() -> None:
    """A neural audio codec: compresses speech and general audio to a few kbit/s."""
    # Ended by another program as by Ctrl-C: nothing is left half-written.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def interrupt(*_: object) -> None:
    global _was_interrupted
    _was_interrupted = True
    raise KeyboardInterrupt


def _shadowed(package: str) -> str | None:
    """The module that would be imported in place of our own package; None if it is ours."""
    spec = importlib.util.find_spec(package)  # runs nothing
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin is None or origin == HOME / package / "__init__.py":
        return None
    return str(origin)


def _unavailable(name: str, reason: str) -> click.Command:

    @click.command(name, context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:
        raise Failure(reason)

    command.short_help = f"Unavailable: {reason}."
    return command
