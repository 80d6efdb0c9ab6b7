"""Hooks of mkdocs: what is on the site, and under which address.

Pages keep the paths that they have in the repository, so that a link such as ``../CONTRIBUTING.md``
or ``../codec/config.py`` leads to the same file on the site and wherever the repository is shown.
The site has the documents in ``docs/``, and all files of the repository that they link to.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)")
LOADED = re.compile(r"<(?:iframe|img|link|script)\s[^>]*\b(?:href|src)=[\"']?(?:https?:)?//[^>]*>")

log = logging.getLogger("mkdocs.site_hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what was found in ``docs/`` by the same files and what they link to."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    found = {REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")}
    to_read = list(found)
    while to_read:
        path = to_read.pop()
        linked = {(path.parent / link).resolve() for link in LINK.findall(path.read_text("utf-8"))}
        linked = {path for path in linked - found if path.is_file()}
        found |= linked
        to_read += [path for path in linked if path.suffix == ".md"]
    names = sorted(path.relative_to(REPOSITORY).as_posix() for path in found)
    place = config.site_dir, config.use_directory_urls
    return Files([*theme, *(File(name, str(REPOSITORY), *place) for name in names)])


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> None:
    """Warn, which ends a strict build, where a page would load something from the network."""
    for element in LOADED.findall(output):
        log.warning("%s loads from the network: %s", page.file.src_uri, element)


class Headings(Extension):
    """mkdocstrings shows code under ``Examples:``, but not under ``Example:``."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the heading in the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
