"""The results page, from what the other benchmarks wrote.

    python benchmarks/results.py [OUT ...]

Looks in these folders for rate_quality.json, speed.json and robustness.json, and writes those that
are there into ``benchmarks/RESULTS.md``, with their pictures in ``benchmarks/results``. Every
section says by which command, when, where and of which model its figures were made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

# Run as a script, the repository itself is not among the places to import from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codec.errors import CodecError

SECTIONS = {
    "rate_quality": "Bitrate and quality",
    "speed": "Speed and memory",
    "robustness": "Robustness",
}
"""Name of the JSON, and heading."""
COLOURS = 64
"""Of a picture in the repository; line plots need no more."""


def make_page(folders: Sequence[Path], page: Path) -> list[Path]:
    """Write the page and copy the pictures into a folder beside it.

    Args:
        folders: where benchmarks wrote; of two with the same file, the later one counts.
        page: what to write; its pictures go to ``results`` beside it.

    Returns:
        The pictures.

    Raises:
        CodecError: no figures are there, or a picture is missing.
    """
    found = {
        name: folder / f"{name}.json"
        for name in SECTIONS
        for folder in folders
        if (folder / f"{name}.json").is_file()
    }
    if not found:
        raise CodecError(
            f"no {' or '.join(f'{name}.json' for name in SECTIONS)} there: run the benchmarks first"
        )
    parts = [
        "# Results",
        "",
        "Written by `python benchmarks/results.py` from what the benchmarks measured: not by hand.",
    ]
    pictures: list[Path] = []
    for name, source in found.items():
        figures = json.loads(source.read_text("utf-8"))
        parts += ["", f"## {SECTIONS[name]}", "", *how(figures), "", figures["markdown"].strip()]
        for plot in figures["plots"]:
            pictures.append(_shrink(source.parent / plot, page.parent / "results"))
            parts += ["", f"![{Path(plot).stem.replace('_', ' ')}](results/{plot})"]
    page.write_text("\n".join(parts) + "\n", "utf-8")
    return pictures


def how(figures: dict[str, Any]) -> list[str]:
    """Command, date, machine, models and versions, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    models = ", ".join(
        f"{name} (`{fingerprint}`)" for name, fingerprint in figures["models"].items()
    )
    return [
        "```bash",
        figures["command"],
        "```",
        "",
        f"{figures['date']}; {figures['machine']}; model {models}; {versions}; "
        f"seed {figures['seed']}.",
    ]


def _shrink(source: Path, folder: Path) -> Path:
    """Copy a picture with few colours, which makes it a third."""
    if not source.is_file():
        raise CodecError(f"{source} is missing: run that benchmark again")
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(COLOURS).save(folder / source.name, optimize=True)
    return folder / source.name


def main(words: Sequence[str] | None = None) -> None:
    """Write, and say how large the pictures are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "folders", type=Path, nargs="*", default=[Path("runs/benchmarks")], help="where they wrote"
    )
    parser.add_argument("--page", type=Path, default=Path(__file__).parent / "RESULTS.md")
    arguments = parser.parse_args(words)
    try:
        pictures = make_page(arguments.folders, arguments.page)
    except CodecError as error:
        sys.exit(f"error: {error}")
    size = sum(picture.stat().st_size for picture in pictures)
    print(f"{arguments.page}: {len(pictures)} pictures, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
