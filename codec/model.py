"""`Encoder`, `Decoder`, and `Codec`: the three together with the quantizer between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.config import CodecConfig
from codec.errors import AudioError
from codec.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    LappedAnalysis,
    LappedSynthesis,
    Layer,
    ResidualUnit,
    State,
)
from codec.quantizer import ResidualVectorQuantizer


class Encoder(nn.Module):
    """Audio ``[B, T * hop, 1]`` -> latent ``[B, T, D]`` of at most unit RMS in every frame."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        layers: list[Layer] = []
        channels = 1
        for level, stride in enumerate(config.strides):
            width = config.encoder_channels[level]
            if level == 0 and config.lapped_transform:
                layers.append(LappedAnalysis(width, stride=stride))
            else:
                layers.append(CausalConv1d(channels, width, 2, stride=stride))
            for dilation in config.encoder_dilations[level]:
                layers.append(ResidualUnit(width, config.kernel_size, dilation))
            channels = width
        self.body = Chain(layers)
        self.project = nn.Linear(channels, config.latent_dim)

    def init_state(self, batch: int) -> State:
        return self.body.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x, state = self.body(x, state)
        latent = self.project(x).float()
        # Unbounded latents would make the commitment term explode. With an epsilon of one,
        # quiet frames keep their level and only loud ones are bounded.
        return F.rms_norm(latent, latent.shape[-1:], eps=1.0), state


class Decoder(nn.Module):
    """Latent ``[B, T, D]`` -> audio ``[B, T * hop, 1]``, down the encoder's ladder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.decoder_channels[-1]
        layers: list[Layer] = [CausalConv1d(config.latent_dim, channels, config.kernel_size)]
        for level in reversed(range(len(config.strides))):
            for dilation in config.decoder_dilations[level]:
                layers.append(ResidualUnit(channels, config.kernel_size, dilation))
            width = config.decoder_channels[level - 1] if level else 1
            stride = config.strides[level]
            if level == 0 and config.lapped_transform:
                layers.append(LappedSynthesis(channels, stride=stride))
            else:
                layers.append(CausalConvTranspose1d(channels, width, stride=stride))
            channels = width
        self.body = Chain(layers)

    def init_state(self, batch: int) -> State:
        return self.body.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        audio: tuple[Tensor, State] = self.body(x, state)
        return audio


class Codec(nn.Module):
    """A neural audio codec: audio ``[B, 1, N]`` <-> codes ``[B, K, T]``.

    Channels of a recording are coded on their own: give them as items of the batch.

    Attributes:
        config: the shape of the model.
        fingerprint: 16 bytes that name what codes mean (`codec.store.fingerprint`), empty for a
            model that was never saved. Streams carry it, so that they find their model.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = b""
        self.encoder = Encoder(config)
        self.quantizer = ResidualVectorQuantizer(
            config.latent_dim, config.num_codebooks, config.codebook_size, config.codebook_dim
        )
        self.decoder = Decoder(config)

    def encode_latent(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 1, T * hop]`` -> latent ``[B, T, D]``, before quantization."""
        latent: Tensor
        latent, _ = self.encoder(audio.mT, self.encoder.init_state(len(audio)))
        return latent

    def decode_latent(self, latent: Tensor, num_samples: int) -> Tensor:
        """Latent ``[B, T, D]`` -> audio ``[B, 1, num_samples]``, aligned with what was encoded."""
        latent = torch.cat((latent, self._empty_latent(len(latent))), dim=1)
        audio: Tensor
        audio, _ = self.decoder(latent, self.decoder.init_state(len(latent)))
        delay = self.config.delay
        return audio.mT[..., delay : delay + num_samples]

    @torch.inference_mode()
    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Audio of any length in one step from the initial state.

        Args:
            audio: ``[B, 1, N]`` float, nominally in [-1, 1], at the model's sampling rate.
            num_codebooks: codebooks to use; all if None.

        Returns:
            Codes ``[B, K, T]`` int64 with ``T = ceil(N / hop_length)``.

        Raises:
            AudioError: the shape is wrong, or a sample is not finite.
            ConfigError: ``num_codebooks`` is out of range.
        """
        if audio.dim() != 3 or audio.shape[1] != 1:
            raise AudioError(
                f"audio has shape {list(audio.shape)}: give [B, 1, N], channels as batch items"
            )
        if not audio.is_floating_point():
            raise AudioError(f"audio is {audio.dtype}: give floats in [-1, 1]")
        if not audio.isfinite().all():
            raise AudioError("audio holds NaN or infinite samples: repair it before coding")
        padding = -audio.shape[-1] % self.config.hop_length
        state = self.encoder.init_state(len(audio))
        codes, _ = self.encode_step(F.pad(audio.float(), (0, padding)), state, num_codebooks)
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Codes of the first K codebooks back to audio, in one step from the initial state.

        Args:
            codes: ``[B, K, T]`` integers.
            num_samples: length of the audio that was encoded; ``T * hop_length`` if None.

        Returns:
            Audio ``[B, 1, num_samples]``.

        Raises:
            AudioError: the codes are no codes of this model, or do not last that long.
            ConfigError: there are more codebooks than the model has.
        """
        longest = codes.shape[-1] * self.config.hop_length
        num_samples = longest if num_samples is None else num_samples
        if not 0 <= num_samples <= longest:
            raise AudioError(f"num_samples is {num_samples}: these codes hold 0 to {longest}")
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.config.codebook_size:
            raise AudioError(f"a code is outside 0..{self.config.codebook_size - 1}")
        return self.decode_latent(self.quantizer.decode(codes), num_samples)

    def encode_step(
        self, audio: Tensor, state: State, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        """One streaming step: audio ``[B, 1, T * hop]`` -> codes ``[B, K, T]``.

        The first state is ``codec.encoder.init_state(B)``.
        """
        latent, state = self.encoder(audio.mT, state)
        return self.quantizer.encode(latent, num_codebooks), state

    def decode_step(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step: codes ``[B, K, T]`` -> audio ``[B, 1, T * hop]``.

        What comes out trails by ``config.delay`` samples. The first state is
        ``codec.decoder.init_state(B)``.
        """
        audio, state = self.decoder(self.quantizer.decode(codes), state)
        return audio.mT, state

    def flush_step(self, batch: int, state: State) -> Tensor:
        """The audio ``[B, 1, flush_frames * hop]`` still inside the decoder after the last code.

        The decoder is fed latents of zero, which it meets at the end of each clip in training.
        """
        audio: Tensor
        audio, _ = self.decoder(self._empty_latent(batch), state)
        return audio.mT

    def _empty_latent(self, batch: int) -> Tensor:
        weight = self.quantizer.stages[0].codebook
        return weight.new_zeros(batch, self.config.flush_frames, self.config.latent_dim)
