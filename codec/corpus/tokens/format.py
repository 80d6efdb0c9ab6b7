"""Tokens, the codes of a recording, and what all tokens of a corpus have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from codec.arrays import Codes, StoredCodes
from codec.bitrate import ceil_div
from codec.codes import CodecSpec
from codec.corpus.sources import shortened
from codec.errors import FormatError
from codec.format.timeline import resampled_length

FORMAT = 1
"""Version of the shards and of their manifest."""


@dataclass(frozen=True)
class TokenFormat:
    """What all codes of a corpus have in common.

    Attributes:
        model: name of the model, for people.
        fingerprint: fingerprint of the model, in hexadecimal digits.
        sample_rate: sampling rate of the model in Hz.
        hop_length: samples per frame at that rate.
        num_codebooks: codebooks per frame.
        codebook_size: entries of a codebook: every code is below.

    Example:
        >>> from codec import load_model
        >>> kind = TokenFormat.of(load_model().spec, bitrate=3_000)
        >>> kind.num_codebooks, float(kind.frame_rate)
        (6, 50.0)
    """

    model: str
    fingerprint: str
    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int

    @classmethod
    def of(cls, spec: CodecSpec, bitrate: int | Fraction | None = None) -> TokenFormat:
        """That of a model.

        Raises:
            ConfigError: the bitrate is out of the model's range, or the model has no codes.
        """
        return cls(
            spec.name,
            spec.fingerprint.hex(),
            spec.sample_rate,
            spec.hop_length,
            spec.codebooks_for(bitrate),
            spec.codebook_size,
        )

    @classmethod
    def from_dict(cls, facts: Any, name: str) -> TokenFormat:
        """That of a shard or manifest.

        Args:
            facts: what `to_dict` gave.
            name: name for error messages.

        Raises:
            FormatError: it is of another version, or damaged.
        """
        try:
            version = facts["format"]
            if version != FORMAT:
                raise FormatError(
                    f"{name} has format {version}, this version of aecodec reads {FORMAT}: "
                    "upgrade aecodec"
                )
            kinds = {str: ("model", "fingerprint"), int: INTEGERS}
            values = {key: facts[key] for keys in kinds.values() for key in keys}
            for kind, keys in kinds.items():
                for key in keys:
                    if type(values[key]) is not kind or (kind is int and values[key] < 1):
                        raise ValueError(f"{key} is {values[key]!r}")
            bytes.fromhex(values["fingerprint"])
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{name} does not describe its codes: {error!r}") from error
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the version of the format."""
        return {"format": FORMAT} | asdict(self)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.sample_rate, self.hop_length)


INTEGERS = ("sample_rate", "hop_length", "num_codebooks", "codebook_size")


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
            "num_codebooks": self.kind.num_codebooks,
            "duration_seconds": self.duration_seconds,
            "sample_rate": self.original_sample_rate,
            "model": self.kind.model,
            "fingerprint": self.kind.fingerprint,
        } | {SAFE.get(name, name): value for name, value in self.columns.items()}

    @classmethod
    def from_row(cls, kind: TokenFormat, row: dict[str, Any], frames: Any, name: str) -> Tokens:
        """Tokens of a row.

        Args:
            kind: of its shard.
            row: what `row` gave.
            frames: its codes, in any shape.
            name: name of the shard, for error messages.

        Raises:
            FormatError: the row contradicts itself or ``kind``.
        """
        given = row.get("id", "")
        try:
            row = {**row}
            identifier, path, rate = (row.pop(key) for key in ("id", "path", "sample_rate"))
            num_frames, num_codebooks = row.pop("num_frames"), row.pop("num_codebooks")
            seconds = row.pop("duration_seconds")
            # Text times a number would be a very long text.
            if not all(type(each) is int for each in (rate, num_frames, num_codebooks)):
                raise TypeError("a sampling rate or a number of frames or codebooks is no integer")
            original = round(float(seconds) * rate)
            fingerprint, _ = row.pop("fingerprint"), row.pop("model")
            flat = np.asarray(frames)
            if flat.dtype.kind not in "ui" or not flat.size == num_frames * num_codebooks:
                raise ValueError(f"{flat.size} codes are not {num_frames} x {num_codebooks}")
            if (num_codebooks, fingerprint) != (kind.num_codebooks, kind.fingerprint):
                raise ValueError("its model or number of codebooks is another")
            if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < kind.codebook_size:
                raise ValueError(f"a code is not below {kind.codebook_size}")
            shaped = flat.astype(np.uint16).reshape(num_frames, num_codebooks)
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
