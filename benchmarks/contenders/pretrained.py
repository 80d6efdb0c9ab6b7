"""EnCodec, DAC, Mimi and SNAC, through the engines of `codec.engines.pretrained`."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from benchmarks.contenders.base import Contender, Encoded
from codec.arrays import Codes, Samples
from codec.engines.base import encode
from codec.engines.pretrained.engine import PretrainedEngine
from codec.engines.pretrained.families import FAMILIES, load_pretrained, random_engine
from codec.errors import CodecError


class Coding(NamedTuple):
    """What decoding needs.

    Attributes:
        codes: ``[1, K, T]``.
        num_samples: length of the audio.
    """

    codes: Codes
    num_samples: int


class PretrainedContender(Contender):
    """A model of another project, on whole signals.

    It has no file format of its own; the payload is the number of codes times the bits of a code.
    Weights come from a local folder: nothing is downloaded.

    Args:
        engine: the model.

    Attributes:
        engine: the model.
    """

    packages = ("transformers",)
    extra = "peers"
    needs_weights = True

    def __init__(self, engine: PretrainedEngine) -> None:
        self.engine = engine
        self.sample_rate = engine.spec.sample_rate
        self.hop_length = engine.spec.hop_length
        # EnCodec and Mimi hold their codebooks as buffers, which do not count here.
        self.num_parameters = sum(parameter.numel() for parameter in engine.model.parameters())

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        if not model:
            raise CodecError(f"{cls.name} needs its weights: give --peer {cls.name}=FOLDER")
        return cls(_load(cls.name, model))

    @classmethod
    def open_for_timing(cls) -> Self:
        """Random weights, on which speed does not depend."""
        return cls(random_engine(cls.name))

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        return FAMILIES[cls.name].find_weights(Path(model))

    def bitrates(self) -> tuple[int, ...]:
        return tuple(map(int, self._mono_bitrates()))

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        """Encode ``[N]`` float32 at `sample_rate`; the content is a `Coding`."""
        codes = encode(self.engine, audio[None].astype(np.float32), self._count(bitrate))
        bits = codes.shape[2] * sum(self.engine.spec.bits[: codes.shape[1]])
        return Encoded(Coding(codes, len(audio)), bits, None)

    def _count(self, bitrate: int) -> int:
        """Codebooks of one of `bitrates`, by its place: fractions were rounded down there."""
        return 1 + self.bitrates().index(bitrate)

    def _mono_bitrates(self) -> list[Fraction]:
        """Those of one channel, also of a model that codes two together."""
        spec = self.engine.spec
        return [bitrate * spec.channels_coded_together for bitrate in spec.plain_bitrates]

    def decode(self, encoded: Encoded) -> Samples:
        codes, num_samples = encoded.content
        decoded: Samples = self.engine.decode_whole(codes).mean(axis=0)[:num_samples]
        return decoded


@cache
def _load(name: str, folder: str) -> PretrainedEngine:
    if not Path(folder).is_dir():
        raise CodecError(f"{folder} is no folder: give --peer {name}=FOLDER")
    return load_pretrained(name, folder)


class EnCodec(PretrainedContender):
    """EnCodec (arXiv:2210.13438): the model at 24 kHz, or with its weights that at 48 kHz."""

    name = "encodec"

    def bitrates(self) -> tuple[int, ...]:
        """Only those that the model was trained at."""
        return tuple(int(self._mono_bitrates()[count - 1]) for count in self._trained())

    def _count(self, bitrate: int) -> int:
        return self._trained()[self.bitrates().index(bitrate)]

    def _trained(self) -> list[int]:
        """Numbers of layers of the quantizer."""
        quantizer, config = self.engine.model.quantizer, self.engine.model.config
        return [quantizer.get_num_quantizers_for_bandwidth(b) for b in config.target_bandwidths]


class DAC(PretrainedContender):
    """The Descript Audio Codec (arXiv:2306.06546) at 24 kHz."""

    name = "dac"


class Mimi(PretrainedContender):
    """Mimi (arXiv:2410.00037), for speech and other audio at 24 kHz."""

    name = "mimi"


class SNAC(PretrainedContender):
    """SNAC (arXiv:2410.14411) at 24 kHz."""

    name = "snac"
    packages = ("snac",)
