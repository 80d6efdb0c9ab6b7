"""``python -m codec.cli``, for ``torchrun``."""

from __future__ import annotations

import sys
from pathlib import Path

import codec

# ``-m`` searches the working folder first: a user's own train.py there would shadow our package.
home = Path(codec.__file__).resolve().parent.parent
if Path(sys.path[0] or ".").resolve() != home:
    del sys.path[0]

from codec.cli.app import main  # noqa: E402

if __name__ == "__main__":
    main()
