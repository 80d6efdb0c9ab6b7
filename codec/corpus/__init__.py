"""Corpora: recordings in folders, shards and manifests, and their tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codec.corpus.tokens.reading import read_tokens as read_tokens


def __getattr__(name: str) -> Any:
    if name != "read_tokens":
        raise AttributeError(f"module 'codec.corpus' has no attribute {name!r}")
    from codec.corpus.tokens.reading import read_tokens

    return read_tokens
