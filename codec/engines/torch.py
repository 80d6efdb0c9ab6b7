"""`TorchEngine`: a PyTorch model behind the `Engine` interface."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from codec.arrays import Codes, Samples
from codec.codes import CodecSpec
from codec.config import CodecConfig
from codec.engines.base import Analysis, CodeTables, Engine
from codec.entropy.context import NO_CODE
from codec.errors import ModelError
from codec.network.layers import State as NetworkState
from codec.network.model import Codec
from codec.network.vq import ResidualVectorQuantizer


class DecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        network: state of the decoder's layers.
        latent: ``[C, 1, D]``, the last frame, for concealment.
    """

    network: NetworkState
    latent: Tensor


class TorchEngine(Engine):
    """An engine that runs a `Codec`.

    The model is shared and not changed: several engines and sessions may use it at once. It can be
    sent to another process, where it arrives with its weights.

    Args:
        codec: the model, in evaluation mode, on the device that is to run it.
        name: name of the model, for people.

    Attributes:
        codec: the model, for what needs tensors.
        spec: see `CodecSpec`.

    Example:
        >>> import numpy as np
        >>> from codec import load_codec
        >>> engine = TorchEngine(load_codec())
        >>> audio = np.zeros((1, 480), np.float32)
        >>> codes, state = engine.encode_step(audio, engine.init_encoder(1), num_codebooks=3)
        >>> codes.shape
        (1, 3, 1)
    """

    can_join = True

    def __init__(self, codec: Codec, name: str = "") -> None:
        if not isinstance(codec, Codec):
            raise ModelError(
                f"{type(codec).__name__} is not a model: give an engine, a Codec, the name of a "
                "packaged model or a model folder"
            )
        config = codec.config
        self.codec = codec
        self._device = next(codec.parameters()).device
        self.spec = CodecSpec(
            name=name,
            sample_rate=config.sample_rate,
            hop_length=config.hop_length,
            codebooks=config.codebooks,
            channels_coded_together=config.channels,
            delay=codec.delay,
            tail=codec.delay,
            fingerprint=codec.fingerprint,
        )

    def to(self, device: str) -> TorchEngine:
        """An engine with a copy of the model on another device of PyTorch."""
        codec = copy.deepcopy(self.codec).to(device)
        return TorchEngine(codec, self.spec.name)

    def init_encoder(self, channels: int) -> NetworkState:
        return self.codec.encoder.init_state(self.spec.num_groups(channels))

    @torch.inference_mode()
    def encode_step(
        self,
        audio: Samples,
        state: NetworkState,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, NetworkState]:
        batch = self._batch(audio)
        if self.spec.has_codes:
            codes, state = self.codec.encode_step(batch, state, num_codebooks)
        else:
            codes, state = self.codec.embed_step(batch, state)
        return codes.cpu().numpy(), state

    @torch.inference_mode()
    def analyze_step(self, audio: Samples, state: NetworkState) -> tuple[Analysis, NetworkState]:
        batch = self._batch(audio)
        latent, state = self.codec.encoder(batch.mT, state)
        found = (*self.codec.require_codes().encode_with_errors(latent), latent)
        return Analysis(*(each.cpu().numpy() for each in found)), state

    @property
    def code_tables(self) -> CodeTables | None:
        quantizer = self.codec.quantizer
        if not isinstance(quantizer, ResidualVectorQuantizer):
            return None
        _, maps, biases, stages = quantizer.stacked()
        entries = [stage.entries.cpu().numpy() for stage in stages]
        return CodeTables(entries, maps.cpu().numpy(), biases.cpu().numpy())

    def init_decoder(self, channels: int) -> DecoderState:
        groups = self.spec.num_groups(channels)
        latent = torch.zeros(groups, 1, self.codec.config.latent_dim, device=self._device)
        return DecoderState(self.codec.decoder.init_state(groups), latent)

    @torch.inference_mode()
    def decode_step(self, codes: Codes, state: DecoderState) -> tuple[Samples, DecoderState]:
        frames = torch.from_numpy(codes).to(self._device)
        if not self.spec.has_codes:
            latent = self.codec.quantizer.unembed(frames.mT)
        elif (codes < 0).any():
            absent = self.spec.num_codes() - codes.shape[1]
            everything = F.pad(frames, (0, 0, 0, absent), value=NO_CODE)
            latent = self.codec.require_codes().decode_present(everything)
        else:
            latent = self.codec.dequantize(frames)
        return self._decode(latent, state)

    @torch.inference_mode()
    def conceal_step(self, num_frames: int, state: DecoderState) -> tuple[Samples, DecoderState]:
        """The last frame, held."""
        return self._decode(state.latent.expand(-1, num_frames, -1), state)

    @torch.inference_mode()
    def flush_step(self, state: DecoderState) -> Samples:
        audio = self.codec.flush_step(len(state.latent), state.network)
        return self._channels(audio)

    def join_states(self, states: Sequence[Any]) -> Any:
        if isinstance(states[0], DecoderState):
            networks, latents = zip(*states, strict=True)
            return DecoderState(_join(networks), torch.cat(latents))
        return _join(states)

    def split_state(self, state: Any, channels: Sequence[int]) -> list[Any]:
        groups = [self.spec.num_groups(each) for each in channels]
        if isinstance(state, DecoderState):
            networks = _split(state.network, groups)
            latents = state.latent.split(groups)
            return [DecoderState(*each) for each in zip(networks, latents, strict=True)]
        return cast("list[Any]", _split(state, groups))

    def _batch(self, audio: Samples) -> Tensor:
        """Audio ``[C, n]`` as ``[G, channels_coded_together, n]``."""
        together = self.spec.channels_coded_together
        groups = audio.reshape(len(audio) // together, together, audio.shape[1])
        return torch.from_numpy(groups).to(self._device)

    def _channels(self, audio: Tensor) -> Samples:
        """The inverse of `_batch`."""
        found: Samples = audio.flatten(0, -2).cpu().numpy()
        return found

    def _decode(self, latent: Tensor, state: DecoderState) -> tuple[Samples, DecoderState]:
        audio, network = self.codec.decoder(latent, state.network)
        last = latent[:, -1:] if latent.shape[1] else state.latent
        return self._channels(audio.mT), DecoderState(network, last)

    def __reduce__(self) -> tuple[Any, ...]:
        weights = {name: each.cpu().contiguous() for name, each in self.codec.state_dict().items()}
        data = safetensors.torch.save(weights)
        config = self.codec.config.to_dict()
        spec = self.spec
        return _restore, (config, data, spec.fingerprint, spec.name)


def _join(states: Sequence[NetworkState]) -> NetworkState:
    if isinstance(states[0], Tensor):
        return torch.cat(cast("list[Tensor]", states))
    return tuple(_join(parts) for parts in zip(*states, strict=True))


def _split(state: NetworkState, channels: Sequence[int]) -> list[NetworkState]:
    if isinstance(state, Tensor):
        return list(state.split(list(channels)))
    if not state:
        return [() for _ in channels]
    parts = [_split(each, channels) for each in state]
    return [tuple(each) for each in zip(*parts, strict=True)]


def tensor_model(engine: Engine) -> Codec:
    """The PyTorch model of an engine, for what needs tensors.

    Raises:
        ModelError: the engine is of another kind.
    """
    if not isinstance(engine, TorchEngine):
        raise ModelError(
            f'{type(engine).__name__} has no PyTorch model: use load_model(model, backend="torch")'
        )
    return engine.codec


def _restore(config: dict[str, Any], weights: bytes, fingerprint: bytes, name: str) -> TorchEngine:
    """The engine of another process."""
    codec = Codec(CodecConfig.from_dict(config))
    codec.load_state_dict(safetensors.torch.load(weights))
    codec.fingerprint = fingerprint
    return TorchEngine(codec.eval().requires_grad_(False), name)
