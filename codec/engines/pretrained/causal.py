"""Causal models, whose layers continue from a state: EnCodec at 24 kHz, Mimi."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.arrays import Codes, Samples
from codec.engines.base import State
from codec.engines.pretrained.engine import Family, PretrainedEngine, Shape, held, restore_model


class _CausalDecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        layers: states of the layers.
        last: codes ``[C, K, 1]`` of the last frame.
        channels: number of channels.
    """

    layers: dict[str, Any]
    last: Codes | None
    channels: int


class CausalEngine(PretrainedEngine):
    """A causal model, whose layers continue from where they were.

    Each convolution keeps its left context, each transposed one what it adds to the next step, each
    LSTM its state and each transformer its keys and values. At the beginning, convolutions are
    padded as ``transformers`` pads them. EnCodec mirrors the first samples, of which a first step
    of a few frames has too few: codes of the first frames then differ from those of longer steps.

    Example:
        >>> from codec.engines.base import encode
        >>> from codec.engines.pretrained.families import random_engine
        >>> engine = random_engine("encodec", num_filters=2, hidden_size=8)
        >>> encode(engine, np.zeros((1, 24_000), np.float32), num_codebooks=8).shape
        (1, 8, 75)
    """

    def __init__(self, family: Family, model: Any, name: str) -> None:
        super().__init__(family, model, name)
        self._lock = threading.Lock()  # the layers find their states in the engine
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        for path, module in self.model.named_modules():
            step = _STEPS.get(type(module).__name__)
            if step is not None:
                module.forward = partial(step, self, path, module)

    def _reach(self, shape: Shape) -> tuple[int, int]:
        return 0, 0

    def recall(self, path: str) -> Any:
        """What a layer kept in the step before; None at the beginning."""
        return self._before.get(path)

    def keep(self, path: str, value: Any) -> None:
        """Keep something for the next step of a layer."""
        self._after[path] = value

    def init_encoder(self, channels: int) -> State:
        return {}

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
        return self._step(state, lambda: self._encode(audio, num_codebooks))

    def init_decoder(self, channels: int) -> State:
        return _CausalDecoderState({}, None, channels)

    @torch.inference_mode()
    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        if not codes.shape[2]:
            return np.zeros((len(codes), 0), np.float32), state
        audio, layers = self._step(state.layers, lambda: self._decode(codes))
        return audio, _CausalDecoderState(layers, codes[:, :, -1:], state.channels)

    def decode_whole(self, codes: Codes) -> Samples:
        return self.decode_step(codes, self.init_decoder(len(codes)))[0]

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """The last frame, held."""
        return self.decode_step(held(state.last, num_frames, state.channels), state)

    def flush_step(self, state: State) -> Samples:
        return np.zeros((state.channels, 0), np.float32)

    def _step(self, before: dict[str, Any], work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        with self._lock:
            self._before, self._after = before, {}
            result = work()
            after, self._before, self._after = self._after, {}, {}
        return result, after

    def _bare_model(self) -> Any:
        model = copy.copy(self.model)
        return restore_model(self._family, model.config.to_dict(), model.state_dict())


def _conv_step(
    engine: CausalEngine, path: str, layer: Any, x: Tensor, padding_cache: Any = None
) -> Tensor:
    context = int(layer.padding_total)
    before = engine.recall(path)
    if before is None:
        x = layer._pad1d(x, (context, 0), mode=layer.pad_mode)
    else:
        x = torch.cat((before, x), dim=-1)
    engine.keep(path, x[..., x.shape[-1] - context :])
    result: Tensor = layer.conv(x)
    return result


def _transposed_step(engine: CausalEngine, path: str, layer: Any, x: Tensor) -> Tensor:
    length = x.shape[-1] * layer.conv.stride[0]
    y: Tensor = layer.conv(x)
    tail = engine.recall(path)
    if tail is not None:
        y = torch.cat((y[..., : tail.shape[-1]] + tail, y[..., tail.shape[-1] :]), dim=-1)
    tail = y[..., length:]
    if layer.conv.bias is not None:  # the next step adds it once more
        tail = tail - layer.conv.bias[:, None]
    engine.keep(path, tail)
    return y[..., :length]


def _lstm_step(engine: CausalEngine, path: str, layer: Any, x: Tensor) -> Tensor:
    x = x.permute(2, 0, 1)
    y, state = layer.lstm(x, engine.recall(path))
    engine.keep(path, state)
    added: Tensor = (y + x).permute(1, 2, 0)
    return added


def _transformer_step(
    engine: CausalEngine, path: str, layer: Any, x: Tensor, *args: Any, **options: Any
) -> Any:
    from transformers import DynamicCache

    forward = type(layer).forward
    name = "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
    before = engine.recall(path)
    # A copy: caches are changed in place, but states are values.
    cache = DynamicCache(config=layer.config) if before is None else copy.deepcopy(before)
    result = forward(layer, x, use_cache=True, **{name: cache})
    engine.keep(path, cache)
    return result


_STEPS: dict[str, Callable[..., Any]] = {
    "EncodecConv1d": _conv_step,
    "EncodecConvTranspose1d": _transposed_step,
    "EncodecLSTM": _lstm_step,
    "MimiConv1d": _conv_step,
    "MimiConvTranspose1d": _transposed_step,
    "MimiTransformerModel": _transformer_step,
}
"""How a layer of each class goes one step."""
