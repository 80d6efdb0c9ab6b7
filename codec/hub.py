"""Model folders on the Hugging Face hub: ``hf://user/name``, and ``aecodec push``."""

from __future__ import annotations

import importlib
import re
import tempfile
from pathlib import Path
from typing import Any

from codec.arguments import first_line
from codec.errors import ModelError, optional_packages

SCHEME = "hf://"
FILES = ("config.json", "weights.safetensors", "card.md")
MORE_FILES = ("context.safetensors",)
"""Files of a model folder that not every model has."""
# user/name, and perhaps @revision.
_NAME = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


def is_hub_model(model: object) -> bool:
    return isinstance(model, str) and model.startswith(SCHEME)


def fetch_model(model: str) -> Path:
    """The folder of ``hf://user/name`` or ``hf://user/name@revision``, downloaded once.

    Raises:
        ModelError: there is no such model, or the hub cannot be reached.
    """
    name, revision = parse_name(model.removeprefix(SCHEME))
    hub = _import_hub(model)
    try:
        return Path(
            hub.snapshot_download(name, revision=revision, allow_patterns=[*FILES, *MORE_FILES])
        )
    except Exception as error:  # of many kinds: network, permissions, no such repository
        raise ModelError(f"{model} cannot be downloaded: {first_line(error)}") from error


def parse_name(name: str) -> tuple[str, str | None]:
    """Name and revision of a model on the hub.

    Raises:
        ModelError: it is not of the form ``user/name`` or ``user/name@revision``.

    Example:
        >>> parse_name("user/name"), parse_name("user/name@v1")
        (('user/name', None), ('user/name', 'v1'))
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(f"{name!r} is no name on the hub: give user/name or user/name@revision")
    return match[1], match[2]


def hub_files(folder: Path, target: Path, licence: str) -> None:
    """Write what a model folder becomes on the hub: its files, and a ``README.md`` with the card.

    The licence is that of the weights, as the hub names it (``mit``, ``cc-by-4.0``, ...).

    Raises:
        ModelError: the model has no card, or one of its files is a link that leads out of it.
    """
    card = folder / "card.md"
    names = [*FILES, *(name for name in MORE_FILES if (folder / name).exists())]
    for name in names:
        # Everybody will see it, and no stranger's folder may choose what else that is.
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{folder / name} is a link out of {folder}: copy the file into it")
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    if not text.strip():
        raise ModelError(
            f"{folder} has no card.md: describe the model's data, licence, use and limits in it"
        )
    for name in names:
        (target / name).write_bytes(read_regular(folder / name))
    head = ["---", f"license: {licence}", "library_name: aecodec", "tags:", "- audio"]
    head += ["- audio-codec", "- aecodec", "---", ""]
    (target / "README.md").write_text("\n".join(head) + text, "utf-8")


def read_regular(path: Path) -> bytes:
    """Contents of a file of a model, which is none of those that may never end.

    Raises:
        ModelError: it is missing, a device, a pipe or a folder, or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a regular file: copy the folder again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def push_model(folder: Path, name: str, *, licence: str, private: bool = False) -> str:
    """Upload a model folder with its card to the hub, as who is logged in there.

    The repository ``user/name`` is created if missing, and then ``private`` hides it from others.
    The licence is that of `hub_files`.

    Returns:
        Where it is now: ``hf://user/name``.

    Raises:
        ModelError: the model has no card, or the hub refuses it.
    """
    name, revision = parse_name(name)
    if revision is not None:
        raise ModelError(f"a model is pushed to {name}, not to a revision: leave out @{revision}")
    hub = _import_hub(f"pushing to {name}")
    with tempfile.TemporaryDirectory() as target:
        hub_files(folder, Path(target), licence)
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=target, commit_message="Upload a model of aecodec"
            )
        except Exception as error:  # of many kinds: network, permissions, quota
            raise ModelError(f"{name} cannot be written: {first_line(error)}") from error
    return SCHEME + name


def _import_hub(purpose: str) -> Any:
    with optional_packages(purpose, "hub"):
        return importlib.import_module("huggingface_hub")
