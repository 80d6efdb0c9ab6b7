"""Names of the files in a folder of tokens."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import PurePosixPath

from codec.io.audio import SUFFIXES

MANIFEST, ERRORS, CARD = "manifest.json", "errors.jsonl", "dataset_card.md"
"""Files beside the shards."""
PROGRESS = ".tokenize"
"""Folder in the output that remembers what is done, until all is."""


def is_shard_name(name: object) -> bool:
    """Whether this is the name of a file that ``aecodec tokenize`` writes, inside its folder.

    Example:
        >>> [is_shard_name(name) for name in ("tokens-00000.tar", "a/b.codes", "../b.codes")]
        [True, True, False]
    """
    if not isinstance(name, str) or "\0" in name:
        return False
    inside = all(part not in ("", ".", "..", PROGRESS) for part in re.split(r"[/\\]", name))
    return (
        inside and re.fullmatch(r"tokens-\d{5,}\.(parquet|tar)|.*\.codes", name, re.S) is not None
    )


# Names of our own files are not those of folders.
RESERVED = {MANIFEST, ERRORS, CARD}
MAX_NAME, MAX_FOLDERS = 220, 1000
"""Bytes in a name, so that suffixes fit into 255, and in the names of all folders before it."""


class FileNames:
    """Names of files for ids: inside the folder, without dots, each one once.

    They are to end in one of the suffixes, which they come without. Names of folders keep their
    dots, but none is hidden or named like a file. What is too long for a file system ends in a
    digest.

    Example:
        >>> name = FileNames(".codes")
        >>> name("a/b.c.wav"), name("a/b.c.flac"), name("../../b"), name("a.codes/.b/c.wav")
        ('a/b_c', 'a/b_c_flac', '_/_/b', 'a_codes/_b/c')
    """

    def __init__(self, *suffixes: str) -> None:
        self._suffixes = suffixes
        self._taken: set[str] = set()

    def __call__(self, number: str) -> str:
        """The name for an id that was not asked for before."""
        parts = number.replace("\\", "/").replace("\0", "_").split("/")
        parts = [part.replace("..", "_") for part in parts if part not in ("", ".")] or ["_"]
        folder = "/".join(_fitting(self._folder(part)) for part in parts[:-1])
        if len(folder.encode(errors="replace")) > MAX_FOLDERS:
            folder = _digest(folder)
        last = PurePosixPath(parts[-1])
        short = last.stem if last.suffix.lower() in SUFFIXES else last.name
        plain = [_fitting(each.replace(".", "_")) for each in (short, last.name)]
        names = [f"{folder}/{each}" if folder else each for each in plain]
        numbered = (f"{names[-1]}-{count}" for count in itertools.count(2))
        name = next(each for each in itertools.chain(names, numbered) if each not in self._taken)
        self._taken.add(name)
        return name

    def _folder(self, part: str) -> str:
        clashes = part in RESERVED or part.lower().endswith(self._suffixes)
        return part.replace(".", "_", -1 if clashes else 1) if clashes or part[0] == "." else part


def _fitting(part: str) -> str:
    data = part.encode(errors="replace")
    if len(data) <= MAX_NAME:
        return part
    return f"{data[: MAX_NAME - 17].decode(errors='ignore')}-{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
