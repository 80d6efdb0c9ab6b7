"""SNAC (arXiv:2410.14411), as its package ``snac`` makes it, with the interface of transformers.

Its codebooks have different rates. One frame is as long as what SNAC pads signals to: a code of the
slowest codebook, or a window of its attention, if it has one. It lists the codes of the slowest
codebook first, then those of the next one in order of time, and so on: 1 + 2 + 4 at 24 kHz.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from codec.codes import Codebook
from codec.engines.pretrained.engine import Shape

with warnings.catch_warnings():  # it compiles a function in a way that PyTorch gives up
    warnings.simplefilter("ignore", DeprecationWarning)
    import snac

PICKLED = "pytorch_model.bin"
"""Weights as SNAC publishes them; they are read as tensors only."""

_frames: ContextVar[range] = ContextVar("_frames")
"""Numbers of the frames that are decoded."""


@dataclass(frozen=True)
class SnacConfig:
    """Settings of a model; the defaults are those of the published 24 kHz model.

    Attributes:
        sampling_rate: in Hz.
        encoder_dim: channels of the first layer.
        encoder_rates: strides of the encoder.
        latent_dim: channels between encoder and decoder; follows from the encoder if None.
        decoder_dim: channels of the decoder's first layer.
        decoder_rates: strides of the decoder.
        attn_window_size: latents in a window of the attention; None without.
        codebook_size: entries of a codebook.
        codebook_dim: values of an entry.
        vq_strides: latents per code of each codebook.
        noise: whether the decoder adds noise.
        depthwise: whether its convolutions are depthwise.

    Example:
        >>> shape = SnacConfig().shape
        >>> [each.per_frame for each in shape.codebooks], shape.hop_length, shape.num_latents
        ([1, 2, 4], 2048, 4)
    """

    sampling_rate: int = 24_000
    encoder_dim: int = 48
    encoder_rates: Sequence[int] = (2, 4, 8, 8)
    latent_dim: int | None = None
    decoder_dim: int = 1024
    decoder_rates: Sequence[int] = (8, 8, 4, 2)
    attn_window_size: int | None = None
    codebook_size: int = 4096
    codebook_dim: int = 8
    vq_strides: Sequence[int] = (4, 2, 1)
    noise: bool = True
    depthwise: bool = True

    model_type = "snac"

    @classmethod
    def get_config_dict(
        cls, source: str | Path, *, local_files_only: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings in a folder or on the hub, which are SNAC's if they have its strides."""
        path = _find(source, "config.json", local_files_only)
        found = json.loads(path.read_text("utf-8"))
        kind = {"model_type": "snac"} if "vq_strides" in found else {}
        return kind | found, {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SnacConfig:
        """Settings of which some may be missing, which then have SNAC's own defaults."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """Settings as JSON."""
        return dataclasses.asdict(self)

    @property
    def shape(self) -> Shape:
        """Frames of the model."""
        latents = math.lcm(*self.vq_strides, self.attn_window_size or 1)
        books = tuple(Codebook(self.codebook_size, latents // each) for each in self.vq_strides)
        return Shape(books, math.prod(self.encoder_rates) * latents, latents)


class SnacModel(nn.Module):
    """A model of the package ``snac``, with codes in frames.

    Args:
        config: its settings.

    Attributes:
        config: its settings.
        network: the model.

    Example:
        >>> model = SnacModel(SnacConfig(encoder_dim=2, decoder_dim=16, codebook_dim=2))
        >>> model.encode(torch.zeros(1, 1, 3 * 2048)).shape
        torch.Size([1, 7, 3])
    """

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.config = config
        self.network = snac.SNAC(**config.to_dict())
        noisy = [block for block in self.network.decoder.modules() if hasattr(block, "block")]
        for number, block in enumerate(noisy):
            for name, layer in block.block.named_children():
                if type(layer).__name__ == "NoiseBlock":
                    setattr(block.block, name, Noise(layer.linear, number))

    @property
    def encoder(self) -> nn.Module:
        """Audio -> latents."""
        encoder: nn.Module = self.network.encoder
        return encoder

    @property
    def decoder(self) -> nn.Module:
        """Latents -> audio."""
        decoder: nn.Module = self.network.decoder
        return decoder

    def encode(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 1, N]`` of whole frames -> codes ``[B, K, T]``."""
        num_frames = audio.shape[-1] // self.config.shape.hop_length
        books = self.network.encode(audio)
        rows = [codes.unflatten(-1, (num_frames, -1)).transpose(1, 2) for codes in books]
        return torch.cat(rows, dim=1)

    def decode(self, codes: Tensor, first_frame: int = 0) -> Tensor:
        """Codes ``[B, K, T]`` -> audio ``[B, 1, N]``; codebooks that are not given add nothing.

        Args:
            codes: of frames that follow one another.
            first_frame: number of the first of them, on which the noise depends.
        """
        shape = self.config.shape
        latents = torch.zeros(())
        for quantizer, book in zip(self.network.quantizer.quantizers, shape.codebooks):
            given, codes = codes[:, : book.per_frame], codes[:, book.per_frame :]
            if not given.shape[1]:
                break
            values = quantizer.out_proj(quantizer.decode_code(given.transpose(1, 2).flatten(1)))
            latents = latents.to(values.device) + values.repeat_interleave(quantizer.stride, -1)
        num_frames = latents.shape[-1] // shape.num_latents
        token = _frames.set(range(first_frame, first_frame + num_frames))
        try:
            audio: Tensor = self.network.decoder(latents)
        finally:
            _frames.reset(token)
        return audio

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files that `from_pretrained`, and the package ``snac`` itself, read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict()))
        torch.save(self.network.state_dict(), folder / PICKLED)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        config: SnacConfig,
        local_files_only: bool,
        use_safetensors: bool = True,
    ) -> SnacModel:
        """The model in a folder or on the hub."""
        model = cls(config)
        safe = Path(source, "model.safetensors")
        if safe.is_file():
            weights = safetensors.torch.load_file(safe)
        else:
            path = _find(source, PICKLED, local_files_only)
            weights = torch.load(path, map_location="cpu", weights_only=True)
        model.network.load_state_dict(weights)
        return model


class Noise(nn.Module):
    """SNAC's noise block, whose noise depends on the frame, so that windows have the same noise.

    Args:
        linear: what shapes the noise.
        number: distinguishes the blocks of a model.
    """

    def __init__(self, linear: nn.Module, number: int) -> None:
        super().__init__()
        self.linear, self._number = linear, number

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T * n]`` of frames -> the same with noise."""
        frames = _frames.get()
        count = x.shape[-1] // len(frames)
        noise = np.concatenate(
            [
                np.random.default_rng([self._number, frame]).standard_normal(count, np.float32)
                for frame in frames
            ]
        )
        noisy: Tensor = x + torch.from_numpy(noise).to(x.device) * self.linear(x)
        return noisy


def _find(source: str | Path, name: str, local: bool) -> Path:
    """A file of a model in a folder, or downloaded from the hub."""
    if local:
        return Path(source, name)
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(str(source), name))
