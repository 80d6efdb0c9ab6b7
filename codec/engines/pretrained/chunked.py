"""EnCodec at 48 kHz, which codes a signal in overlapping chunks with a scale each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.arrays import Codes, Samples
from codec.codes import Codebook
from codec.engines.base import State, decode
from codec.engines.pretrained.engine import PretrainedEngine, Shape, follow, held

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
        >>> [each.per_frame for each in shape.codebooks[:3]], shape.hop_length, shape.num_latents
        ([6, 5, 5], 1584, 5)
    """
    num_latents = config.chunk_length // config.hop_length
    frames = math.gcd(num_latents, config.chunk_stride)
    count = num_latents // frames
    size, others = config.codebook_size, config.num_quantizers - 1
    codebooks = (Codebook(size, 1 + count), *[Codebook(size, count)] * others)
    return Shape(codebooks, config.chunk_stride // frames, count, config.audio_channels)


class _ChunkedDecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        codes: ``[G, K, F]`` of the chunk that is not complete.
        tail: ``[C, n]``, the end of the last chunk, over which the next one is faded in.
        ready: ``[C, n]``, decoded but not given out.
        last: ``[G, K, 1]``, the last frame.
        channels: number of channels.
    """

    codes: Codes | None
    tail: Samples
    ready: Samples
    last: Codes | None
    channels: int


class ChunkedEngine(PretrainedEngine):
    """A model that codes overlapping chunks on their own, each scaled to the same level.

    The first code of every frame is the level of its chunk in steps of 0.1875 dB, and counts as one
    of the first codebook; the others are those of its latents. Both channels share them. The codes
    are those of ``transformers``, which are of the exact scale; decoded audio differs by at most
    half a step of level. Chunks do not depend on each other, so neither codes nor audio depend on
    how a signal is divided into steps.

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
        num_frames, num_codes = audio.shape[1] // hop, self.spec.num_codes(num_codebooks)
        return codes[:, :num_codes, :num_frames], codes[:, :, num_frames:]

    @torch.inference_mode()
    def _encode_chunk(self, audio: Samples) -> Codes:
        """Codes ``[G, K, F]`` of a chunk ``[C, n]``; a shorter one at the end has fewer frames."""
        num_frames = min(self._frames, audio.shape[1] // self.spec.hop_length)
        x = self._tensor(audio).unflatten(0, (-1, self.spec.channels_coded_together))
        scale = x.mean(dim=1, keepdim=True).pow(2).mean(dim=-1, keepdim=True).sqrt() + 1e-8
        missing = max(0, num_frames * self._part - audio.shape[1])
        x = torch.nn.functional.pad(x / scale, (0, missing))
        indices = self.model.quantizer.encode(self.model.encoder(x)).transpose(0, 1)
        rows = indices.unflatten(-1, (num_frames, -1)).transpose(2, 3).flatten(1, 2)
        level = self._level(scale).expand(-1, -1, num_frames)
        codes: Codes = torch.cat((level, rows), dim=1).cpu().numpy()
        return codes

    def _level(self, scale: Tensor) -> Tensor:
        size = int(self.model.config.codebook_size)
        steps = (20 * scale.log10() - LOWEST_DB) / (RANGE_DB / size)
        levels: Tensor = steps.round().clamp(0, size - 1).long()
        return levels

    def _scale(self, level: Tensor) -> Tensor:
        step = RANGE_DB / int(self.model.config.codebook_size)
        return 10 ** ((level * step + LOWEST_DB) / 20)

    def init_decoder(self, channels: int) -> State:
        nothing = np.zeros((channels, 0), np.float32)
        silence = np.zeros((channels, self.spec.delay), np.float32)
        return _ChunkedDecoderState(None, nothing, silence, None, channels)

    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        wanted = codes.shape[2] * self.spec.hop_length
        if not wanted:
            return np.zeros((state.channels, 0), np.float32), state
        self.spec.codebooks_of(codes.shape[1])  # refuses parts of codebooks
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
            if given.shape[1]:
                latents = latents + layer.decode(given.transpose(1, 2).flatten(1))
        decoded = (self.model.decoder(latents) * scale).flatten(0, 1)
        audio: Samples = decoded.cpu().numpy()
        if length := min(tail.shape[1], audio.shape[1]):
            gain = np.arange(1, length + 1, dtype=np.float32) / (tail.shape[1] + 1)
            audio[:, :length] = gain * audio[:, :length] + (1 - gain) * tail[:, :length]
        return audio

    def decode_whole(self, codes: Codes) -> Samples:
        return decode(self, codes, codes.shape[2] * self.spec.hop_length)

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """The last frame, held."""
        groups = self.spec.num_groups(state.channels)
        return self.decode_step(held(state.last, num_frames, groups, self.spec), state)

    def flush_step(self, state: State) -> Samples:
        rest = [state.ready]
        if state.codes is not None and state.codes.shape[2]:
            rest.append(self._decode_chunk(state.codes, state.tail))
        audio = np.concatenate(rest, axis=1)[:, : self.spec.delay]
        return np.pad(audio, ((0, 0), (0, self.spec.delay - audio.shape[1])))
