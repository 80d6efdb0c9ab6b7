"""`Network`: a model in the core, as functions of arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_void_p
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Codes, Samples
from codec.config import CodecConfig
from codec.core.library import MOST_LEVELS, MOST_UNITS, Config, Tensor, address, call, core
from codec.errors import ModelError

TYPES = {"float32": 0, "int8": 1}

States: TypeAlias = npt.NDArray[np.int64]
"""``[rows, size]``: a state is a row of words, which the core alone understands."""


class Network:
    """A model that the core runs.

    Steps may run in several threads at once. The same input gives the same output to the bit,
    whatever the processor, the division into steps, and the rows of a step.

    Args:
        config: shape of the model.
        tensors: from `codec.core.quantize.quantize`.

    Steps raise a ModelError for sizes, codes or states that are not those of the model.

    Raises:
        ModelError: the model has what the core does not compute, or the tensors do not fit.
        ConfigError: AECODEC_KERNEL names no kernel of this processor.
    """

    def __init__(self, config: CodecConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        check_supported(config)
        self._config, self._library = config, core()
        arrays = {name: _contiguous(value, value.dtype) for name, value in tensors.items()}
        entries = [
            Tensor(name.encode(), TYPES.get(value.dtype.name, -1), value.ctypes.data, value.size)
            for name, value in arrays.items()
        ]
        shape, model, count = shape_of(config), c_void_p(), len(entries)
        call("aec_model_create", shape, (Tensor * count)(*entries), count, model)
        self._model = model
        self._coders: list[c_void_p] = []
        # Not at exit, when threads may still compute.
        weakref.finalize(self, _destroy, self._library, model, self._coders).atexit = False
        self._encoder_size = self._library.aec_encoder_state_size(model)
        self._decoder_size = self._library.aec_decoder_state_size(model)

    def init_encoder(self, rows: int) -> States:
        """States of encoders at the beginning of ``rows`` signals."""
        states = np.empty((rows, self._encoder_size // 8), np.int64)
        call("aec_encoder_init", self._model, address(states), states.nbytes)
        return states

    def init_decoder(self, rows: int) -> States:
        """States of decoders at the beginning of ``rows`` signals."""
        states = np.empty((rows, self._decoder_size // 8), np.int64)
        call("aec_decoder_init", self._model, address(states), states.nbytes)
        return states

    def encode(self, audio: Samples, states: States, num_codebooks: int) -> tuple[Codes, States]:
        """Encode the next frames.

        Args:
            audio: ``[rows * channels, T * hop]``.
            states: of the rows.
            num_codebooks: the first ones.

        Returns:
            Codes ``[rows, K, T]``, and the states for the next step.
        """
        return self._encode(audio, states, num_codebooks, None, None)

    def analyze(
        self, audio: Samples, states: States, num_codebooks: int
    ) -> tuple[Codes, Samples, Samples, States]:
        """`encode`, with the errors ``[rows, K, T]`` that codebooks leave and the latent.

        The latent ``[rows, T, D]`` is what the codes stand for.
        """
        rows, frames = len(states), audio.shape[-1] // self._config.hop_length
        errors = np.empty((rows, num_codebooks, frames), np.float32)
        latent = np.empty((rows, frames, self._config.latent_dim), np.float32)
        codes, after = self._encode(audio, states, num_codebooks, errors, latent)
        return codes, errors, latent, after

    def _encode(
        self,
        audio: Samples,
        states: States,
        num_codebooks: int,
        errors: Samples | None,
        latent: Samples | None,
    ) -> tuple[Codes, States]:
        rows, frames = len(states), audio.shape[-1] // self._config.hop_length
        audio, states = _contiguous(audio, np.float32), _contiguous(states, np.int64)
        codes, after = np.empty((rows, num_codebooks, frames), np.int64), np.empty_like(states)
        with self._coder() as coder:
            call(
                "aec_encode",
                *(coder, rows, frames, num_codebooks, audio),
                *(address(states), address(after), states.nbytes, codes),
                *(None if errors is None else address(errors), latent),
            )
        return codes, after

    def decode(self, codes: Codes, states: States) -> tuple[Samples, States]:
        """Decode the next frames.

        Args:
            codes: ``[rows, K, T]``; negative ones are absent.
            states: of the rows.

        Returns:
            Audio ``[rows * channels, T * hop]``, and the states for the next step.
        """
        rows, num_codebooks, frames = codes.shape
        codes, states = _contiguous(codes, np.int64), _contiguous(states, np.int64)
        shape = (rows * self._config.channels, frames * self._config.hop_length)
        audio, after = np.empty(shape, np.float32), np.empty_like(states)
        with self._coder() as coder:
            call(
                "aec_decode",
                *(coder, rows, frames, num_codebooks, codes),
                *(address(states), address(after), states.nbytes, audio),
            )
        return audio, after

    @contextmanager
    def _coder(self) -> Iterator[c_void_p]:
        """Memory for a step, which no other thread uses meanwhile."""
        try:
            coder = self._coders.pop()
        except IndexError:
            coder = c_void_p()
            call("aec_coder_create", self._model, coder)
        try:
            yield coder
        finally:
            self._coders.append(coder)


def check_supported(config: CodecConfig) -> None:
    """Raise a ModelError for a model that the core does not compute."""
    if reason := unsupported(config):
        remedy = "use --backend torch" if config.has_codes else "use Codec.embed() of PyTorch"
        raise ModelError(f"{reason}: {remedy}")


def unsupported(config: CodecConfig) -> str | None:
    """Why the core does not compute models of this shape; None if it does."""
    dilations = *config.encoder_dilations, *config.decoder_dilations, config.decoder_fine_dilations
    reasons = {
        "the core has no continuous latents": not config.has_codes,
        f"the core has no recurrent layers ({config.recurrent})": config.recurrent != "none",
        f"the core has no odd first stride ({config.strides[0]})": config.lapped_transform
        and config.strides[0] % 2,
        f"the core has at most {MOST_LEVELS} levels of {MOST_UNITS} residual units": (
            len(config.strides) > MOST_LEVELS or max(map(len, dilations)) > MOST_UNITS
        ),
    }
    return next((reason for reason, found in reasons.items() if found), None)


def shape_of(config: CodecConfig) -> Config:
    """``aec_config``."""
    shape = Config()
    for name in ("sample_rate", "channels", "lapped_transform", "kernel_size", "latent_dim"):
        setattr(shape, name, int(getattr(config, name)))
    for name in ("num_codebooks", "codebook_size", "codebook_dim"):
        setattr(shape, name, getattr(config, name))
    shape.scalar_quantizer = config.bottleneck == "fsq"
    shape.num_levels = len(config.strides)
    shape.fine_stride = config.decoder_fine_stride
    shape.fine_channels = config.decoder_fine_channels
    shape.fine_depth = len(config.decoder_fine_dilations)
    shape.fine_dilations[: shape.fine_depth] = config.decoder_fine_dilations
    for level, stride in enumerate(config.strides):
        shape.strides[level] = stride
        for side in ("encoder", "decoder"):
            found = getattr(config, f"{side}_dilations")[level]
            getattr(shape, f"{side}_channels")[level] = getattr(config, f"{side}_channels")[level]
            getattr(shape, f"{side}_depths")[level] = len(found)
            getattr(shape, f"{side}_dilations")[level][: len(found)] = found
    return shape


def _contiguous(values: npt.NDArray[Any], kind: npt.DTypeLike) -> npt.NDArray[Any]:
    values = np.ascontiguousarray(values, kind)
    return values if values.flags.aligned else values.copy()


def _destroy(library: ctypes.CDLL, model: c_void_p, coders: list[c_void_p]) -> None:
    for coder in coders:
        library.aec_coder_destroy(coder)
    library.aec_model_destroy(model)
