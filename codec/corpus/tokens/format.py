"""Tokens, the codes of a recording, and what all tokens of a corpus have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codec.arguments import check_whole, shown
from codec.arrays import Codes, StoredCodes
from codec.bitrate import ceil_div
from codec.codes import Codebook, CodecSpec, Geometry
from codec.config import MAX_CHANNELS_TOGETHER, MAX_CODEBOOK_SIZE, MAX_CODEBOOKS
from codec.corpus.sources import shortened
from codec.errors import FormatError
from codec.format.container import Header
from codec.format.timeline import resampled_length

FORMATS = SIMPLE_FORMAT, TABLE_FORMAT = 1, 2
"""Versions of the shards and of their manifest. The second is for codes that are not simple."""


@dataclass(frozen=True)
class TokenFormat(Geometry):
    """What all codes of a corpus have in common."""

    model: str  # name of the model, for people
    fingerprint: str  # of the model, in hexadecimal digits
    sample_rate: int  # of the model in Hz
    hop_length: int  # samples per frame at that rate
    codebooks: tuple[Codebook, ...]  # those whose codes are kept, the coarsest first
    channels_coded_together: int = 1  # channels of the recordings, which share their codes

    @classmethod
    def of(cls, spec: CodecSpec | Header, codebooks: int | None = None) -> TokenFormat:
        """That of a model or stream, with so many codebooks, the first ones; all if None.

        Raises:
            ConfigError: the model has not so many codebooks, or no codes.
        """
        spec.check_has_codes()
        if codebooks is not None:
            codebooks = check_whole("codebooks", codebooks, 1, len(spec.codebooks))
        return cls(
            spec.name if isinstance(spec, CodecSpec) else "",
            spec.fingerprint.hex(),
            spec.sample_rate,
            spec.hop_length,
            spec.codebooks[:codebooks],
            spec.channels_coded_together,
        )

    @classmethod
    def from_dict(cls, facts: Any, name: str) -> TokenFormat:
        """That of a shard or manifest, from what `to_dict` gave.

        Raises:
            FormatError: it is of another version, or damaged.
        """
        try:
            version = facts["format"]
            if version not in FORMATS:
                raise FormatError(
                    f"{name} has format {shown(version)}, this version of aecodec reads "
                    f"{FORMATS[0]} to {FORMATS[-1]}: upgrade aecodec"
                )
            model, fingerprint = _text(facts, "model"), _text(facts, "fingerprint")
            bytes.fromhex(fingerprint)
            rate, hop_length = _number(facts, "sample_rate"), _number(facts, "hop_length")
            if version == SIMPLE_FORMAT:
                book = Codebook(_number(facts, "codebook_size", MAX_CODEBOOK_SIZE))
                codebooks = (book,) * _number(facts, "num_codebooks", MAX_CODEBOOKS)
                return cls(model, fingerprint, rate, hop_length, codebooks)
            codebooks = tuple(
                Codebook(_number(each, 0, MAX_CODEBOOK_SIZE), _number(each, 1, MAX_CODEBOOKS))
                for each in facts["codebooks"]
            )
            if not codebooks or any(each.size & (each.size - 1) for each in codebooks):
                raise ValueError(f"codebooks are {shown(facts['codebooks'])}")
            together = _number(facts, "channels_coded_together", MAX_CHANNELS_TOGETHER)
            return cls(model, fingerprint, rate, hop_length, codebooks, together)
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{name} does not describe its codes: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the version of the format."""
        names = ("model", "fingerprint", "sample_rate", "hop_length")
        facts = {name: getattr(self, name) for name in names}
        if self.has_simple_codes:
            size = self.codebooks[0].size
            facts |= {"num_codebooks": len(self.codebooks), "codebook_size": size}
            return {"format": SIMPLE_FORMAT, **facts}
        table = [[each.size, each.per_frame] for each in self.codebooks]
        together = self.channels_coded_together
        facts |= {"codebooks": table, "channels_coded_together": together}
        return {"format": TABLE_FORMAT, **facts}


def _text(facts: Any, key: str) -> str:
    if type(value := facts[key]) is not str:
        raise ValueError(f"{key} is {shown(value)}")
    return value


def _number(facts: Any, key: Any, most: int = 2**31) -> int:
    if type(value := facts[key]) is not int or not 1 <= value <= most:
        raise ValueError(f"{key} is {shown(value)}")
    return value


@dataclass(frozen=True)
class Tokens:
    """The codes of one recording.

    Attributes:
        kind: what it has in common with the others.
        id: name of the recording.
        path: where its audio was, relative to the common folder of all sources.
        frames: ``[T, K]`` uint16, frame by frame.
        original_samples: samples of the recording per channel.
        original_sample_rate: sampling rate of the recording in Hz.
        columns: further columns.

    Example:
        >>> from codec import load_model
        >>> from codec.engines.base import decode
        >>> engine = load_model().engine
        >>> frames = np.zeros((50, 12), np.uint16)
        >>> tokens = Tokens(TokenFormat.of(engine.spec), "a", "a.wav", frames, 44_100, 44_100)
        >>> tokens.codes.shape, tokens.num_samples, tokens.duration_seconds
        ((1, 12, 50), 24000, 1.0)
        >>> decode(engine, tokens.codes, tokens.num_samples).shape
        (1, 24000)
    """

    kind: TokenFormat
    id: str
    path: str
    frames: StoredCodes
    original_samples: int
    original_sample_rate: int
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> Codes:
        """``[1, K, T]`` int64, as `codec.engines.base.decode` takes them."""
        return np.ascontiguousarray(self.frames.T[None], dtype=np.int64)

    @property
    def num_samples(self) -> int:
        """Samples at the model's rate."""
        rates = self.original_sample_rate, self.kind.sample_rate
        return resampled_length(self.original_samples, *rates)

    @property
    def duration_seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.original_samples / self.original_sample_rate

    def row(self) -> dict[str, Any]:
        """All but the codes, under the names of the columns."""
        return {
            "id": self.id,
            "path": self.path,
            "num_frames": len(self.frames),
            "num_codebooks": self.kind.num_codes(),
            "duration_seconds": self.duration_seconds,
            "sample_rate": self.original_sample_rate,
            "model": self.kind.model,
            "fingerprint": self.kind.fingerprint,
        } | {SAFE.get(name, name): value for name, value in self.columns.items()}

    @classmethod
    def from_row(cls, kind: TokenFormat, row: dict[str, Any], frames: Any, name: str) -> Tokens:
        """Tokens of what `row` gave, and of its codes in any shape.

        The name is that of the shard, for error messages.

        Raises:
            FormatError: the row contradicts itself or ``kind``.
        """
        given = row.get("id", "")
        try:
            row = {**row}
            ours = (row.pop(name) for name in COLUMNS if name != "codes")
            identifier, path, num_frames, num_codes, seconds, rate, _, fingerprint = ours
            # Text times a number would be a very long text.
            if not all(type(each) is int for each in (rate, num_frames, num_codes)):
                raise TypeError("a sampling rate or a number of frames or codebooks is no integer")
            original = round(float(seconds) * rate)
            flat = np.asarray(frames)
            if flat.dtype.kind not in "ui" or not flat.size == num_frames * num_codes:
                raise ValueError(f"{flat.size} codes are not {num_frames} x {num_codes}")
            if (num_codes, fingerprint) != (kind.num_codes(), kind.fingerprint):
                raise ValueError("its model or number of codebooks is another")
            sizes = np.left_shift(1, kind.bits)
            codes = flat.reshape(num_frames, num_codes)
            if (codes < 0).any() or (codes >= sizes).any():
                raise ValueError(f"a code is not below {sizes.max()}")
            shaped = codes.astype(np.uint16)
            tokens = cls(kind, str(identifier), str(path), shaped, original, rate, row)
            # There may be frames after the last sample, which complete the end.
            needed = ceil_div(tokens.num_samples, kind.hop_length)
            if not needed <= num_frames <= needed + kind.frame_rate:
                raise ValueError(f"{num_frames} frames are not {tokens.duration_seconds} seconds")
        except (LookupError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else str(error)
            raise FormatError(
                f"{name} has a damaged row {shortened(given)!r}: {shortened(reason)}"
            ) from error
        return tokens


COLUMNS = {
    "id": "string",
    "path": "string",
    "codes": "uint16",  # a list of them
    "num_frames": "int32",
    "num_codebooks": "int32",
    "duration_seconds": "float64",
    "sample_rate": "int32",
    "model": "string",
    "fingerprint": "string",
}
"""Our columns, with Arrow's names of their types."""
# Columns of a manifest that have the name of one of ours are kept under another.
SAFE = {name: f"source_{name}" for name in COLUMNS}
