"""The error of a training run."""

from __future__ import annotations

from codec.errors import CodecError


class TrainingError(CodecError):
    """The run cannot continue. The message names what to change."""
