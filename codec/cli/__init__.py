"""The ``aecodec`` command."""

from codec.cli.app import main

__all__ = ["main"]
