"""EnCodec, DAC and Mimi, as the package ``transformers`` of Hugging Face implements them."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch.nn.utils import parametrize

from benchmarks.contenders.base import Contender, Encoded
from codec.errors import CodecError


class TransformersContender(Contender):
    """A neural codec of ``transformers``.

    It has no file format; the payload is the number of codes times the bits of a code. Weights come
    from a local folder: nothing is downloaded.

    Args:
        model: loaded model; see `load` and `with_random_weights`.

    Attributes:
        class_prefix: prefix of the configuration and model classes in ``transformers``.
        published: configuration of the published 24 kHz model, where it is not the default.
        model: the loaded model.
    """

    packages = ("transformers",)
    extra = "peers"
    needs_weights = True
    class_prefix: ClassVar[str]
    published: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: Any) -> None:
        self.model = model
        self.sample_rate = int(model.config.sampling_rate)
        self.num_codebooks, self.hop_length = self._shape(model.config)
        self._bits_per_code = int(model.config.codebook_size).bit_length() - 1
        # EnCodec and Mimi hold their codebooks as buffers, which do not count here.
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())

    @abstractmethod
    def _shape(self, config: Any) -> tuple[int, int]:
        """Number of codebooks, and samples per frame."""

    @abstractmethod
    def _encode(self, batch: torch.Tensor, bitrate: int) -> Any:
        """Audio ``[1, 1, N]`` -> codes ``[1, K, T]``."""

    def _decode(self, codes: torch.Tensor) -> Any:
        """Codes ``[1, K, T]`` -> audio of ``N`` samples."""
        return self.model.decode(audio_codes=codes).audio_values

    @classmethod
    def open(cls, model: str = "", *, speech: bool = True) -> Self:
        if not model:
            raise CodecError(f"{cls.name} needs its weights: give --peer {cls.name}=FOLDER")
        opened = _load(cls, model)
        assert isinstance(opened, cls)
        return opened

    @classmethod
    def open_for_timing(cls) -> Self:
        """Random weights, on which speed does not depend, with the weight norm folded."""
        contender = cls.with_random_weights()
        for module in contender.model.modules():
            for folded in list(getattr(module, "parametrizations", ())):
                parametrize.remove_parametrizations(module, folded)
        contender.num_parameters = sum(p.numel() for p in contender.model.parameters())
        return contender

    @classmethod
    def weights_file(cls, model: str) -> Path | None:
        return Path(model) / "model.safetensors"

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load a model with weights from a local folder; nothing is downloaded.

        Raises:
            CodecError: the folder does not hold such a model, or ``transformers`` is missing.
        """
        config_class, model_class = cls._classes()
        folder = Path(folder)
        if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
            raise CodecError(
                f"{folder} holds no {cls.name} model: "
                "give a folder with its config.json and model.safetensors"
            )
        config = config_class.from_pretrained(folder, local_files_only=True)
        model = model_class.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True
        )
        return cls(model.eval())

    @classmethod
    def with_random_weights(cls, **config: Any) -> Self:
        """A model of the published shape with random weights: for measuring speed.

        Args:
            **config: settings that replace those of the published configuration.

        Raises:
            CodecError: ``transformers`` is missing.
        """
        config_class, model_class = cls._classes()
        torch.manual_seed(0)
        model = model_class(config_class(**(cls.published | config)))
        with torch.no_grad():
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith(("embed", "embed_sum")):  # they are initialised to zero
                    buffer.normal_()
        return cls(model.eval())

    @classmethod
    def _classes(cls) -> tuple[Any, Any]:
        try:
            import transformers
        except ImportError as error:
            raise CodecError(
                f'{cls.name} needs transformers: pip install "aecodec[{cls.extra}]"'
            ) from error
        return (
            getattr(transformers, f"{cls.class_prefix}Config"),
            getattr(transformers, f"{cls.class_prefix}Model"),
        )

    def bitrates(self) -> tuple[int, ...]:
        frame_rate = Fraction(self.sample_rate, self.hop_length)
        return tuple(
            int(count * self._bits_per_code * frame_rate)
            for count in range(1, self.num_codebooks + 1)
        )

    def encode(self, audio: np.ndarray, bitrate: int) -> Encoded:
        """Encode ``[N]`` float32 at `sample_rate`; the content is codes ``[1, K, T]``."""
        padded = np.pad(audio, (0, -len(audio) % self.hop_length)).astype(np.float32)
        with torch.inference_mode():
            codes = self._encode(torch.from_numpy(padded)[None, None], bitrate)
        return Encoded(codes, codes.numel() * self._bits_per_code, None)

    def decode(self, encoded: Encoded) -> np.ndarray:
        with torch.inference_mode():
            decoded = self._decode(encoded.content)
        return np.asarray(decoded.flatten().numpy())


@cache
def _load(cls: type[TransformersContender], folder: str) -> TransformersContender:
    return cls.load(folder)


class EnCodec(TransformersContender):
    """EnCodec (arXiv:2210.13438), the causal model for mono audio at 24 kHz."""

    name = "encodec"
    class_prefix = "Encodec"

    def _shape(self, config: Any) -> tuple[int, int]:
        if config.audio_channels != 1 or config.chunk_length_s:
            raise CodecError("this EnCodec is not the 24 kHz mono one: give facebook/encodec_24khz")
        return config.num_quantizers, config.hop_length

    def bitrates(self) -> tuple[int, ...]:
        """Only those that the model was trained at."""
        return tuple(round(1000 * kbits) for kbits in self.model.config.target_bandwidths)

    def _encode(self, batch: torch.Tensor, bitrate: int) -> Any:
        return self.model.encode(batch, bandwidth=bitrate / 1000).audio_codes[0]

    def _decode(self, codes: torch.Tensor) -> Any:
        return self.model.decode(codes[None], [None]).audio_values


class DAC(TransformersContender):
    """The Descript Audio Codec (arXiv:2306.06546) at 24 kHz."""

    name = "dac"
    class_prefix = "Dac"
    published: ClassVar[dict[str, Any]] = {
        "downsampling_ratios": [2, 4, 5, 8],
        "n_codebooks": 32,
        "sampling_rate": 24_000,
    }

    def _shape(self, config: Any) -> tuple[int, int]:
        return config.n_codebooks, config.hop_length

    def _encode(self, batch: torch.Tensor, bitrate: int) -> Any:
        count = self.bitrates().index(bitrate) + 1
        return self.model.encode(batch, n_quantizers=count).audio_codes


class Mimi(TransformersContender):
    """Mimi (arXiv:2410.00037), for speech and other audio at 24 kHz."""

    name = "mimi"
    class_prefix = "Mimi"

    def _shape(self, config: Any) -> tuple[int, int]:
        return config.num_quantizers, round(config.sampling_rate / config.frame_rate)

    def _encode(self, batch: torch.Tensor, bitrate: int) -> Any:
        count = self.bitrates().index(bitrate) + 1
        return self.model.encode(batch, num_quantizers=count).audio_codes
