"""The windows and mel bands that losses and measures share."""

from __future__ import annotations

# The windows of DAC (arXiv:2306.06546, section 3.4), hop a quarter, with these many mel bands.
MEL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
MEL_BANDS = (5, 10, 20, 40, 80, 160, 320)
