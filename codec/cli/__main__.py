"""``aecodec``, and ``python -m codec.cli`` for ``torchrun``."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 128 + signal.SIGINT


def start() -> None:
    """Run the command, and end with its status."""
    can_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored
    if can_interrupt:
        signal.signal(signal.SIGINT, _end)
    from codec.cli.app import interrupt, main
    from codec.io.pipes import keep_stderr_apart, open_standard_files

    open_standard_files()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    keep_stderr_apart()
    if can_interrupt:
        signal.signal(signal.SIGINT, interrupt)
    try:
        main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done, and the process ends


def _end(*_: object) -> None:
    """Ctrl-C while modules are imported, when nothing is there to clean up.

    An exception may be lost or changed inside the modules.
    """
    try:
        os.write(2, b"aecodec: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    from pathlib import Path

    import codec

    # ``-m`` searches the working folder first: a user's own train.py there would shadow ours.
    home = Path(codec.__file__).resolve().parent.parent
    if Path(sys.path[0] or ".").resolve() != home:
        del sys.path[0]
    start()
