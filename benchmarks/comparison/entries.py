"""Which codecs take part in a comparison, and at which bitrates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks.contenders.aecodec import Aecodec, PlainAecodec
from benchmarks.contenders.base import Contender
from benchmarks.contenders.registry import find_contender, peers
from codec.errors import CodecError


class Entry(NamedTuple):
    """A contender in a comparison; every process opens it for itself.

    Attributes:
        label: name in tables and plots.
        contender: name of the contender.
        model: model or folder of weights; empty if it needs none.
        bitrates: bitrates to run at, in bits per second.
    """

    label: str
    contender: str
    model: str
    bitrates: tuple[int, ...]

    def takes(self, sound_class: str) -> bool:
        """Whether the contender is meant for this class of sound."""
        return find_contender(self.contender).takes(sound_class)

    def open(self, sound_class: str) -> Contender:
        """The contender, ready for this class of sound."""
        return _open(self.contender, self.model, sound_class == "speech")


@cache
def _open(name: str, model: str, speech: bool) -> Contender:
    return find_contender(name).open(model, speech=speech)


def model_entries(
    models: Sequence[str], bitrates: Sequence[int] | None, max_bitrates: int
) -> list[Entry]:
    """Models of aecodec; two of the same name are labelled with their fingerprints.

    Models with a context model are entered twice: as they are used, and without it.

    Args:
        models: names or folders.
        bitrates: bitrates to run at, each lowered to one that the model offers; `spread` over
            those that it offers if None.
        max_bitrates: maximum number of bitrates if ``bitrates`` is None.

    Raises:
        CodecError: there is no such model, or it does not offer so low a bitrate.
    """
    opened: list[tuple[str, Aecodec]] = []
    for model in models:
        ours = Aecodec(model)
        opened.append((model, ours))
        if ours.loaded.context is not None:
            opened.append((model, PlainAecodec(model)))
    labels = [ours.label for _, ours in opened]
    entries = []
    for model, ours in opened:
        shared = labels.count(ours.label) > 1
        label = f"{ours.label} {ours.fingerprint[:6]}" if shared else ours.label
        chosen = spread(ours.bitrates(), max_bitrates)
        if bitrates is not None:
            chosen = tuple(dict.fromkeys(_at_most(ours, bitrate) for bitrate in bitrates))
        entries.append(Entry(label, ours.name, model, chosen))
    return entries


def _at_most(ours: Aecodec, bitrate: int) -> int:
    offered = [value for value in ours.bitrates() if value <= bitrate]
    if not offered:
        raise CodecError(
            f"{ours.label} starts at {ours.bitrates()[0] / 1000:g} kbit/s: give higher --bitrates"
        )
    return offered[-1]


def peer_entries(
    names: Sequence[str], folders: dict[str, str], max_bitrates: int
) -> tuple[list[Entry], dict[str, str]]:
    """Codecs to compare with.

    Args:
        names: names of contenders that need no weights.
        folders: folders of weights, by name of contender.
        max_bitrates: maximum number of bitrates of each.

    Returns:
        The entries; and for each contender that cannot take part, the reason.

    Raises:
        CodecError: there is no such contender, or it cannot be loaded from its folder.
    """
    entries, absent = [], {}
    known = peers()
    for name in [*names, *folders]:
        if name not in known:
            raise CodecError(f"no codec {name!r}: choose from {', '.join(known)}")
        model = folders.get(name, "")
        try:
            bitrates = known[name].open(model).bitrates()
        except CodecError as error:
            if known[name].needs_weights:
                raise
            absent[name] = str(error)
        else:
            entries.append(Entry(name, name, model, spread(bitrates, max_bitrates)))
    for name, contender in known.items():
        if contender.needs_weights and name not in folders:
            absent[name] = f"no weights: give --peer {name}=FOLDER"
    return entries, absent


def spread(offered: Sequence[int], count: int) -> tuple[int, ...]:
    """At most ``count`` of the bitrates, evenly spaced on a logarithmic scale, with both ends.

    Example:
        >>> spread(range(1, 101), 3)
        (1, 10, 100)
    """
    if len(offered) <= count:
        return tuple(offered)
    wanted = np.geomspace(offered[0], offered[-1], count)
    return tuple(sorted({min(offered, key=lambda value: abs(value - aim)) for aim in wanted}))
