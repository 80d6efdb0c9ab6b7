"""`Encoder`, `Decoder`, and `Codec`: the two together with a bottleneck between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.config import CodecConfig
from codec.errors import AudioError
from codec.network.bottleneck import Bottleneck
from codec.network.fsq import ResidualScalarQuantizer
from codec.network.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    LappedAnalysis,
    LappedSynthesis,
    Layer,
    RecurrentUnit,
    ResidualUnit,
    State,
    init_linear,
)
from codec.network.vae import GaussianBottleneck
from codec.network.vq import ResidualVectorQuantizer


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
        if config.recurrent != "none":
            layers.append(RecurrentUnit(channels, config.recurrent))
        self.body = Chain(layers)
        self.project = nn.Linear(channels, config.latent_dim)
        init_linear(self.project, fan_in=channels, before="none")

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
        if config.recurrent != "none":
            layers.append(RecurrentUnit(channels, config.recurrent))
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


def new_bottleneck(config: CodecConfig) -> Bottleneck:
    """The bottleneck that ``config`` names, untrained."""
    if config.bottleneck == "vae":
        return GaussianBottleneck(config.latent_dim, config.embedding_dim)
    kinds = {"vq": ResidualVectorQuantizer, "fsq": ResidualScalarQuantizer}
    return kinds[config.bottleneck](
        config.latent_dim, config.num_codebooks, config.codebook_size, config.codebook_dim
    )


class Codec(nn.Module):
    """A neural audio codec: audio ``[B, 1, N]`` <-> codes ``[B, K, T]``.

    Channels of a recording are coded on their own: give them as items of the batch.

    Attributes:
        config: the shape of the model.
        quantizer: the bottleneck, of any kind.
        fingerprint: 16 bytes that name what codes mean (`codec.network.weights.fingerprint`),
            empty for a model that was never saved. Streams carry it, so that they find their model.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = b""
        self.encoder = Encoder(config)
        self.quantizer = new_bottleneck(config)
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

    @torch.no_grad()
    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Audio of any length in one step from the initial state.

        Args:
            audio: ``[B, 1, N]`` float, nominally in [-1, 1], at the model's sampling rate.
            num_codebooks: codebooks to use; all if None.

        Returns:
            Codes ``[B, K, T]`` int64 with ``T = ceil(N / hop_length)``.

        Raises:
            AudioError: the shape is wrong, or a sample is not finite.
            ConfigError: ``num_codebooks`` is out of range, or the model has no codes.
        """
        return self.quantizer.encode(self._latent(audio), num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Codes of the first K codebooks back to audio, in one step from the initial state.

        Args:
            codes: ``[B, K, T]`` integers.
            num_samples: length of the audio that was encoded; ``T * hop_length`` if None.

        Returns:
            Audio ``[B, 1, num_samples]``.

        Raises:
            AudioError: the codes are no codes of this model, or do not last that long.
            ConfigError: there are more codebooks than the model has, or it has no codes.
        """
        num_samples = self._num_samples(codes.shape[-1], num_samples)
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.config.codebook_size:
            raise AudioError(f"a code is outside 0..{self.config.codebook_size - 1}")
        return self.decode_latent(self.quantizer.decode(codes), num_samples)

    @torch.no_grad()
    def embed(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Audio to one vector per frame, for other tasks than coding.

        Args:
            audio: ``[B, 1, N]``, as for `encode`.
            num_codebooks: give the latent as so many codebooks hold it, which is what a decoder
                gets; None for what the encoder says, before quantization (for a VAE the means of
                its latents, which is what a generative model would learn).

        Returns:
            ``[B, E, T]`` with ``E = config.embedding_dim`` and ``T = ceil(N / hop_length)``.

        Raises:
            AudioError: as for `encode`.
            ConfigError: there are not as many codebooks, or none at all.
        """
        latent = self._latent(audio)
        if num_codebooks is None:
            return self.quantizer.embed(latent).mT
        return self.quantizer.decode(self.quantizer.encode(latent, num_codebooks)).mT

    @torch.no_grad()
    def synthesize(self, embedding: Tensor, num_samples: int | None = None) -> Tensor:
        """The inverse of `embed`: vectors straight to audio, past any codes.

        Args:
            embedding: ``[B, E, T]`` float with ``E = config.embedding_dim``, from `embed` or from
                a model that learned from it.
            num_samples: length of the audio; ``T * hop_length`` if None.

        Returns:
            Audio ``[B, 1, num_samples]``.

        Raises:
            AudioError: the shape is wrong, a value is not finite, or it does not last that long.
        """
        channels = self.config.embedding_dim
        if embedding.dim() != 3 or embedding.shape[1] != channels:
            raise AudioError(
                f"the embedding has shape {list(embedding.shape)}: give [B, {channels}, T]"
            )
        _check_floats("the embedding", embedding)
        num_samples = self._num_samples(embedding.shape[-1], num_samples)
        return self.decode_latent(self.quantizer.unembed(embedding.mT.float()), num_samples)

    def encode_step(
        self, audio: Tensor, state: State, num_codebooks: int | None = None
    ) -> tuple[Tensor, State]:
        """One streaming step: audio ``[B, 1, T * hop]`` -> codes ``[B, K, T]``.

        The first state is ``codec.encoder.init_state(B)``.
        """
        latent, state = self.encoder(audio.mT, state)
        return self.quantizer.encode(latent, num_codebooks), state

    def embed_step(self, audio: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step of `embed`: audio ``[B, 1, T * hop]`` -> ``[B, E, T]``.

        The state is that of `encode_step`.
        """
        latent, state = self.encoder(audio.mT, state)
        return self.quantizer.embed(latent).mT, state

    def decode_step(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step: codes ``[B, K, T]`` -> audio ``[B, 1, T * hop]``.

        What comes out trails by ``config.delay`` samples. The first state is
        ``codec.decoder.init_state(B)``.
        """
        audio, state = self.decoder(self.quantizer.decode(codes), state)
        return audio.mT, state

    def synthesize_step(self, embedding: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step of `synthesize`: ``[B, E, T]`` -> audio ``[B, 1, T * hop]``.

        Delay and state are those of `decode_step`.
        """
        audio, state = self.decoder(self.quantizer.unembed(embedding.mT), state)
        return audio.mT, state

    def flush_step(self, batch: int, state: State) -> Tensor:
        """The audio ``[B, 1, flush_frames * hop]`` still inside the decoder after the last code.

        The decoder is fed latents of zero, which it meets at the end of each clip in training.
        """
        audio: Tensor
        audio, _ = self.decoder(self._empty_latent(batch), state)
        return audio.mT

    def _latent(self, audio: Tensor) -> Tensor:
        """`encode_latent` of audio of any length, checked and padded to whole frames."""
        if audio.dim() != 3 or audio.shape[1] != 1:
            raise AudioError(
                f"audio has shape {list(audio.shape)}: give [B, 1, N], channels as batch items"
            )
        _check_floats("audio", audio)
        padding = -audio.shape[-1] % self.config.hop_length
        return self.encode_latent(F.pad(audio.float(), (0, padding)))

    def _num_samples(self, num_frames: int, num_samples: int | None) -> int:
        """``num_samples`` if so many frames last that long; all they hold if None."""
        longest = num_frames * self.config.hop_length
        num_samples = longest if num_samples is None else num_samples
        if not 0 <= num_samples <= longest:
            raise AudioError(f"num_samples is {num_samples}: what is given holds 0 to {longest}")
        return num_samples

    def _empty_latent(self, batch: int) -> Tensor:
        weight = self.encoder.project.weight
        return weight.new_zeros(batch, self.config.flush_frames, self.config.latent_dim)


def _check_floats(name: str, values: Tensor) -> None:
    if not values.is_floating_point():
        raise AudioError(f"{name} is {values.dtype}: give floats, for audio in [-1, 1]")
    if not values.isfinite().all():
        raise AudioError(f"{name} holds NaN or infinite values: repair it before coding")
