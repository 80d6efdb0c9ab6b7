"""The output of every benchmark: figures as JSON, tables as Markdown, and how they were measured.

`results.py` builds the results page from the JSON files that exist, so each file contains its
section of the page: ``markdown`` (headings from level 3 on) and ``plots`` (names of PNG files in
the same folder, shown below the text in this order).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import codec
from codec.model_folder import find_model, read_description

PACKAGES = (
    "torch",
    "onnxruntime",
    "numpy",
    "soxr",
    "librosa",
    "av",
    "pesq",
    "pystoi",
    "speechmos",
    "resemblyzer",
    "visqol-python",
    "transformers",
)
"""Packages on whose versions the figures may depend; `origin` lists those that are installed."""


def origin(models: Sequence[str] = (), seed: int = 0) -> dict[str, Any]:
    """Command, date, machine, versions and models of a run.

    Args:
        models: names or folders of the models of aecodec that are measured.
        seed: seed of all random numbers.
    """
    fingerprints: dict[str, str] = {}
    for model in models:
        described = read_description(find_model(model))
        name, fingerprint = described["name"], described["fingerprint"]
        fingerprints[f"{name} {fingerprint[:6]}" if name in fingerprints else name] = fingerprint
    return {
        "command": command_line(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"aecodec": codec.__version__, "python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := installed(name))},
        "models": fingerprints,
        "seed": seed,
    }


def command_line() -> str:
    """The command line of this process, with absolute paths reduced to their last part."""
    words = []
    for word in sys.argv:
        name, equals, value = word.rpartition("=")
        words.append(name + equals + (Path(value).name if value.startswith("/") else value))
    return shlex.join(["python", f"benchmarks/{Path(words[0]).name}", *words[1:]])


def machine() -> str:
    """Processor, number of cores and operating system."""
    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def installed(package: str) -> str | None:
    """Version of a package; None if it is not installed.

    Example:
        >>> installed("no-such-package") is None
        True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_report(
    out: Path, name: str, figures: dict[str, Any], markdown: str, plots: Sequence[str] = ()
) -> None:
    """Write ``OUT/NAME.json`` and ``OUT/NAME.md``.

    Args:
        out: folder to write to; created if missing.
        name: name of the benchmark.
        figures: all measured figures, with those of `origin`.
        markdown: section of the results page.
        plots: names of the pictures in ``out``.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = figures | {"markdown": markdown, "plots": list(plots)}
    text = json.dumps(figures, indent=1, allow_nan=False) + "\n"
    (out / f"{name}.json").write_text(text, "utf-8")
    pictures = "".join(f"\n![{Path(plot).stem}]({plot})\n" for plot in plots)
    (out / f"{name}.md").write_text(markdown.rstrip() + "\n" + pictures, "utf-8")
