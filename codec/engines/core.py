"""`CoreEngine`: a model in the core, with 8 bits, behind the `Engine` interface."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec.arrays import Codes, Samples
from codec.config import CodecConfig
from codec.core.network import Network, States
from codec.core.quantize import Tensors
from codec.engines.base import Analysis, CodeTables, Engine
from codec.engines.long_steps import LongSteps
from codec.entropy.context import NO_CODE
from codec.errors import ConfigError, ModelError
from codec.model_folder import WEIGHTS, find_model, quantized_weights, read_description, stored_spec


class DecoderState(NamedTuple):
    """State of a decoding session.

    Attributes:
        network: state of the decoder, a row for each group of channels.
        last: ``[G, K, 1]``, the codes of the last frame, for concealment.
    """

    network: States
    last: Codes


class CoreEngine(Engine):
    """An engine that runs a model in the core.

    The same audio gives the same codes, and the same codes the same samples, to the bit: on every
    processor, however a signal is divided into steps, and however many sessions share one. Steps
    may run in several threads at once, and a long step is divided among `threads` of its own. The
    engine can be sent to another process, which loads the model from its folder again.

    Args:
        model: name of a packaged model, or path of a model folder.

    Attributes:
        spec: see `codec.codes.CodecSpec`.

    Raises:
        ModelError: there is no such model, its files do not belong together, or it has parts that
            the core does not compute.

    Example:
        >>> import numpy as np
        >>> engine = CoreEngine("speech24k")
        >>> audio = np.zeros((1, 480), np.float32)
        >>> codes, state = engine.encode_step(audio, engine.init_encoder(1), num_codebooks=3)
        >>> codes.shape
        (1, 3, 1)
    """

    can_join = True
    is_exact = True

    def __init__(self, model: str | Path) -> None:
        self._folder = find_model(model)
        description = read_description(self._folder)
        config = CodecConfig.from_dict(description["codec"])
        tensors = quantized_weights(self._folder, description)
        self._network = Network(config, tensors)
        self._code_tables = _code_tables(tensors, config, self._folder)
        self.spec = stored_spec(description, config)
        network, hop = self._network, self.spec.hop_length
        self._encoding = LongSteps(network.encode, network.init_encoder, hop, axes=(2,))
        self._analysis = LongSteps(network.analyze, network.init_encoder, hop, axes=(2, 2, 1))
        self._decoding = LongSteps(network.decode, network.init_decoder, 1, axes=(1,))

    def init_encoder(self, channels: int) -> States:
        return self._network.init_encoder(self.spec.num_groups(channels))

    def encode_step(
        self,
        audio: Samples,
        state: States,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, States]:
        most = self.spec.num_codebooks
        num_codebooks = most if num_codebooks is None else num_codebooks
        if not 1 <= num_codebooks <= most:
            raise ConfigError(f"{num_codebooks} codebooks asked for: this model has 1 to {most}")
        run = self._encoding.run
        codes, state = run(audio, state, self.threads, num_codebooks=num_codebooks)
        return codes, state

    def analyze_step(self, audio: Samples, state: States) -> tuple[Analysis, States]:
        run, count = self._analysis.run, self.spec.num_codebooks
        *found, state = run(audio, state, self.threads, num_codebooks=count)
        return Analysis(*found), state

    @property
    def code_tables(self) -> CodeTables | None:
        return self._code_tables

    def init_decoder(self, channels: int) -> DecoderState:
        groups = self.spec.num_groups(channels)
        return DecoderState(self._network.init_decoder(groups), self._no_codes(groups, 1))

    def decode_step(self, codes: Codes, state: DecoderState) -> tuple[Samples, DecoderState]:
        groups, count, num_frames = codes.shape
        most = self.spec.num_codebooks
        if not 1 <= count <= most:
            raise ConfigError(f"codes of {count} codebooks: this model has 1 to {most}")
        audio, network = self._decoding.run(codes, state.network, self.threads)
        last = state.last
        if num_frames:
            last = self._no_codes(groups, 1)
            last[:, :count] = codes[:, :, -1:]
        return audio, DecoderState(network, last)

    def conceal_step(self, num_frames: int, state: DecoderState) -> tuple[Samples, DecoderState]:
        """The last frame, held."""
        return self.decode_step(np.repeat(state.last, num_frames, axis=2), state)

    def flush_step(self, state: DecoderState) -> Samples:
        frames = self._no_codes(len(state.last), self.spec.flush_frames)
        return self.decode_step(frames, state)[0]

    def join_states(self, states: Sequence[Any]) -> Any:
        if isinstance(states[0], DecoderState):
            return DecoderState(*map(np.concatenate, zip(*states, strict=True)))
        return np.concatenate(states)

    def split_state(self, state: Any, channels: Sequence[int]) -> list[Any]:
        ends = np.cumsum([0, *map(self.spec.num_groups, channels)])
        if isinstance(state, DecoderState):
            return [
                DecoderState(state.network[start:end], state.last[start:end])
                for start, end in pairwise(ends)
            ]
        return [state[start:end] for start, end in pairwise(ends)]

    def __reduce__(self) -> tuple[Any, ...]:
        return CoreEngine, (self._folder,), {"_num_threads": self.threads}

    def _no_codes(self, groups: int, num_frames: int) -> Codes:
        return np.full((groups, self.spec.num_codebooks, num_frames), NO_CODE)


def _code_tables(tensors: Tensors, config: CodecConfig, folder: Path) -> CodeTables | None:
    """What codes stand for; None for scalar levels.

    They are copies, or all the weights would stay in memory a second time.
    """
    if config.bottleneck != "vq":
        return None
    dim, latent = config.codebook_dim, config.latent_dim
    shapes = {
        "codebook": (config.codebook_size, dim),
        "project.weight": (latent, dim),
        "project.bias": (latent,),
    }
    stacked = []
    for name, shape in shapes.items():
        names = [f"quantizer.stages.{number}.{name}" for number in range(config.num_codebooks)]
        for each in names:  # the core has checked how many values there are
            if tensors[each].shape != shape:
                raise ModelError(
                    f"{folder / WEIGHTS} does not fit its config.json: {each} has shape "
                    f"{list(tensors[each].shape)} in place of {list(shape)}; copy the folder again"
                )
        stacked.append(np.stack([tensors[each] for each in names]))
    entries, maps, biases = stacked
    lengths = np.linalg.norm(entries, axis=-1, keepdims=True)
    lengths[lengths == 0] = 1
    unit = np.divide(entries, lengths, dtype=np.float32)
    return CodeTables(list(unit), maps.transpose(0, 2, 1), biases)
