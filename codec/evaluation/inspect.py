"""Plots of a codec's behaviour on a folder of recordings.

A recording with a large error is often faulty itself.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from codec.arrays import Floats, Histogram, Latents, Samples
from codec.bitrate import ceil_div
from codec.corpus.index import Clip
from codec.corpus.workers import OPENING_SECONDS, Recordings
from codec.engines.base import Engine
from codec.errors import optional_packages
from codec.evaluation.evaluate import Measured, codebook_counts, largest_codebook, measure
from codec.evaluation.metrics import bitrate_efficiency, perplexity
from codec.io.outputs import check_writable, write_atomically
from codec.registry import ModelLike, as_model, load_model

with optional_packages("inspection", "evaluate"):
    import torch
    from matplotlib.figure import Figure

    from codec.engines.torch import tensor_model


CODEBOOKS, LATENTS, ERRORS, LIST = "codebooks.png", "latents.png", "errors.png", "errors.csv"

MAX_FRAMES, MAX_FRAMES_EACH = 20_000, 200
"""Frames in the plot of latents: in total, and per recording."""

WORST_SHOWN = 30
"""Recordings in the plot of errors."""

NUM_COLOURS = 9
"""Classes with a colour of their own; all smaller classes are grey."""

GREY = "C7"
OTHERS = "others"


@dataclass(frozen=True)
class Inspected:
    """Measurements of one recording."""

    clip: Clip
    measured: Measured  # at the highest bitrate
    embedding: Latents  # evenly spaced frames of `Codec.embed`, [n, E]

    @property
    def error(self) -> float:
        """Mel distance, which unlike SI-SDR does not penalise noise-like sounds for their phase."""
        return self.measured.figures[0].mel


def inspect(
    model: ModelLike,
    folder: Path,
    out: Path,
    *,
    seconds: float = OPENING_SECONDS,
    every: int = 1,
    force: bool = False,
    processes: int = 1,
) -> list[Path]:
    """Plot how a codec behaves on a folder of recordings.

    Writes ``codebooks.png`` (not for continuous latents), ``latents.png``, ``errors.png``, and
    ``errors.csv``, which lists every recording in order of decreasing error and then the files
    that could not be read.

    The folder ``out`` is created if missing; ``force`` replaces files in it. Other arguments are
    those of `codec.evaluation.evaluate.evaluate`.

    Returns:
        Paths of the files that were written.

    Raises:
        CodecError: an output exists and ``force`` is not set, or no recording can be read.
    """
    if isinstance(model, str | Path):
        model = load_model(model, backend="torch")  # for its latents
    engine = as_model(model).engine
    names = [*([CODEBOOKS] if engine.spec.has_codes else []), LATENTS, ERRORS, LIST]
    for name in names:
        check_writable(out / name, force=force)
    recordings = Recordings(folder, seconds=seconds, every=every)
    found, histogram = examine_each(engine, recordings, processes)
    colours = class_colours([result.clip.sound_class for result in found])
    contents: dict[str, Callable[[], bytes]] = {
        CODEBOOKS: lambda: draw_codebooks(histogram),
        LATENTS: lambda: draw_latents(found, colours),
        ERRORS: lambda: draw_errors(found, colours),
        LIST: lambda: list_errors(found, recordings.skipped),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_atomically(out / name, contents[name]())
    return [out / name for name in names]


def examine_each(
    engine: Engine, recordings: Recordings, processes: int
) -> tuple[list[Inspected], Histogram]:
    """Measurements of all recordings, the largest error first, and how often codes occur."""
    spec, frames = engine.spec, max(1, min(MAX_FRAMES_EACH, MAX_FRAMES // len(recordings)))
    work = partial(examine, max_frames=frames)
    found, histogram = [], np.zeros((spec.num_codes(), largest_codebook(spec)), np.int64)
    results = recordings.each(engine, work, processes=processes, title="inspecting")
    for clip, (measured, embedding) in results:
        if measured.histogram is not None:
            histogram += measured.histogram
        measured = dataclasses.replace(measured, histogram=None)  # large, and no longer needed
        found.append(Inspected(clip, measured, embedding))
    found.sort(key=lambda result: -result.error)
    return found, histogram


def examine(engine: Engine, original: Samples, *, max_frames: int) -> tuple[Measured, Latents]:
    """Metrics of a recording ``[N]`` at the highest bitrate, and up to ``max_frames`` latents.

    The latents ``[n, E]`` are evenly spaced.
    """
    measured = measure(engine, original, counts=codebook_counts(engine.spec, None)[-1:])
    codec = tensor_model(engine)
    audio = torch.from_numpy(original)[None, None].to(next(codec.parameters()).device)
    frames = codec.embed(audio)[0].T.cpu().numpy()
    step = ceil_div(len(frames), max_frames)
    return measured, frames[::step].copy()  # a view would keep all frames in memory


def principal_components(frames: Latents, count: int = 2) -> tuple[Latents, Floats]:
    """Principal component analysis of vectors ``[n, E]``.

    Returns:
        Coordinates ``[n, count]`` along the directions of largest variance, and the share of the
        variance along each. The sign of a direction makes its largest weight positive.
    """
    centred = frames - frames.mean(0)
    centred = np.pad(centred, ((0, 0), (0, max(0, count - frames.shape[1]))))
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(variances)[::-1][:count]
    chosen = directions[:, order]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(0), np.arange(chosen.shape[1])])
    shares = variances[order] / max(variances.sum(), 1e-12)
    return (centred @ chosen).astype(np.float32), shares


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Matplotlib's colours by class, the most frequent class first; `GREY` after `NUM_COLOURS`."""
    counts = Counter(classes)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    palette = [f"C{number}" for number in range(NUM_COLOURS + 1) if f"C{number}" != GREY]
    return dict(itertools.zip_longest(ranked, palette[: len(ranked)], fillvalue=GREY))


def draw_codebooks(histogram: Histogram) -> bytes:
    """A PNG of the use of codebooks, from counts of the codes ``[K, codebook_size]``."""
    numbers = np.arange(1, len(histogram) + 1)
    used = (histogram > 0).sum(1)
    effective = perplexity(histogram)
    size, num_frames = histogram.shape[1], int(histogram[0].sum())

    figure = _figure(max(6.0, 2.5 + 0.45 * len(numbers)), 4.5)
    axes = figure.add_subplot()
    axes.bar(numbers - 0.2, used, 0.4, label="entries that occur")
    axes.bar(numbers + 0.2, effective, 0.4, label="perplexity (effective number of entries)")
    axes.axhline(size, color="black", linewidth=1, linestyle=":", label=f"all {size} entries")
    axes.set_xticks(numbers if len(numbers) <= 32 else numbers[:: ceil_div(len(numbers), 16)])
    axes.set_xlabel("codebook")
    axes.set_ylabel("entries")
    axes.set_title(
        f"Codebook use over {num_frames} frames: {100 * used.mean() / size:.0f} % of the "
        f"entries, efficiency {100 * bitrate_efficiency(histogram):.0f} %",
        fontsize="medium",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _png(figure)


def draw_latents(found: Sequence[Inspected], colours: dict[str, str]) -> bytes:
    """A PNG of latent frames along the two directions of largest variance."""
    frames = np.concatenate([result.embedding for result in found])
    lengths = [len(result.embedding) for result in found]
    classes = np.repeat([result.clip.sound_class for result in found], lengths)
    # In random order, so that no class hides the others.
    order = np.random.default_rng(0).permutation(len(frames))
    points, shares = principal_components(frames[order])
    figure = _figure(8.0, 6.5)
    axes = figure.add_subplot()
    shown = [colours[name] for name in classes[order]]
    axes.scatter(points[:, 0], points[:, 1], s=4, c=shown, alpha=0.5, linewidths=0)
    for number, (axis, share) in enumerate(zip((axes.xaxis, axes.yaxis), shares, strict=True), 1):
        axis.set_label_text(f"principal component {number} ({100 * share:.0f} % of the variance)")
    title = f"Latents of {len(points)} frames from {len(found)} recordings"
    axes.set_title(title, fontsize="medium")
    _class_legend(figure, colours)
    return _png(figure)


def draw_errors(found: Sequence[Inspected], colours: dict[str, str]) -> bytes:
    """A PNG of the recordings with the largest error, which come first, and the median over all."""
    worst = found[:WORST_SHOWN]
    places = np.arange(len(worst))
    median = float(np.median([result.error for result in found]))
    figure = _figure(9.0, 2.0 + 0.24 * len(worst))
    axes = figure.add_subplot()
    classes = [result.clip.sound_class for result in worst]
    axes.barh(places, [result.error for result in worst], color=[colours[name] for name in classes])
    axes.axvline(median, color="black", linewidth=1, linestyle=":")
    axes.annotate(
        f"median of all {len(found)}",
        (median, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )
    axes.set_yticks(places, [_short(result.clip.name) for result in worst], fontsize="small")
    axes.set_ylim(len(worst) - 0.4, -0.6)
    axes.set_xlabel("mel distance (log10, sum of seven windows)")
    axes.set_title(f"Worst {len(worst)} of {len(found)} recordings", fontsize="medium", pad=18)
    _class_legend(figure, {name: colours[name] for name in colours if name in classes})
    return _png(figure)


def list_errors(found: Sequence[Inspected], skipped: Mapping[str, str]) -> bytes:
    """A CSV of all recordings, then of the files that could not be read with the reason."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("seconds", "mel_distance", "si_sdr_db", "stoi", "level_db")
    writer.writerow(["file", "class", *numbers, "skipped"])
    for result in found:
        clip, figures = result.clip, result.measured.figures[0]
        values = (result.measured.seconds, figures.mel, figures.si_sdr, figures.stoi, figures.level)
        cells = ["" if value is None else f"{value:.4g}" for value in values]
        writer.writerow([clip.name, clip.sound_class, *cells, ""])
    for name, reason in skipped.items():
        writer.writerow([name, "", *[""] * len(numbers), reason])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _class_legend(figure: Figure, colours: dict[str, str]) -> None:
    shown = {name: colour for name, colour in colours.items() if colour != GREY}
    if len(shown) < len(colours):
        shown[OTHERS] = GREY
    handles = [
        figure.axes[0].scatter([], [], s=30, color=colour, label=_short(name, 24))
        for name, colour in shown.items()
    ]
    figure.legend(
        handles=handles, loc="outside right upper", frameon=False, fontsize="small", title="class"
    )


def _short(name: str, limit: int = 48) -> str:
    """Shorten a long name in the middle and escape ``$``, which starts math in matplotlib."""
    name = name.encode(errors="replace").decode()  # a file name may be invalid UTF-8
    if len(name) > limit:
        name = f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"
    return name.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    """A new figure, size in inches. Not created through pyplot, which keeps global state."""
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
