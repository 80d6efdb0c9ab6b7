"""The statistics: means over recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.degradation.experiments import EXPERIMENTS
from benchmarks.shared.metrics import METRICS, mean_with_interval


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over files with confidence intervals, in the order of the experiments."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = (row["experiment"], row["series"], row["condition"])
        groups.setdefault(key, []).append(row)
    summary = []
    for (experiment, series, condition), members in groups.items():
        metrics = {}
        for name in METRICS:
            values = [row["metrics"][name] for row in members if name in row["metrics"]]
            if values:
                mean, low, high = mean_with_interval(values)
                metrics[name] = {"mean": mean, "low": low, "high": high, "files": len(values)}
        facts = {
            name: float(np.mean([row["facts"][name] for row in members]))
            for name in EXPERIMENTS[experiment].facts
        }
        summary.append(
            {
                "experiment": experiment,
                "series": series,
                "condition": condition,
                "files": len(members),
                "facts": facts,
                "metrics": metrics,
            }
        )
    return summary
