"""The page's modules in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from codec.cli.web import PAGE


def in_node(tasks: list[dict[str, Any]], script: str = "format.mjs") -> list[Any]:
    """What the page's modules answer to tasks, see the scripts beside this file."""
    result = subprocess.run(
        ["node", Path(__file__).parent / script, f"{PAGE.as_uri()}/"],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers: list[Any] = json.loads(result.stdout)
    return answers
