"""Models of convolutions that look ahead, in windows that overlap: DAC, SNAC."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from codec.arrays import Codes, Samples
from codec.bitrate import ceil_div
from codec.engines.base import State
from codec.engines.pretrained.engine import PretrainedEngine, Shape, follow, held


class _WindowedDecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        codes: ``[C, K, F]`` of the last frames: those that wait for the next ones, and the left
            context of those.
        num_frames: frames decoded so far.
        channels: number of channels.
    """

    codes: Codes | None
    num_frames: int
    channels: int


class WindowedEngine(PretrainedEngine):
    """A model of convolutions that look ahead, in windows that overlap by its receptive field.

    The codes are those of the whole signal, up to rounding: the encoder waits for
    ``spec.lookahead`` samples after a step, and decoded audio trails by ``spec.delay`` samples.

    Example:
        >>> from codec.engines.pretrained.families import random_engine
        >>> engine = random_engine("dac", encoder_hidden_size=2, decoder_hidden_size=16)
        >>> engine.spec.lookahead % engine.spec.hop_length, engine.spec.lookahead > 0
        (0, True)
    """

    def _reach(self, shape: Shape) -> tuple[int, int]:
        hop, latents = shape.hop_length, shape.num_latents
        first, last = input_span(self.model.encoder, 0, latents - 1)
        self._encoder_left = ceil_div(-first, hop) * hop
        lookahead = ceil_div(last + 1 - hop, hop) * hop
        first, last = input_span(self.model.decoder, 0, hop - 1)
        self._decoder_left, self._decoder_right = ceil_div(-first, latents), last // latents
        return lookahead, self._decoder_right * hop

    def init_encoder(self, channels: int) -> State:
        return np.zeros((channels, 0), np.float32)

    @torch.inference_mode()
    def encode_step(
        self,
        audio: Samples,
        state: State,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, State]:
        if not audio.shape[1]:
            return self._no_codes(len(audio), num_codebooks), state
        hop = self.spec.hop_length
        past = np.concatenate((state, audio), axis=1)
        following = past[:, :0] if ahead is None else ahead
        codes = self._encode(np.concatenate((past, following), axis=1), num_codebooks)
        first, last = state.shape[1] // hop, past.shape[1] // hop
        kept = past[:, max(0, past.shape[1] - self._encoder_left) :]
        return codes[:, :, first:last], kept

    def init_decoder(self, channels: int) -> State:
        return _WindowedDecoderState(None, 0, channels)

    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        if not codes.shape[2]:
            return np.zeros((len(codes), 0), np.float32), state
        window = follow(state.codes, codes)
        num_frames = state.num_frames + codes.shape[2]
        audio = self._last_frames(window, num_frames, codes.shape[2], self._decoder_right)
        reach = self._decoder_left + self._decoder_right
        kept = window[:, :, max(0, window.shape[2] - reach) :]
        return audio, _WindowedDecoderState(kept, num_frames, state.channels)

    def decode_whole(self, codes: Codes) -> Samples:
        if not codes.shape[2]:
            return np.zeros((len(codes), 0), np.float32)
        return self._decode_window(codes, 0)

    @torch.inference_mode()
    def _decode_window(self, codes: Codes, first_frame: int) -> Samples:
        # DAC's transposed convolutions with odd strides end some samples early.
        audio = self._decode(codes, first_frame)
        missing = codes.shape[2] * self.spec.hop_length - audio.shape[1]
        return np.pad(audio, ((0, 0), (0, max(0, missing))))

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """The last frame, held."""
        last = None if state.codes is None else state.codes[:, :, -1:]
        return self.decode_step(held(last, num_frames, state.channels), state)

    def flush_step(self, state: State) -> Samples:
        frames = self._decoder_right
        if state.codes is None:
            return np.zeros((state.channels, frames * self.spec.hop_length), np.float32)
        return self._last_frames(state.codes, state.num_frames, frames, 0)

    def _last_frames(self, window: Codes, num_frames: int, count: int, waiting: int) -> Samples:
        """Audio of ``count`` frames before the last ``waiting`` ones; silence before the first."""
        hop = self.spec.hop_length
        audio = self._decode_window(window, num_frames - window.shape[2])
        end = window.shape[2] - waiting
        begin = end - min(count, max(0, num_frames - waiting))
        audio = audio[:, max(0, begin) * hop : max(0, end) * hop]
        return np.pad(audio, ((0, 0), (count * hop - audio.shape[1], 0)))


def input_span(network: nn.Module, first: int, last: int) -> tuple[int, int]:
    """What a chain of convolutions hears, derived from its layers.

    Args:
        network: its convolutions and its attention within windows, in the order in which they are
            registered, follow one another; connections that bypass some hear less.
        first: first output.
        last: last output.

    Returns:
        First and last input on which these outputs depend.

    Example:
        >>> first = nn.Conv1d(1, 1, kernel_size=4, stride=2, padding=1)
        >>> second = nn.Conv1d(1, 1, kernel_size=3, padding=1)
        >>> input_span(nn.Sequential(first, second), 0, 0)
        (-3, 4)
    """
    for layer in reversed(list(network.modules())):
        if window := getattr(layer, "window_size", 0):  # attention within windows
            first, last = first // window * window, ceil_div(last + 1, window) * window - 1
        if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            continue
        (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
        padding = int(layer.padding[0])
        reach = (kernel - 1) * dilation
        if isinstance(layer, nn.ConvTranspose1d):
            first, last = ceil_div(first + padding - reach, stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + reach
    return first, last
