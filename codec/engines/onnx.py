"""`OnnxEngine`: a model's graphs in onnxruntime, behind the `Engine` interface. No PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arrays import Codes, Samples
from codec.config import CodecConfig
from codec.engines.base import Analysis, CodeTables, Engine
from codec.engines.runtime import onnxruntime
from codec.entropy.context import NO_CODE
from codec.errors import ConfigError, ModelError, NotEnoughMemoryError
from codec.model_folder import (
    GRAPHS,
    WEIGHTS,
    find_model,
    read_description,
    read_graph,
    read_graphs,
    read_weights,
    stored_spec,
    stored_tensors,
)

QUANTIZER_WEIGHTS = ("codebook", "project.weight", "project.bias")
"""Those of a stage of a `codec.network.vq.ResidualVectorQuantizer`."""

NO_MEMORY = ("allocate memory", "bad_alloc", "bad allocation")
"""Parts of the messages of onnxruntime's exceptions where memory is not enough."""

Tensors: TypeAlias = tuple[npt.NDArray[Any], ...]
"""The state of a graph, each ``[C, ...]``."""


class DecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        network: state of the decoder's graph.
        last: ``[C, K, 1]``, the codes of the last frame, for concealment.
    """

    network: Tensors
    last: Codes


class OnnxEngine(Engine):
    """An engine that runs the graphs of a model folder.

    Graphs are loaded when they are first used, so that who only encodes loads no decoder. The
    engine can be sent to another process, which loads them from the folder again.

    Args:
        model: name of a packaged model, or path of a model folder with graphs (`aecodec export`).
        threads: number of threads that compute a step.

    Attributes:
        spec: see `codec.codes.CodecSpec`.

    Raises:
        ModelError: there is no such model, it has no graphs, or its files do not belong together.

    Example:
        >>> import numpy as np
        >>> engine = OnnxEngine("speech24k")
        >>> audio = np.zeros((1, 480), np.float32)
        >>> codes, state = engine.encode_step(audio, engine.init_encoder(1), num_codebooks=3)
        >>> codes.shape
        (1, 3, 1)
    """

    can_join = True

    def __init__(self, model: str | Path, threads: int = 1) -> None:
        self._folder, self._threads = find_model(model), threads
        description = read_description(self._folder)
        self._graphs = read_graphs(self._folder)
        if self._graphs["weights_sha256"] != description["weights_sha256"]:
            raise ModelError(
                f"{self._folder / GRAPHS} belongs to other weights: run aecodec export"
            )
        read_weights(self._folder, description)  # checks them; onnxruntime reads them by itself
        self._config = config = CodecConfig.from_dict(description["codec"])
        self._loaded: dict[str, _Graph] = {}
        self._loading = threading.Lock()
        self.spec = stored_spec(description, config)

    def init_encoder(self, channels: int) -> Tensors:
        return _initial(self._graphs["encoder"], self.spec.num_groups(channels))

    def encode_step(
        self,
        audio: Samples,
        state: Tensors,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, Tensors]:
        most = self.spec.num_codebooks
        num_codebooks = most if num_codebooks is None else num_codebooks
        if not 1 <= num_codebooks <= most:
            raise ConfigError(f"{num_codebooks} codebooks asked for: this model has 1 to {most}")
        if not audio.shape[1]:
            return self._no_codes(self.spec.num_groups(len(audio)), 0)[:, :num_codebooks], state
        codes, state, _ = self._encoder(self._batch(audio), state)
        return codes[:, :num_codebooks], state

    def analyze_step(self, audio: Samples, state: Tensors) -> tuple[Analysis, Tensors]:
        if not audio.shape[1]:
            none = self._no_codes(self.spec.num_groups(len(audio)), 0)
            latent = np.zeros((len(none), 0, self._config.latent_dim), np.float32)
            return Analysis(none, none.astype(np.float32), latent), state
        codes, state, more = self._encoder(self._batch(audio), state)
        if len(more) != 2:
            raise ModelError(f"{self._folder} has graphs without an analysis: run aecodec export")
        return Analysis(codes, *more), state

    @cached_property
    def code_tables(self) -> CodeTables | None:
        data = read_weights(self._folder, read_description(self._folder))
        stored = stored_tensors(data)
        dim, latent = self._config.codebook_dim, self._config.latent_dim
        parts: list[list[npt.NDArray[np.float32]]] = []
        for number, book in enumerate(self.spec.codebooks):
            shapes = [(book.size, dim), (latent, dim), (latent,)]
            names = [f"quantizer.stages.{number}.{each}" for each in QUANTIZER_WEIGHTS]
            if not all(name in stored for name in names):
                return None
            if [stored[name].shape for name in names] != shapes:
                raise ModelError(
                    f"{self._folder / WEIGHTS} does not fit its config.json: codebook {number} has "
                    "another shape; copy the folder again"
                )
            parts.append([stored[name].read(data) for name in names])
        entries, maps, biases = zip(*parts, strict=True)
        unit = [each / np.linalg.norm(each, axis=-1, keepdims=True) for each in entries]
        return CodeTables(unit, np.stack(maps).transpose(0, 2, 1), np.stack(biases))

    def init_decoder(self, channels: int) -> DecoderState:
        groups = self.spec.num_groups(channels)
        return DecoderState(_initial(self._graphs["decoder"], groups), self._no_codes(groups, 1))

    def decode_step(self, codes: Codes, state: DecoderState) -> tuple[Samples, DecoderState]:
        groups, count, num_frames = codes.shape
        most = self.spec.num_codebooks
        if not 1 <= count <= most:
            raise ConfigError(f"codes of {count} codebooks: this model has 1 to {most}")
        if count < most:
            absent = self._no_codes(groups, num_frames)[:, count:]
            codes = np.concatenate((codes, absent), axis=1)
        return self._decode(codes, state)

    def conceal_step(self, num_frames: int, state: DecoderState) -> tuple[Samples, DecoderState]:
        """The last frame, held."""
        return self._decode(np.repeat(state.last, num_frames, axis=2), state)

    def flush_step(self, state: DecoderState) -> Samples:
        frames = self._no_codes(len(state.last), self.spec.flush_frames)
        return self._decode(frames, state)[0]

    def join_states(self, states: Sequence[Any]) -> Any:
        if isinstance(states[0], DecoderState):
            *network, last = _join([(*each.network, each.last) for each in states])
            return DecoderState(tuple(network), last)
        return _join(states)

    def split_state(self, state: Any, channels: Sequence[int]) -> list[Any]:
        groups = [self.spec.num_groups(each) for each in channels]
        if isinstance(state, DecoderState):
            parts = _split((*state.network, state.last), groups)
            return [DecoderState(each[:-1], each[-1]) for each in parts]
        return list(_split(state, groups))

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxEngine, (self._folder, self._threads)

    @property
    def _encoder(self) -> _Graph:
        return self._loaded.get("encoder") or self._load("encoder")

    @property
    def _decoder(self) -> _Graph:
        return self._loaded.get("decoder") or self._load("decoder")

    def _load(self, side: str) -> _Graph:
        """Load a graph once, however many threads need it, and try it with one frame."""
        spec = self.spec
        silence = np.zeros((spec.channels_coded_together, spec.hop_length), np.float32)
        audio, codes = self._batch(silence), self._no_codes(1, 1)
        first, result = (audio, codes) if side == "encoder" else (codes, audio)
        with self._loading:
            if side not in self._loaded:
                graph = _Graph(self._folder, self._graphs[side], self._threads)
                graph.check(first, _initial(self._graphs[side], 1), result)
                self._loaded[side] = graph
            return self._loaded[side]

    def _decode(self, codes: Codes, state: DecoderState) -> tuple[Samples, DecoderState]:
        together = self.spec.channels_coded_together
        if not codes.shape[2]:  # a model without delay has nothing to flush
            return np.zeros((together * len(codes), 0), np.float32), state
        audio, network, _ = self._decoder(codes, state.network)
        audio = audio.reshape(int(np.prod(audio.shape[:-1])), audio.shape[-1])
        return audio, DecoderState(network, codes[:, :, -1:])

    def _batch(self, audio: Samples) -> Samples:
        """Audio ``[C, n]`` as graphs take it: by group, if channels are coded together."""
        together = self.spec.channels_coded_together
        return (
            audio
            if together == 1
            else audio.reshape(len(audio) // together, together, audio.shape[1])
        )

    def _no_codes(self, groups: int, num_frames: int) -> Codes:
        return np.full((groups, self.spec.num_codebooks, num_frames), NO_CODE)


class _Graph:
    """A graph as a function of its first input and its state."""

    def __init__(self, folder: Path, description: dict[str, Any], threads: int) -> None:
        path = read_graph(folder, description)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # nothing: errors are raised as well
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            reason = str(error).splitlines()[0]
            raise ModelError(f"onnxruntime cannot load {path}: {reason}") from error
        self._path = path
        self._names = [each.name for each in self._session.get_inputs()]

    def __call__(self, first: npt.NDArray[Any], state: Tensors) -> tuple[Any, Tensors, list[Any]]:
        """The first output, the state, and further outputs."""
        inputs = dict(zip(self._names, (first, *state), strict=True))
        try:
            output, *others = self._session.run(None, inputs)
        except Exception as error:
            if not any(each in str(error) for each in NO_MEMORY):
                raise
            raise NotEnoughMemoryError.of_step(len(first)) from error
        return output, tuple(others[: len(state)]), others[len(state) :]

    def check(self, first: npt.NDArray[Any], state: Tensors, result: npt.NDArray[Any]) -> None:
        """Take a step, and raise a ModelError if it does not give what it should.

        Args:
            first: first input.
            state: state before the step; the one after it has the same types and shapes.
            result: any values of the type and shape of the first output.
        """
        try:
            output, after, _ = self(first, state)
        except NotEnoughMemoryError:
            raise
        except Exception as error:  # see above; and a ValueError for another number of inputs
            reason = str(error).splitlines()[0]
            raise ModelError(f"onnxruntime cannot run {self._path}: {reason}") from error
        found, wanted = (
            [(getattr(each, "dtype", None), np.shape(each)) for each in tensors]
            for tensors in ((output, *after), (result, *state))
        )
        if found != wanted:
            raise ModelError(
                f"{self._path} does not fit config.json and {GRAPHS}: run aecodec export"
            )


def _initial(description: dict[str, Any], channels: int) -> Tensors:
    return tuple(
        np.full((channels, *each["shape"]), each["value"], each["type"])
        for each in description["states"]
    )


def _join(states: Sequence[Tensors]) -> Tensors:
    return tuple(np.concatenate(parts) for parts in zip(*states, strict=True))


def _split(state: Tensors, channels: Sequence[int]) -> list[Tensors]:
    ends = np.cumsum([0, *channels])
    return [tuple(each[start:end] for each in state) for start, end in pairwise(ends)]
