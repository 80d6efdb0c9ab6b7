"""Progress of a run on stderr: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from codec.io.pipes import is_terminal

SECONDS_PER_LINE = 30.0
SECONDS_PER_REDRAW = 1.0


class Progress:
    """Shows step, loss, speed and remaining time.

    Args:
        audio_seconds_per_step: audio that all processes train on per step.
        step: steps done when the run begins or resumes.
        visible: False in all processes but the first.
    """

    def __init__(self, audio_seconds_per_step: float, step: int, *, visible: bool) -> None:
        self._audio_seconds = audio_seconds_per_step
        self._shown = (step, time.monotonic())
        self._visible = visible
        layout = "{desc} {percentage:3.0f}%|{bar:20}|{postfix}"
        self._bar = tqdm(
            total=100, desc="training", disable=not (visible and is_terminal()), bar_format=layout
        )

    def update(self, step: int, seconds: float, progress: float, loss: float) -> None:
        """Show the present state, unless it was shown a moment ago.

        Args:
            step: steps done.
            seconds: wall-clock time of the run.
            progress: share of the run that is done.
            loss: loss of the last step.
        """
        shown_step, shown = self._shown
        now = time.monotonic()
        interval = SECONDS_PER_LINE if self._bar.disable else SECONDS_PER_REDRAW
        if not self._visible or now - shown < interval:
            return
        speed = (step - shown_step) * self._audio_seconds / (now - shown)
        left = seconds * (1 / progress - 1) if progress else 0.0
        text = (
            f"step {step}, loss {loss:.3f}, {speed:.0f} audio-s/s, "
            f"{left // 60:.0f}:{left % 60:02.0f} left"
        )
        if self._bar.disable:
            print(f"training {100 * progress:3.0f} %, {text}", file=sys.stderr, flush=True)
        else:
            self._bar.n = round(100 * progress, 1)
            self._bar.set_postfix_str(text)
        self._shown = (step, now)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._bar.close()
