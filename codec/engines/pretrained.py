"""EnCodec, DAC and Mimi, as the package ``transformers`` loads them, behind the `Engine` interface.

EnCodec and Mimi are causal: each of their layers continues from a state. DAC looks ahead: it runs
in windows that overlap by its receptive field, which is derived from its layers.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codec.bitrate import ceil_div
from codec.engines.base import Codes, EngineInfo, State
from codec.errors import ModelError, optional_packages
from codec.io.audio import Samples


@dataclass(frozen=True)
class Family:
    """What is particular to a family of models.

    Attributes:
        prefix: prefix of its classes in ``transformers``.
        causal: whether its layers never look ahead.
        shape: configuration -> number of codebooks, samples per frame.
        encode: model, audio ``[B, 1, N]``, number of codebooks -> codes ``[B, K, T]``.
        decode: model, codes ``[B, K, T]`` -> audio with ``N`` samples.
        published: configuration of the published 24 kHz model, where it is not the default.
        refuse: configuration -> why the model cannot be used; empty if it can.
    """

    prefix: str
    causal: bool
    shape: Callable[[Any], tuple[int, int]]
    encode: Callable[[Any, Tensor, int], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    published: dict[str, Any] = field(default_factory=dict)
    refuse: Callable[[Any], str] = lambda config: ""


def _encode_encodec(model: Any, audio: Tensor, num_codebooks: int) -> Tensor:
    """Not by ``model.encode``, which takes only the bitrates that the model was trained at."""
    quantizer = model.quantizer
    bandwidth = num_codebooks * np.log2(quantizer.codebook_size) * quantizer.frame_rate / 1000
    codes: Tensor = quantizer.encode(model.encoder(audio), bandwidth * (1 + 1e-9))
    return codes.transpose(0, 1)


def _refuse_encodec(config: Any) -> str:
    if config.normalize or config.chunk_length_s or config.audio_channels != 1:
        return (
            "it is in stereo or scales each chunk, which codes do not carry: "
            "give facebook/encodec_24khz"
        )
    return _refuse_lookahead(config)


def _refuse_lookahead(config: Any) -> str:
    causal = (
        config.use_causal_conv and config.trim_right_ratio == 1.0 and config.audio_channels == 1
    )
    normal = getattr(config, "norm_type", "weight_norm") == "weight_norm"
    return (
        "" if causal and normal else "it is not causal and mono: give a published model at 24 kHz"
    )


FAMILIES = {
    # arXiv:2210.13438
    "encodec": Family(
        prefix="Encodec",
        causal=True,
        shape=lambda config: (config.num_quantizers, config.hop_length),
        encode=_encode_encodec,
        decode=lambda model, codes: model.decode(codes[None], [None]).audio_values,
        refuse=_refuse_encodec,
    ),
    # arXiv:2306.06546
    "dac": Family(
        prefix="Dac",
        causal=False,
        shape=lambda config: (config.n_codebooks, config.hop_length),
        encode=lambda model, audio, count: model.encode(audio, n_quantizers=count).audio_codes,
        decode=lambda model, codes: model.decode(audio_codes=codes).audio_values,
        published={
            "downsampling_ratios": [2, 4, 5, 8],
            "n_codebooks": 32,
            "sampling_rate": 24_000,
        },
    ),
    # arXiv:2410.00037
    "mimi": Family(
        prefix="Mimi",
        causal=True,
        shape=lambda config: (
            config.num_quantizers,
            round(config.sampling_rate / config.frame_rate),
        ),
        encode=lambda model, audio, count: model.encode(audio, num_quantizers=count).audio_codes,
        decode=lambda model, codes: model.decode(audio_codes=codes).audio_values,
        refuse=_refuse_lookahead,
    ),
}
"""The families of models, by name."""


def load_pretrained(family: str, source: str | Path) -> PretrainedEngine:
    """Load a model of ``transformers``.

    Args:
        family: one of `FAMILIES`.
        source: folder with ``config.json`` and ``model.safetensors``, or a name on the Hugging Face
            hub, from which the model is downloaded once.

    Raises:
        ModelError: there is no such model, it is of another family, or ``transformers`` is missing.

    Example:
        >>> random_model("encodec", num_filters=2, hidden_size=8).save_pretrained("my-encodec")
        >>> load_pretrained("encodec", "my-encodec").info.name
        'encodec=my-encodec'
    """
    config_class, model_class = _classes(family)
    folder = Path(source)
    local = folder.is_dir()
    weights = list(folder.glob("model*.safetensors"))
    if local and not ((folder / "config.json").is_file() and weights):
        raise ModelError(
            f"{source} holds no {family} model: "
            "give a folder with its config.json and model.safetensors"
        )
    if not local and str(source).count("/") != 1:
        raise ModelError(
            f"{source} is neither a folder nor a name on the hub: give --model {family}=FOLDER or "
            f"--model {family}=user/name"
        )
    try:
        found, _ = config_class.get_config_dict(source, local_files_only=local)
        if (kind := found.get("model_type")) != family:
            raise ModelError(f"{source} holds a model of type {kind}, not {family}")
        config = config_class.from_dict(found)
        model = model_class.from_pretrained(
            source, config=config, local_files_only=local, use_safetensors=True
        )
    except ModelError:
        raise
    except Exception as error:  # of many kinds: network, hub, configuration, weights
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"{source} cannot be loaded as a {family} model: {reason}") from error
    name = f"{family}={folder.resolve().name if local else source}"
    return make_engine(family, model, name)


def random_engine(family: str, **config: Any) -> PretrainedEngine:
    """The engine of a `random_model`.

    Example:
        >>> info = random_engine("dac", encoder_hidden_size=2, decoder_hidden_size=16).info
        >>> info.num_codebooks, info.hop_length
        (32, 320)
    """
    return make_engine(family, random_model(family, **config), family)


def random_model(family: str, **config: Any) -> Any:
    """A model of the published shape with random weights: for tests, and to measure speed.

    Args:
        family: one of `FAMILIES`.
        **config: settings that replace those of the published configuration.

    Returns:
        The model of ``transformers``.

    Raises:
        ModelError: ``transformers`` is missing.

    Example:
        >>> random_model("encodec", num_filters=2, hidden_size=8).save_pretrained("my-encodec")
        >>> sorted(path.name for path in Path("my-encodec").iterdir())
        ['config.json', 'model.safetensors']
    """
    config_class, model_class = _classes(family)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**(FAMILIES[family].published | config)))
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name.endswith(("embed", "embed_sum")):  # they are initialised to zero
                    buffer.normal_()
    return model


def make_engine(family: str, model: Any, name: str) -> PretrainedEngine:
    """The engine of a loaded model.

    Args:
        family: one of `FAMILIES`.
        model: model of ``transformers``; the engine takes it over and changes it.
        name: name of the model, for people.

    Raises:
        ModelError: the model cannot be used; the message says why.
    """
    if reason := FAMILIES[family].refuse(model.config):
        raise ModelError(f"{name} cannot be used: {reason}")
    kind = CausalEngine if FAMILIES[family].causal else WindowedEngine
    return kind(family, model, name)


class PretrainedEngine(ABC):
    """A model of ``transformers``.

    Args:
        family: one of `FAMILIES`.
        model: the loaded model, which becomes part of the engine.
        name: name of the model, for people.

    Attributes:
        model: the model, with folded weight norms.
        info: see `EngineInfo`.
    """

    def __init__(self, family: str, model: Any, name: str) -> None:
        self._family, self._spec = family, FAMILIES[family]
        fingerprint = _fingerprint(family, model)
        _fold_weight_norms(model)
        self.model = model.eval().requires_grad_(False)
        self._device = next(model.parameters()).device
        num_codebooks, hop_length = self._spec.shape(model.config)
        lookahead, delay = self._reach(hop_length)
        self.info = EngineInfo(
            name=name,
            sample_rate=int(model.config.sampling_rate),
            hop_length=hop_length,
            num_codebooks=num_codebooks,
            codebook_size=int(model.config.codebook_size),
            delay=delay,
            lookahead=lookahead,
            fingerprint=fingerprint,
        )

    @abstractmethod
    def _reach(self, hop_length: int) -> tuple[int, int]:
        """Samples that the encoder hears after a frame, and by which the decoder trails."""

    def to(self, device: str) -> PretrainedEngine:
        """A copy that computes on another device of PyTorch."""
        model = copy.deepcopy(self._bare_model()).to(device)
        return _restore_model(self._family, model, self.info)

    @abstractmethod
    def init_encoder(self, channels: int) -> State: ...

    @abstractmethod
    def encode_step(
        self, audio: Samples, state: State, num_codebooks: int | None = None
    ) -> tuple[Codes, State]: ...

    @abstractmethod
    def init_decoder(self, channels: int) -> State: ...

    @abstractmethod
    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]: ...

    @abstractmethod
    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]: ...

    @abstractmethod
    def flush_step(self, state: State) -> Samples: ...

    @abstractmethod
    def decode_whole(self, codes: Codes) -> Samples:
        """Decode a whole signal as ``transformers`` does: codes ``[C, K, T]`` -> ``[C, N]``."""

    def _encode(self, audio: Samples, num_codebooks: int | None) -> Codes:
        batch = torch.from_numpy(np.ascontiguousarray(audio))[:, None].to(self._device)
        count = num_codebooks or self.info.num_codebooks
        codes: Codes = self._spec.encode(self.model, batch, count).cpu().numpy().astype(np.int64)
        return codes

    def _decode(self, codes: Codes) -> Samples:
        batch = torch.from_numpy(np.ascontiguousarray(codes)).to(self._device)
        audio: Samples = self._spec.decode(self.model, batch).reshape(len(codes), -1).cpu().numpy()
        return audio

    def _no_codes(self, channels: int, num_codebooks: int | None) -> Codes:
        return np.zeros((channels, num_codebooks or self.info.num_codebooks, 0), np.int64)

    def _bare_model(self) -> Any:
        """The model as ``transformers`` makes it, for copies."""
        return self.model

    def __reduce__(self) -> tuple[Any, ...]:
        tensors = self.model.state_dict().items()
        # Copies: some models share tensors between layers, which the format refuses.
        data = safetensors.torch.save({name: each.cpu().clone() for name, each in tensors})
        return _restore, (self._family, self.model.config.to_dict(), data, self.info)


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
        >>> engine = random_engine("encodec", num_filters=2, hidden_size=8)
        >>> encode(engine, np.zeros((1, 24_000), np.float32), num_codebooks=8).shape
        (1, 8, 75)
    """

    def __init__(self, family: str, model: Any, name: str) -> None:
        super().__init__(family, model, name)
        self._lock = threading.Lock()  # the layers find their states in the engine
        self._before: dict[str, Any] = {}
        self._after: dict[str, Any] = {}
        for path, module in self.model.named_modules():
            step = _STEPS.get(type(module).__name__)
            if step is not None:
                module.forward = partial(step, self, path, module)

    def _reach(self, hop_length: int) -> tuple[int, int]:
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
        self, audio: Samples, state: State, num_codebooks: int | None = None
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
        return self.decode_step(_held(state.last, num_frames, state.channels), state)

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
        return _restore_bare(self._family, model.config.to_dict(), model.state_dict())


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
    ``info.lookahead`` samples after a step, and decoded audio trails by ``info.delay`` samples.

    Example:
        >>> engine = random_engine("dac", encoder_hidden_size=2, decoder_hidden_size=16)
        >>> engine.info.lookahead % engine.info.hop_length, engine.info.lookahead > 0
        (0, True)
    """

    def _reach(self, hop_length: int) -> tuple[int, int]:
        first, last = input_span(self.model.encoder, 0, 0)
        self._encoder_left = ceil_div(-first, hop_length) * hop_length
        lookahead = ceil_div(last + 1 - hop_length, hop_length) * hop_length
        first, last = input_span(self.model.decoder, 0, hop_length - 1)
        self._decoder_left, self._decoder_right = -first, last
        return lookahead, last * hop_length

    def init_encoder(self, channels: int) -> State:
        return np.zeros((channels, 0), np.float32)

    def encode_step(
        self, audio: Samples, state: State, num_codebooks: int | None = None
    ) -> tuple[Codes, State]:
        return self.encode_ahead(audio, audio[:, :0], state, num_codebooks)

    @torch.inference_mode()
    def encode_ahead(
        self, audio: Samples, ahead: Samples, state: State, num_codebooks: int | None = None
    ) -> tuple[Codes, State]:
        """See `codec.engines.base.HearsAhead`."""
        if not audio.shape[1]:
            return self._no_codes(len(audio), num_codebooks), state
        hop = self.info.hop_length
        past = np.concatenate((state, audio), axis=1)
        codes = self._encode(np.concatenate((past, ahead), axis=1), num_codebooks)
        first, last = state.shape[1] // hop, past.shape[1] // hop
        kept = past[:, max(0, past.shape[1] - self._encoder_left) :]
        return codes[:, :, first:last], kept

    def init_decoder(self, channels: int) -> State:
        return _WindowedDecoderState(None, 0, channels)

    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        if not codes.shape[2]:
            return np.zeros((len(codes), 0), np.float32), state
        window = codes if state.codes is None else np.concatenate((state.codes, codes), axis=2)
        num_frames = state.num_frames + codes.shape[2]
        audio = self._last_frames(window, num_frames, codes.shape[2], self._decoder_right)
        reach = self._decoder_left + self._decoder_right
        kept = window[:, :, max(0, window.shape[2] - reach) :]
        return audio, _WindowedDecoderState(kept, num_frames, state.channels)

    @torch.inference_mode()
    def decode_whole(self, codes: Codes) -> Samples:
        if not codes.shape[2]:
            return np.zeros((len(codes), 0), np.float32)
        # Transposed convolutions with odd strides end some samples early.
        audio = self._decode(codes)
        missing = codes.shape[2] * self.info.hop_length - audio.shape[1]
        return np.pad(audio, ((0, 0), (0, max(0, missing))))

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """The last frame, held."""
        last = None if state.codes is None else state.codes[:, :, -1:]
        return self.decode_step(_held(last, num_frames, state.channels), state)

    def flush_step(self, state: State) -> Samples:
        frames = self._decoder_right
        if state.codes is None:
            return np.zeros((state.channels, frames * self.info.hop_length), np.float32)
        return self._last_frames(state.codes, state.num_frames, frames, 0)

    def _last_frames(self, window: Codes, num_frames: int, count: int, waiting: int) -> Samples:
        """Audio of ``count`` frames before the last ``waiting`` ones; silence before the first."""
        hop = self.info.hop_length
        audio = self.decode_whole(window)
        end = window.shape[2] - waiting
        begin = end - min(count, max(0, num_frames - waiting))
        audio = audio[:, max(0, begin) * hop : max(0, end) * hop]
        return np.pad(audio, ((0, 0), (count * hop - audio.shape[1], 0)))


def input_span(network: nn.Module, first: int, last: int) -> tuple[int, int]:
    """What a chain of convolutions hears, derived from its layers.

    Args:
        network: its convolutions, in the order in which they are registered, follow one another;
            connections that bypass some hear less.
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
    layers = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    for layer in reversed(layers):
        (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
        padding = int(layer.padding[0])
        reach = (kernel - 1) * dilation
        if isinstance(layer, nn.ConvTranspose1d):
            first, last = ceil_div(first + padding - reach, stride), (last + padding) // stride
        else:
            first, last = first * stride - padding, last * stride - padding + reach
    return first, last


def _held(last: Codes | None, num_frames: int, channels: int) -> Codes:
    """The last frame, repeated; before the first one, the first entry of the first codebook."""
    if last is None:
        return np.zeros((channels, 1, num_frames), np.int64)
    return np.repeat(last, num_frames, axis=2)


def _classes(family: str) -> tuple[Any, Any]:
    """Classes of configuration and model."""
    with optional_packages(family, "transformers"):
        import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    prefix = FAMILIES[family].prefix
    return getattr(transformers, f"{prefix}Config"), getattr(transformers, f"{prefix}Model")


def _fold_weight_norms(model: nn.Module) -> None:
    for module in model.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def _fingerprint(family: str, model: Any) -> bytes:
    """16 bytes that identify the weights."""
    shape = [family, *FAMILIES[family].shape(model.config), int(model.config.sampling_rate)]
    digest = hashlib.sha256(json.dumps(shape).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().float().contiguous().numpy().tobytes())
    return digest.digest()[:16]


def _restore_bare(family: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    config_class, model_class = _classes(family)
    model = model_class(config_class.from_dict(config))
    _fold_weight_norms(model)
    model.load_state_dict(tensors)
    return model


def _restore_model(family: str, model: Any, info: EngineInfo) -> PretrainedEngine:
    engine = make_engine(family, model, info.name)
    engine.info = info  # the fingerprint is that of the weights before weight norms were folded
    return engine


def _restore(
    family: str, config: dict[str, Any], data: bytes, info: EngineInfo
) -> PretrainedEngine:
    """The engine of another process."""
    return _restore_model(family, _restore_bare(family, config, safetensors.torch.load(data)), info)
