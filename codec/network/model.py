"""`Codec`: an `Encoder`, a bottleneck and a `Decoder`.

audio [B, 1, N] -> Encoder -> latent [B, T, D] -> Quantizer.encode -> codes [B, K, T]
codes [B, K, T] -> Quantizer.decode -> latent [B, T, D] -> Decoder -> audio [B, 1, N]
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.codes import NO_CODES
from codec.config import CodecConfig
from codec.errors import AudioError, ConfigError
from codec.network.bottleneck import Bottleneck, Quantizer
from codec.network.fine import FineSynthesis
from codec.network.fsq import ResidualScalarQuantizer
from codec.network.lapped import InverseMDCT, LappedAnalysis, SpectrumHead
from codec.network.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    Layer,
    RecurrentUnit,
    ResidualUnit,
    State,
    init_linear,
)
from codec.network.span import Span, compose
from codec.network.vae import GaussianBottleneck
from codec.network.vq import ResidualVectorQuantizer


class Encoder(nn.Module):
    """Audio to latents of at most unit RMS in every frame.

    Shapes: ``[B, T * hop, c] -> [B, T, D]``, with c channels that are coded together, mostly 1.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        layers: list[Layer] = []
        channels = config.channels
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

    @property
    def span(self) -> Span:
        """In samples."""
        return self.body.span

    def init_state(self, batch: int) -> State:
        """The state before any audio, for ``batch`` channels."""
        return self.body.init_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x, state = self.body(x, state)
        latent = self.project(x).float()
        # Without a bound, latents and with them the commitment loss grow without limit. With an
        # epsilon of one, quiet frames keep their level and only loud ones are bounded.
        return F.rms_norm(latent, latent.shape[-1:], eps=1.0), state


class Decoder(nn.Module):
    """Latents to audio, by the strides of the encoder in reverse order.

    The audio trails what was encoded by `Codec.delay` samples.

    Shapes: ``[B, T, D] -> [B, T * hop, c]``, with c channels that are coded together, mostly 1.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.decoder_channels[-1]
        layers: list[Layer] = [CausalConv1d(config.latent_dim, channels, config.kernel_size)]
        if config.recurrent != "none":
            layers.append(RecurrentUnit(channels, config.recurrent))
        for level in reversed(range(len(config.strides))):
            for dilation in config.decoder_dilations[level]:
                layers.append(ResidualUnit(channels, config.kernel_size, dilation))
            width = config.decoder_channels[level - 1] if level else config.channels
            stride = config.strides[level]
            if level == 0 and config.lapped_transform:
                layers += [SpectrumHead(channels, stride=stride), InverseMDCT(stride)]
            else:
                layers.append(CausalConvTranspose1d(channels, width, stride=stride))
            channels = width
        self.body = Chain(layers)
        self.fine: FineSynthesis | None = None
        if config.decoder_fine_stride:
            self.fine = FineSynthesis(
                config.decoder_channels[0],
                block=config.strides[0],
                stride=config.decoder_fine_stride,
                width=config.decoder_fine_channels,
                kernel_size=config.kernel_size,
                dilations=config.decoder_fine_dilations,
                sample_rate=config.sample_rate,
            )

    @property
    def span(self) -> Span:
        """Stride, latency and receptive field in frames of the latent."""
        if self.fine is None:
            return self.body.span
        block = Span(stride=Fraction(self.fine.block))
        return compose([self.body.span, block, self.fine.span])

    def init_state(self, batch: int) -> State:
        """The state before any latent, for ``batch`` channels."""
        body = self.body.init_state(batch)
        return body if self.fine is None else (body, self.fine.init_state(batch))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.fine is None:
            result: tuple[Tensor, State] = self.body(x, state)
            return result
        body, fine = state
        outputs, body = self.body.trace(x, body)
        # The last two layers turn features into coefficients and these into audio.
        audio, fine = self.fine(outputs[-1], outputs[-3], fine)
        return audio, (body, fine)


def new_bottleneck(config: CodecConfig) -> Bottleneck:
    if config.bottleneck == "vae":
        return GaussianBottleneck(config.latent_dim, config.embedding_dim)
    kinds = {"vq": ResidualVectorQuantizer, "fsq": ResidualScalarQuantizer}
    return kinds[config.bottleneck](
        config.latent_dim, config.num_codebooks, config.codebook_size, config.codebook_dim
    )


class Codec(nn.Module):
    """A neural audio codec: audio ``[B, 1, N]`` <-> codes ``[B, K, T]``.

    Channels of a recording are coded separately: pass them as items of the batch. Only a model with
    ``config.channels`` above 1 codes so many together, and takes and gives ``[B, channels, N]``.

    Args:
        config: shape of the model. Its weights are random until they are trained or loaded.

    Attributes:
        config: shape of the model.
        encoder: audio to latents.
        quantizer: the bottleneck; a `Quantizer`, or a `Bottleneck` without codes.
        decoder: latents to audio.
        span: stride, latency and receptive field from audio to audio, in samples. The latency does
            not include the lookahead.
        delay: samples by which the output of `decode_step` trails the input of `encode_step`: the
            latency of the layers plus the lookahead of the config.
        flush_frames: frames that `flush_step` adds to return the last ``delay`` samples.
        fingerprint: 16 bytes that identify the meaning of the codes
            (`codec.network.weights.fingerprint`); empty for a model that was never saved. Streams
            carry it, so that their model can be found.
        fingerprinted: digest of the weights that ``fingerprint`` belongs to.

    Example:
        >>> from codec.network.weights import load_codec
        >>> codec = load_codec()
        >>> codes = codec.encode(torch.zeros(2, 1, 24_000), num_codebooks=3)
        >>> codes.shape
        torch.Size([2, 3, 50])
        >>> codec.decode(codes).shape
        torch.Size([2, 1, 24000])
        >>> codec.delay, codec.latency_seconds
        (300, 0.0325)
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = self.fingerprinted = b""
        self.encoder = Encoder(config)
        self.quantizer = new_bottleneck(config)
        self.decoder = Decoder(config)
        self.span = compose([self.encoder.span, self.decoder.span])
        self.delay = math.ceil(self.span.latency) + config.lookahead
        self.flush_frames = config.num_frames(self.delay)

    @property
    def latency(self) -> int:
        """Algorithmic latency with one-frame packets, in samples: one frame plus the delay."""
        return self.config.hop_length + self.delay

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency with one-frame packets, in seconds."""
        return self.latency / self.config.sample_rate

    def encode_latent(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 1, T * hop]`` -> latent ``[B, T, D]`` before the bottleneck."""
        latent: Tensor = self.encoder(audio.mT, self.encoder.init_state(len(audio)))[0]
        return latent

    def decode_latent(self, latent: Tensor, num_samples: int) -> Tensor:
        """Latent ``[B, T, D]`` -> audio ``[B, 1, num_samples]``, aligned with the encoded audio."""
        latent = F.pad(latent, (0, 0, 0, self.flush_frames))
        audio: Tensor = self.decoder(latent, self.decoder.init_state(len(latent)))[0]
        return audio.mT[..., self.delay : self.delay + num_samples]

    def quantize(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Latent ``[B, T, D]`` -> codes ``[B, K, T]``; errors are those of `encode`."""
        return self.require_codes().encode(latent, num_codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Codes ``[B, K, T]`` -> latent ``[B, T, D]``; errors are those of `decode`."""
        return self.require_codes().decode(codes)

    @torch.no_grad()
    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Encode audio of any length in one step from the initial state.

        Args:
            audio: ``[B, 1, N]`` float, nominally in [-1, 1], at the model's sampling rate.
            num_codebooks: number of codebooks to use; all if None.

        Returns:
            Codes ``[B, K, T]`` int64 with ``T = ceil(N / hop_length)``. Unlike sessions, this takes
            audio as it is (`codec.highpass.high_pass` is their filter), and no frame after it.

        Raises:
            AudioError: the shape is wrong, or a sample is not finite.
            ConfigError: ``num_codebooks`` is out of range, or the model has no codes.
        """
        return self.quantize(self._latent(audio), num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Decode codes of the first K codebooks in one step from the initial state.

        Args:
            codes: ``[B, K, T]`` integers.
            num_samples: length of the audio that was encoded; ``T * hop_length`` if None.

        Returns:
            Audio ``[B, 1, num_samples]``.

        Raises:
            AudioError: a code is not one of this model, or ``num_samples`` exceeds what the codes
                hold.
            ConfigError: there are more codebooks than the model has, or it has no codes.
        """
        num_samples = self._num_samples(codes.shape[-1], num_samples)
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.config.codebook_size:
            raise AudioError(f"a code is outside 0..{self.config.codebook_size - 1}")
        return self.decode_latent(self.dequantize(codes), num_samples)

    @torch.no_grad()
    def embed(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Convert audio to one vector per frame, for tasks other than coding.

        Args:
            audio: ``[B, 1, N]``, as for `encode`.
            num_codebooks: number of codebooks to quantize the latent with, which gives the input
                of the decoder; None for the output of the encoder before quantization (for a VAE
                the means of its latents, which a generative model would learn).

        Returns:
            ``[B, E, T]`` with ``E = config.embedding_dim`` and ``T = ceil(N / hop_length)``.

        Raises:
            AudioError: as for `encode`.
            ConfigError: ``num_codebooks`` is out of range, or the model has no codes.
        """
        latent = self._latent(audio)
        if num_codebooks is None:
            return self.quantizer.embed(latent).mT
        return self.dequantize(self.quantize(latent, num_codebooks)).mT

    @torch.no_grad()
    def synthesize(self, embedding: Tensor, num_samples: int | None = None) -> Tensor:
        """The inverse of `embed`: convert vectors to audio, without codes.

        Args:
            embedding: ``[B, E, T]`` float with ``E = config.embedding_dim``, from `embed` or from
                a model that learned from it.
            num_samples: length of the audio; ``T * hop_length`` if None.

        Returns:
            Audio ``[B, 1, num_samples]``.

        Raises:
            AudioError: the shape is wrong, a value is not finite, or ``num_samples`` exceeds what
                the embedding holds.
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
        return self.quantize(latent, num_codebooks), state

    def embed_step(self, audio: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step of `embed`: audio ``[B, 1, T * hop]`` -> ``[B, E, T]``.

        The state is that of `encode_step`.
        """
        latent, state = self.encoder(audio.mT, state)
        return self.quantizer.embed(latent).mT, state

    def decode_step(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step: codes ``[B, K, T]`` -> audio ``[B, 1, T * hop]``.

        The audio trails what was encoded by `delay` samples. The first state is
        ``codec.decoder.init_state(B)``.
        """
        audio, state = self.decoder(self.dequantize(codes), state)
        return audio.mT, state

    def synthesize_step(self, embedding: Tensor, state: State) -> tuple[Tensor, State]:
        """One streaming step of `synthesize`: ``[B, E, T]`` -> audio ``[B, 1, T * hop]``.

        Delay and state are those of `decode_step`.
        """
        audio, state = self.decoder(self.quantizer.unembed(embedding.mT), state)
        return audio.mT, state

    def flush_step(self, batch: int, state: State) -> Tensor:
        """The last streaming step: the audio ``[B, 1, flush_frames * hop]`` after the last code.

        Its first `delay` samples complete the output. The decoder gets latents of zero, as at the
        end of each clip in training.

        Args:
            batch: number of channels, or of groups that are coded together.
            state: state of the decoder after the last code.
        """
        weight = next(self.decoder.parameters())
        latent = weight.new_zeros(batch, self.flush_frames, self.config.latent_dim)
        audio: Tensor = self.decoder(latent, state)[0]
        return audio.mT

    def require_codes(self) -> Quantizer:
        """The bottleneck of a model with codes.

        Raises:
            ConfigError: the model has none.
        """
        if not isinstance(self.quantizer, Quantizer):
            raise ConfigError(NO_CODES)
        return self.quantizer

    def _latent(self, audio: Tensor) -> Tensor:
        """`encode_latent` of audio of any length, checked and padded to whole frames."""
        if audio.dim() != 3 or audio.shape[1] != self.config.channels:
            more = ", channels as batch items" if self.config.channels == 1 else ""
            raise AudioError(
                f"audio has shape {list(audio.shape)}: give [B, {self.config.channels}, N]{more}"
            )
        _check_floats("audio", audio)
        padding = -audio.shape[-1] % self.config.hop_length
        return self.encode_latent(F.pad(audio.float(), (0, padding)))

    def _num_samples(self, num_frames: int, num_samples: int | None) -> int:
        """``num_samples`` if ``num_frames`` frames hold that many; all that they hold if None."""
        longest = num_frames * self.config.hop_length
        num_samples = longest if num_samples is None else num_samples
        if not 0 <= num_samples <= longest:
            raise AudioError(f"num_samples is {num_samples}: the frames hold 0 to {longest}")
        return num_samples


def _check_floats(name: str, values: Tensor) -> None:
    if not values.is_floating_point():
        raise AudioError(f"{name} is {values.dtype}: give floats; audio in [-1, 1]")
    if not values.isfinite().all():
        raise AudioError(f"{name} holds NaN or infinite values: repair it before coding")
