"""What the engines of other projects' models have in common."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codec.arrays import Codes, Samples
from codec.codes import Codebook, CodecSpec
from codec.engines.base import Engine


class Shape(NamedTuple):
    """The frames of a model.

    Attributes:
        num_codebooks: codes per frame.
        hop_length: samples per frame.
        num_latents: vectors per frame between encoder and decoder.
        codes_per_layer: codes of each codebook in a frame; empty for one each.
    """

    num_codebooks: int
    hop_length: int
    num_latents: int = 1
    codes_per_layer: tuple[int, ...] = ()


@dataclass(frozen=True)
class Family:
    """What is particular to a family of models; functions of modules, so that engines can travel.

    Attributes:
        name: its name on the command line.
        classes: imports its classes of configuration and model.
        engine: configuration -> class of the engine.
        shape: configuration -> its frames.
        encode: model, audio ``[B, 1, N]``, number of codebooks -> codes ``[B, K, T]``.
        decode: model, codes ``[B, K, T]``, number of the first frame -> audio with ``N`` samples.
        refuse: configuration -> why the model cannot be used; empty if it can.
        published: configuration of the published 24 kHz model, where it is not the default.
        weights: patterns of the names of its weights, the best first.
    """

    name: str
    classes: Callable[[], tuple[Any, Any]]
    engine: Callable[[Any], type[PretrainedEngine]]
    shape: Callable[[Any], Shape]
    encode: Callable[[Any, Tensor, int], Tensor]
    decode: Callable[[Any, Tensor, int], Tensor]
    refuse: Callable[[Any], str]
    published: dict[str, Any] = field(default_factory=dict)
    weights: tuple[str, ...] = ("model*.safetensors",)

    def find_weights(self, folder: Path) -> Path | None:
        """The first file of weights in a folder; None if there is none."""
        found = (path for pattern in self.weights for path in sorted(folder.glob(pattern)))
        return next(found, None)


class PretrainedEngine(Engine):
    """A model of another project.

    Args:
        family: what is particular to it.
        model: the loaded model, which becomes part of the engine.
        name: name of the model, for people.

    Attributes:
        model: the model, with folded weight norms.
        spec: see `CodecSpec`.
    """

    def __init__(self, family: Family, model: Any, name: str) -> None:
        self._family = family
        fingerprint = _fingerprint(family, model)
        _fold_weight_norms(model)
        self.model = model.eval().requires_grad_(False)
        self._device = next(model.parameters()).device
        shape = family.shape(model.config)
        lookahead, delay = self._reach(shape)
        self.spec = CodecSpec(
            name=name,
            sample_rate=int(model.config.sampling_rate),
            hop_length=shape.hop_length,
            codebooks=tuple(
                Codebook(int(model.config.codebook_size), count)
                for count in shape.codes_per_layer or (1,) * shape.num_codebooks
            ),
            delay=delay,
            lookahead=lookahead,
            fingerprint=fingerprint,
        )

    @abstractmethod
    def _reach(self, shape: Shape) -> tuple[int, int]:
        """Samples that the encoder hears after a frame, and by which the decoder trails."""

    def to(self, device: str) -> PretrainedEngine:
        """A copy that computes on another device of PyTorch."""
        model = copy.deepcopy(self._bare_model()).to(device)
        return _restore_engine(type(self), self._family, model, self.spec)

    @abstractmethod
    def decode_whole(self, codes: Codes) -> Samples:
        """Decode a whole signal as its project does: codes ``[C, K, T]`` -> ``[C, N]``."""

    def _encode(self, audio: Samples, num_codebooks: int | None) -> Codes:
        batch = self._tensor(audio)[:, None]
        codes = self._family.encode(self.model, batch, num_codebooks or self.spec.num_codebooks)
        return codes.cpu().numpy().astype(np.int64)

    def _decode(self, codes: Codes, first_frame: int = 0) -> Samples:
        audio = self._family.decode(self.model, self._tensor(codes), first_frame)
        decoded: Samples = audio.reshape(len(codes), -1).cpu().numpy()
        return decoded

    def _tensor(self, array: Codes | Samples) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _no_codes(self, channels: int, num_codebooks: int | None) -> Codes:
        return np.zeros((channels, num_codebooks or self.spec.num_codebooks, 0), np.int64)

    def _bare_model(self) -> Any:
        """The model as its project makes it, for copies."""
        return self.model

    def __reduce__(self) -> tuple[Any, ...]:
        tensors = self.model.state_dict().items()
        # Copies: some models share tensors between layers, which the format refuses.
        data = safetensors.torch.save({name: each.cpu().clone() for name, each in tensors})
        config = self.model.config.to_dict()
        return _restore, (type(self), self._family, config, data, self.spec)


def held(last: Codes | None, num_frames: int, channels: int) -> Codes:
    """The last frame, repeated; before the first one, the first entry of the first codebook."""
    if last is None:
        return np.zeros((channels, 1, num_frames), np.int64)
    return np.repeat(last, num_frames, axis=2)


def follow(before: Codes | None, codes: Codes) -> Codes:
    """Codes after those of earlier frames, which get as many codebooks.

    After a loss at the beginning, earlier frames have fewer (`held`).

    Example:
        >>> follow(np.ones((1, 1, 2), np.int64), np.ones((1, 2, 1), np.int64)).tolist()
        [[[1, 1, 1], [0, 0, 1]]]
    """
    if before is None:
        return codes
    missing = max(0, codes.shape[1] - before.shape[1])
    before = np.pad(before, ((0, 0), (0, missing), (0, 0)))[:, : codes.shape[1]]
    return np.concatenate((before, codes), axis=2)


def spread(values: Tensor, given: int, wanted: int) -> Tensor:
    """Vectors of frames of which only the first codes are there, with zeros for the others.

    Args:
        values: ``[B, D, T * given]``.
        given: vectors per frame.
        wanted: vectors per frame of the result.

    Returns:
        ``[B, D, T * wanted]``.

    Example:
        >>> spread(torch.tensor([[[1, 2]]]), given=1, wanted=3).tolist()
        [[[1, 0, 0, 2, 0, 0]]]
    """
    frames = values.unflatten(-1, (-1, given))
    return nn.functional.pad(frames, (0, wanted - given)).flatten(-2)


def restore_model(family: Family, config: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """A model with folded weight norms."""
    config_class, model_class = family.classes()
    model = model_class(config_class.from_dict(config))
    _fold_weight_norms(model)
    model.load_state_dict(tensors)
    return model


def _restore(
    kind: type[PretrainedEngine],
    family: Family,
    config: dict[str, Any],
    data: bytes,
    spec: CodecSpec,
) -> PretrainedEngine:
    """The engine of another process."""
    model = restore_model(family, config, safetensors.torch.load(data))
    return _restore_engine(kind, family, model, spec)


def _restore_engine(
    kind: type[PretrainedEngine], family: Family, model: Any, spec: CodecSpec
) -> PretrainedEngine:
    engine = kind(family, model, spec.name)
    engine.spec = spec  # the fingerprint is that of the weights before weight norms were folded
    return engine


def _fold_weight_norms(model: nn.Module) -> None:
    for module in model.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)


def _fingerprint(family: Family, model: Any) -> bytes:
    """16 bytes that identify the weights."""
    shape = family.shape(model.config)
    facts = [family.name, shape.num_codebooks, shape.hop_length, int(model.config.sampling_rate)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().float().contiguous().numpy().tobytes())
    return digest.digest()[:16]
