"""onnxruntime, which this package imports from here alone: it sends nothing.

From version 1.29 on onnxruntime reports its use to its makers. It keeps an identifier of the device
and a database in the home folder, looks up names in the network, and its threads let a forked
process hang at its end. It does nothing of this if the environment says so before it is imported;
later is too late. A user who has set the variable has decided for himself, so his value stays.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
