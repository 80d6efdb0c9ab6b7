"""EnCodec at 48 kHz, which codes a signal in overlapping chunks with a scale each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.arrays import Codes, Samples
from codec.engines.base import State, decode
from codec.engines.pretrained.engine import PretrainedEngine, Shape, follow, held, spread

LOWEST_DB, RANGE_DB = -160.0, 192.0
"""Levels of chunks; EnCodec adds 1e-8 to a scale, which is the lowest."""


def chunk_shape(config: Any) -> Shape:
    """Frames of a model with chunks.

    A chunk of a second has 150 latents, but a new one begins every 0.99 s: no whole number of
    latents lies between two of them. The frames are as many parts of a chunk as divide both.

    Example:
        >>> from transformers import EncodecConfig
        >>> from codec.engines.pretrained.families import ENCODEC_48KHZ
        >>> shape = chunk_shape(EncodecConfig(**ENCODEC_48KHZ))
        >>> shape.num_codebooks, shape.hop_length, shape.num_latents, shape.codes_per_layer[:3]
        (81, 1584, 5, (6, 5, 5))
    """
    num_latents = config.chunk_length // config.hop_length
    frames = math.gcd(num_latents, config.chunk_stride)
    count = num_latents // frames
    layers = (1 + count, *[count] * (config.num_quantizers - 1))
    return Shape(sum(layers), config.chunk_stride // frames, count, layers)


class _ChunkedDecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        codes: ``[C, K, F]`` of the chunk that is not complete.
        tail: ``[C, n]``, the end of the last chunk, over which the next one is faded in.
        ready: ``[C, n]``, decoded but not given out.
        last: ``[C, K, 1]``, the last frame.
        channels: number of channels.
    """

    codes: Codes | None
    tail: Samples
    ready: Samples
    last: Codes | None
    channels: int


class ChunkedEngine(PretrainedEngine):
    """A model that codes overlapping chunks on their own, each scaled to the same level.

    The first code of every frame is the level of its chunk in steps of 0.1875 dB; the others are
    those of its latents, by codebook and in order of time. The codes are those of ``transformers``,
    which are of the exact scale; decoded audio differs by at most half a step of level. Chunks do
    not depend on each other, so neither codes nor audio depend on how a signal is divided into
    steps. A channel is coded as a signal with two equal channels.

    Example:
        >>> from codec.engines.pretrained.families import ENCODEC_48KHZ, random_engine
        >>> engine = random_engine("encodec", num_filters=2, hidden_size=8, **ENCODEC_48KHZ)
        >>> engine.spec.lookahead, engine.spec.delay
        (47520, 45936)
    """

    def _reach(self, shape: Shape) -> tuple[int, int]:
        config = self.model.config
        self._stride, self._overlap = config.chunk_stride, config.chunk_length - config.chunk_stride
        self._frames = config.chunk_stride // shape.hop_length
        self._part = shape.num_latents * config.hop_length  # samples that a frame decodes to
        # The first frame of a chunk depends on all of it, and is decoded when it is complete.
        return self._stride, self._stride - shape.hop_length

    def init_encoder(self, channels: int) -> State:
        return self._no_codes(channels, None)

    def encode_step(
        self,
        audio: Samples,
        state: State,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, State]:
        """See `Engine.encode_step`; the state has the other codes of the last chunk."""
        hop, pieces = self.spec.hop_length, [state]
        signal = audio if ahead is None else np.concatenate((audio, ahead), axis=1)
        for start in range(state.shape[2] * hop, audio.shape[1], self._stride):
            pieces.append(self._encode_chunk(signal[:, start:][:, : self._stride + self._overlap]))
        codes = np.concatenate(pieces, axis=2)
        num_frames = audio.shape[1] // hop
        return codes[:, :num_codebooks, :num_frames], codes[:, :, num_frames:]

    @torch.inference_mode()
    def _encode_chunk(self, audio: Samples) -> Codes:
        """Codes ``[C, K, F]`` of a chunk ``[C, n]``; a shorter one at the end has fewer frames."""
        num_frames = min(self._frames, audio.shape[1] // self.spec.hop_length)
        x = self._tensor(audio)[:, None]
        scale = x.pow(2).mean(dim=-1, keepdim=True).sqrt() + 1e-8
        missing = max(0, num_frames * self._part - audio.shape[1])
        x = torch.nn.functional.pad(x / scale, (0, missing)).expand(-1, 2, -1)
        indices = self.model.quantizer.encode(self.model.encoder(x)).transpose(0, 1)
        rows = indices.unflatten(-1, (num_frames, -1)).transpose(2, 3).flatten(1, 2)
        level = self._level(scale).expand(-1, -1, num_frames)
        codes: Codes = torch.cat((level, rows), dim=1).cpu().numpy()
        return codes

    def _level(self, scale: Tensor) -> Tensor:
        size = self.spec.codebook_size
        steps = (20 * scale.log10() - LOWEST_DB) / (RANGE_DB / size)
        return steps.round().clamp(0, size - 1).long()

    def _scale(self, level: Tensor) -> Tensor:
        return 10 ** ((level * (RANGE_DB / self.spec.codebook_size) + LOWEST_DB) / 20)

    def init_decoder(self, channels: int) -> State:
        nothing = np.zeros((channels, 0), np.float32)
        silence = np.zeros((channels, self.spec.delay), np.float32)
        return _ChunkedDecoderState(None, nothing, silence, None, channels)

    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        wanted = codes.shape[2] * self.spec.hop_length
        if not wanted:
            return np.zeros((len(codes), 0), np.float32), state
        last, codes = codes[:, :, -1:], follow(state.codes, codes)
        ready, tail = [state.ready], state.tail
        while codes.shape[2] >= self._frames:
            chunk = self._decode_chunk(codes[:, :, : self._frames], tail)
            ready.append(chunk[:, : self._stride])
            tail, codes = chunk[:, self._stride :], codes[:, :, self._frames :]
        audio = np.concatenate(ready, axis=1)
        after = _ChunkedDecoderState(codes, tail, audio[:, wanted:], last, state.channels)
        return audio[:, :wanted], after

    @torch.inference_mode()
    def _decode_chunk(self, codes: Codes, tail: Samples) -> Samples:
        """Audio ``[C, n]`` of a chunk, faded in over the end of the one before."""
        batch = self._tensor(codes)
        # The same in all frames, but for frames that were lost.
        scale = self._scale(batch[:, :1].median(dim=-1, keepdim=True).values)
        rows, count = batch[:, 1:], self._part // self.model.config.hop_length
        latents = torch.zeros((1, self.model.config.hidden_size, 1), device=batch.device)
        latents = latents.expand(len(codes), -1, codes.shape[2] * count)
        for layer, start in zip(self.model.quantizer.layers, range(0, rows.shape[1], count)):
            given = rows[:, start : start + count]
            values = layer.decode(given.transpose(1, 2).flatten(1))
            latents = latents + spread(values, given.shape[1], count)
        decoded = self.model.decoder(latents).mean(dim=1) * scale[:, 0]
        audio: Samples = decoded.cpu().numpy()
        if length := min(tail.shape[1], audio.shape[1]):
            gain = np.arange(1, length + 1, dtype=np.float32) / (tail.shape[1] + 1)
            audio[:, :length] = gain * audio[:, :length] + (1 - gain) * tail[:, :length]
        return audio

    def decode_whole(self, codes: Codes) -> Samples:
        return decode(self, codes, codes.shape[2] * self.spec.hop_length)

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """The last frame, held."""
        return self.decode_step(held(state.last, num_frames, state.channels), state)

    def flush_step(self, state: State) -> Samples:
        rest = [state.ready]
        if state.codes is not None and state.codes.shape[2]:
            rest.append(self._decode_chunk(state.codes, state.tail))
        audio = np.concatenate(rest, axis=1)[:, : self.spec.delay]
        return np.pad(audio, ((0, 0), (0, self.spec.delay - audio.shape[1])))
