"""The section of the results page: its tables and plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from benchmarks.degradation.experiments import EXPERIMENTS, Experiment
from benchmarks.degradation.measuring import SI_SDR_FLOOR
from benchmarks.shared.metrics import METRICS
from benchmarks.shared.plots import COLOURS, Line, draw_lines, label_lines, new_figure, save
from benchmarks.shared.tables import markdown_table

POINT = ("mean", "low", "high")
STYLES = ((0.0, "solid"), (0.4, "dashed"), (0.6, "dotted"), (0.2, "dashdot"))
"""How much paler than the first one the lines of a codec are, and their dashes."""


def report(figures: dict[str, Any]) -> str:
    """All means as Markdown."""
    parts = [
        f"Means over {len(figures['files'])} speech files of at most {figures['seconds']:g} s. "
        "Packets last 20 ms, in the experiment with bit errors as stated; the noise is "
        f"{figures['noise']}. SI-SDR is limited to at least {SI_SDR_FLOOR:g} dB. PESQ is undefined "
        "for silence: where not all files have a value, their number is given."
    ]
    for name in dict.fromkeys(row["experiment"] for row in figures["summary"]):
        experiment = EXPERIMENTS[name]
        rows = [row for row in figures["summary"] if row["experiment"] == name]
        parts.append(f"### {experiment.title}")
        if experiment.wide:
            parts += _wide_tables(experiment, rows)
        else:
            parts.append(_experiment_table(experiment, rows))
    return "\n\n".join(parts) + "\n"


def _wide_tables(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table of the conditions, and one for each metric: series by condition."""
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    series = list(dict.fromkeys(row["series"] for row in rows))
    found = {(row["series"], row["condition"]): row for row in rows}
    cells = [
        [title, *(f"{found[series[0], condition]['facts'][fact]:.1f}" for condition in conditions)]
        for fact, title in experiment.facts.items()
        if fact != "payload"
    ]
    for name in series:
        rates = [found[name, condition]["facts"]["payload"] for condition in conditions]
        cells.append([f"{name}: kbit/s", *(f"{rate:.1f}" for rate in rates)])
    yield markdown_table([experiment.condition, *conditions], cells)
    for metric in experiment.shown:
        yield markdown_table(
            [f"{METRICS[metric].title}; {experiment.condition}", *conditions],
            [
                [name, *(_cell(found[name, condition], metric) for condition in conditions)]
                for name in series
            ],
        )


def _experiment_table(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> str:
    titles = [METRICS[metric].title for metric in experiment.shown]
    header = ["series", experiment.condition, *experiment.facts.values(), *titles]
    cells = [
        [
            row["series"],
            row["condition"],
            *(f"{row['facts'][fact]:.1f}" for fact in experiment.facts),
            *(_cell(row, metric) for metric in experiment.shown),
        ]
        for row in rows
    ]
    return markdown_table(header, cells)


def _cell(row: dict[str, Any], metric: str) -> str:
    """A mean, with the number of files if some have no value."""
    if metric not in row["metrics"]:
        return "-"
    value = row["metrics"][metric]
    cell = f"{value['mean']:.{METRICS[metric].decimals}f}"
    return cell if value["files"] == row["files"] else f"{cell} ({value['files']} files)"


def plot(summary: Sequence[dict[str, Any]], name: str, out: Path) -> str:
    """Write the plot of an experiment, a panel per metric; return the name of the PNG file."""
    experiment = EXPERIMENTS[name]
    rows = [row for row in summary if row["experiment"] == name]
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure, panels = new_figure(len(experiment.shown), 2, experiment.title)
    for axes, metric in zip(panels, experiment.shown, strict=True):
        lines = []
        for series in dict.fromkeys(row["series"] for row in rows):
            points = [
                (conditions.index(row["condition"]), *map(row["metrics"][metric].get, POINT))
                for row in rows
                if row["series"] == series and metric in row["metrics"]
            ]
            if points:
                lines.append(Line(series, *zip(*points, strict=True)))
        better = METRICS[metric].better
        draw_lines(
            axes,
            lines,
            x_title=experiment.condition,
            y_title=f"{METRICS[metric].title}, {better} is better",
        )
        axes.set_xticks(range(len(conditions)), conditions)
        _style(axes)
    label_lines(figure)
    return save(figure, out, f"robustness_{name}")


def _style(axes: Axes) -> None:
    """The same colour for all series of a codec, those after the first paler and dashed."""
    seen: Counter[str] = Counter()
    for container in axes.containers:
        line, caps, bars = container
        codec = str(container.get_label()).split()[0]
        paler, dashes = STYLES[seen[codec] % len(STYLES)]
        solid = np.array(to_rgb(COLOURS.get(codec, "seagreen")))
        colour = tuple(solid + paler * (1 - solid))
        for artist in (line, *caps, *bars):
            artist.set_color(colour)
        for cap in caps:
            cap.set_markeredgecolor(colour)
        line.set_linestyle(dashes)
        seen[codec] += 1
