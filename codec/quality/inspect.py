"""Pictures of a codec at work on a folder of recordings.

How it uses its codebooks, where sounds lie in its latent space, and which recordings it decodes
worst: often it is not the codec that is odd there but the recording.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from codec.corpus.index import Clip
from codec.corpus.workers import OPENING_SECONDS, Recordings
from codec.engines.base import Engine
from codec.engines.torch import tensor_model
from codec.errors import CodecError
from codec.io.outputs import write_atomically
from codec.quality.evaluate import Measured, codebook_counts, measure
from codec.quality.metrics import Histogram, Samples, bitrate_efficiency, perplexity
from codec.registry import Model, as_engine

Floats = npt.NDArray[np.float32]

CODEBOOKS, LATENTS, ERRORS, LIST = "codebooks.png", "latents.png", "errors.png", "errors.csv"

MAX_FRAMES, MAX_FRAMES_EACH = 20_000, 200
"""Of the map of latents: in all, and of one recording."""
WORST_SHOWN = 30
COLOURS = 9
"""Classes with a colour of their own; the smaller ones share grey."""
OTHERS = "others"


@dataclass(frozen=True)
class Inspected:
    """What is drawn of one recording.

    Attributes:
        clip: which.
        measured: at the top bitrate.
        embedding: frames of `Codec.embed`, evenly spread, ``[n, E]``.
    """

    clip: Clip
    measured: Measured
    embedding: Floats

    @property
    def error(self) -> float:
        """Mel distance: unlike SI-SDR it is no stricter with sounds that have no clear phase."""
        return self.measured.figures[0].mel


def inspect(
    model: Model,
    folder: Path,
    out: Path,
    *,
    seconds: float = OPENING_SECONDS,
    every: int = 1,
    force: bool = False,
    processes: int = 1,
) -> list[Path]:
    """Draw a codec at work.

    Writes ``codebooks.png`` (not for continuous latents), ``latents.png``, ``errors.png``, and
    ``errors.csv`` with every recording, the worst first.

    Args:
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        folder: searched through all its subfolders; what cannot be read ends the list.
        out: folder for the pictures, made if missing.
        seconds: how much of each recording is looked at, from its beginning.
        every: take every n-th recording only.
        force: replace what is in ``out``.
        processes: see `Recordings.each`.

    Returns:
        The files that were written.

    Raises:
        CodecError: the pictures exist, or nothing in ``folder`` can be read.
    """
    engine = as_engine(model)
    info = engine.info
    names = [LATENTS, ERRORS, LIST]
    if info.has_codes:
        names.insert(0, CODEBOOKS)
    for name in names:
        if (out / name).exists() and not force:
            raise CodecError(f"{out / name} exists: give --force to replace it")
    recordings = Recordings(folder, seconds=seconds, every=every)
    frames = max(1, min(MAX_FRAMES_EACH, MAX_FRAMES // len(recordings)))
    work = partial(examine, max_frames=frames)
    found, histogram = [], np.zeros((info.num_codebooks, info.codebook_size), np.int64)
    for clip, (measured, embedding) in recordings.each(
        engine, work, processes=processes, title="inspecting"
    ):
        if measured.histogram is not None:
            histogram += measured.histogram
        measured = dataclasses.replace(measured, histogram=None)  # a thousand of them fill memories
        found.append(Inspected(clip, measured, embedding))
    found.sort(key=lambda result: -result.error)
    colours = class_colours([result.clip.kind for result in found])
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


def examine(engine: Engine, original: Samples, *, max_frames: int) -> tuple[Measured, Floats]:
    """Measure a recording ``[N]`` at the top bitrate; its latents too, ``[n, E]``."""
    measured = measure(engine, original, counts=codebook_counts(engine.info, None)[-1:])
    codec = tensor_model(engine)
    audio = torch.from_numpy(original)[None, None].to(next(codec.parameters()).device)
    frames = codec.embed(audio)[0].T.cpu().numpy()
    return measured, frames[:: -(-len(frames) // max_frames)].copy()  # not a view of them all


def principal_components(frames: Floats, count: int = 2) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Coordinates of frames ``[n, E]`` along their directions of most variance.

    Returns:
        Coordinates ``[n, count]``, and the share of the variance that lies along each. Signs are
        such that the largest weight of every direction is positive.
    """
    centred = frames - frames.mean(0)
    centred = np.pad(centred, ((0, 0), (0, max(0, count - frames.shape[1]))))
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(variances)[::-1][:count]
    chosen = directions[:, order]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(0), np.arange(chosen.shape[1])])
    shares = variances[order] / max(variances.sum(), 1e-12)
    return (centred @ chosen).astype(np.float32), shares


def class_colours(kinds: Sequence[str]) -> dict[str, str]:
    """A colour for each class, the most frequent first; those beyond `COLOURS` are grey."""
    ranked = sorted(Counter(kinds).items(), key=lambda item: (-item[1], item[0]))
    return {
        kind: f"C{rank if rank < 7 else rank + 1}" if rank < COLOURS else "C7"
        for rank, (kind, _) in enumerate(ranked)
    }


def draw_codebooks(histogram: Histogram) -> bytes:
    """Entries that occur, and perplexity, of each codebook, from counts ``[K, codebook_size]``."""
    levels = np.arange(1, len(histogram) + 1)
    used = (histogram > 0).sum(1)
    effective = perplexity(histogram)
    size, num_frames = histogram.shape[1], int(histogram[0].sum())

    figure = _figure(max(6.0, 2.5 + 0.45 * len(levels)), 4.5)
    axes = figure.add_subplot()
    axes.bar(levels - 0.2, used, 0.4, label="entries that occur")
    axes.bar(levels + 0.2, effective, 0.4, label="perplexity (entries in effective use)")
    axes.axhline(size, color="black", linewidth=1, linestyle=":", label=f"all {size} entries")
    axes.set_xticks(levels if len(levels) <= 32 else levels[:: -(-len(levels) // 16)])
    axes.set_xlabel("codebook")
    axes.set_ylabel("entries")
    axes.set_title(
        f"Use of the codebooks over {num_frames} frames: {100 * used.mean() / size:.0f} % of the "
        f"entries, efficiency {100 * bitrate_efficiency(histogram):.0f} %",
        fontsize="medium",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _png(figure)


def draw_latents(found: Sequence[Inspected], colours: dict[str, str]) -> bytes:
    """Frames of the latent space along its two directions of most variance."""
    frames = np.concatenate([result.embedding for result in found])
    kinds = np.repeat(
        [result.clip.kind for result in found],
        [len(result.embedding) for result in found],
    )
    # In random order, so that no class lies on top of the others.
    order = np.random.default_rng(0).permutation(len(frames))
    points, shares = principal_components(frames[order])
    figure = _figure(8.0, 6.5)
    axes = figure.add_subplot()
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=4,
        c=[colours[kind] for kind in kinds[order]],
        alpha=0.5,
        linewidths=0,
    )
    labels = [
        f"principal component {number} ({100 * share:.0f} % of the variance)"
        for number, share in enumerate(shares, 1)
    ]
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(
        f"Latents of {len(points)} frames from {len(found)} recordings", fontsize="medium"
    )
    _class_legend(figure, colours)
    return _png(figure)


def draw_errors(found: Sequence[Inspected], colours: dict[str, str]) -> bytes:
    """The recordings that are decoded worst, beside what is usual."""
    worst = found[:WORST_SHOWN]
    places = np.arange(len(worst))
    median = float(np.median([result.error for result in found]))
    figure = _figure(9.0, 2.0 + 0.24 * len(worst))
    axes = figure.add_subplot()
    kinds = [result.clip.kind for result in worst]
    axes.barh(places, [result.error for result in worst], color=[colours[kind] for kind in kinds])
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
    _class_legend(figure, {kind: colours[kind] for kind in colours if kind in kinds})
    return _png(figure)


def list_errors(found: Sequence[Inspected], skipped: Mapping[str, str]) -> bytes:
    """All recordings as CSV, the worst first; those that could not be read at the end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["file", "class", "seconds", "mel_distance", "si_sdr_db", "stoi", "level_db", "skipped"]
    )
    for result in found:
        clip, figures = result.clip, result.measured.figures[0]
        values = (result.measured.seconds, figures.mel, figures.si_sdr, figures.stoi, figures.level)
        cells = ["" if value is None else f"{value:.4g}" for value in values]
        writer.writerow([clip.name, clip.kind, *cells, ""])
    for name, reason in skipped.items():
        writer.writerow([name, *[""] * 6, reason])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _class_legend(figure: Figure, colours: dict[str, str]) -> None:
    shown = {kind: colour for kind, colour in colours.items() if colour != "C7"}
    if len(shown) < len(colours):
        shown[OTHERS] = "C7"
    handles = [
        figure.axes[0].scatter([], [], s=30, color=colour, label=_short(kind, 24))
        for kind, colour in shown.items()
    ]
    figure.legend(
        handles=handles, loc="outside right upper", frameon=False, fontsize="small", title="class"
    )


def _short(name: str, limit: int = 48) -> str:
    """A name without its middle if it is long; ``$`` would start mathematics."""
    name = name.encode(errors="replace").decode()  # a file's name may be no UTF-8
    if len(name) > limit:
        name = f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"
    return name.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches: no state of pyplot is touched."""
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()
