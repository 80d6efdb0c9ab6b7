"""`Engine`: what computes codes. NumPy arrays in and out; nothing here knows a network.

Everything that carries codes (sessions, files, the command line, evaluation) works with an engine,
so that any implementation of these few methods can take the place of another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.arguments import check_whole
from codec.arrays import Codes, Latents, Samples
from codec.codes import CodecSpec
from codec.engines.groups import ChannelGroups
from codec.errors import ConfigError, ModelError

State: TypeAlias = Any
"""What an engine remembers between two steps of one session.

A value that only its engine understands: steps take one and return a new one, and never change
the one they were given. So a session can be copied, rewound and continued from any point.
"""

MAX_THREADS = 1024

Errors: TypeAlias = npt.NDArray[np.float32]
"""Mean squares ``[G, K, T]`` of what each codebook leaves of a frame's latent."""


class Analysis(NamedTuple):
    """What an encoder finds in some frames.

    Attributes:
        codes: of all codebooks.
        errors: what each codebook leaves.
        latent: ``[G, T, D]``, which the codes stand for.
    """

    codes: Codes
    errors: Errors
    latent: Latents


@dataclass(frozen=True)
class CodeTables:
    """What codes stand for: code c of codebook k is ``embeddings[k][c] @ maps[k] + biases[k]``.

    Attributes:
        embeddings: ``[size, d]`` of each codebook.
        maps: ``[K, d, D]``.
        biases: ``[K, D]``.
    """

    embeddings: Sequence[npt.NDArray[np.float32]]
    maps: npt.NDArray[np.float32]
    biases: npt.NDArray[np.float32]


class Engine(ABC):
    """Computes codes from audio and audio from codes, step by step.

    Channels are coded in parallel: each on its own, or in groups of those that share their codes.
    A step takes whole groups (`codec.engines.groups`) and any number of whole frames; the result
    does not depend on how a signal is divided into steps, up to rounding.

    Attributes:
        spec: geometry of the codes.
        can_join: whether the states of many sessions can be joined to one (`join_states`).
        is_exact: whether results are equal to the bit, however a signal is divided into steps.

    Example:
        >>> import numpy as np
        >>> from codec import load_model
        >>> engine = load_model().engine
        >>> codes, _ = engine.encode_step(np.zeros((1, 960), np.float32), engine.init_encoder(1))
        >>> audio, state = engine.decode_step(codes, engine.init_decoder(1))
        >>> codes.shape, audio.shape, engine.flush_step(state).shape
        ((1, 20, 2), (1, 960), (1, 480))
        >>> both = engine.join_states([engine.init_encoder(1), engine.init_encoder(1)])
        >>> codes, both = engine.encode_step(np.zeros((2, 480), np.float32), both)
        >>> first, second = engine.split_state(both, channels=[1, 1])
    """

    spec: CodecSpec
    can_join = False
    is_exact = False
    _num_threads = 1

    @property
    def threads(self) -> int:
        """Threads among which a long step is divided, without a change of any bit.

        With more than one, sessions code several packets in a step if they have them. Set it before
        they begin.

        Raises:
            ConfigError: on assignment, if it is no whole number from 1 to 1024, or results of this
                engine depend on the steps.
        """
        return self._num_threads

    @threads.setter
    def threads(self, threads: int) -> None:
        threads = check_whole("threads", threads, 1, MAX_THREADS)
        if threads > 1 and not self.is_exact:
            raise ConfigError(
                f"this engine computes {self.spec.name} in one step after the other: leave out the "
                "threads, or use --backend core"
            )
        self._num_threads = threads

    @abstractmethod
    def init_encoder(self, channels: int) -> State:
        """State of an encoder at the beginning of a signal."""

    @abstractmethod
    def encode_step(
        self,
        audio: Samples,
        state: State,
        num_codebooks: int | None = None,
        ahead: Samples | None = None,
    ) -> tuple[Codes, State]:
        """Encode the next frames.

        Args:
            audio: ``[C, T * hop_length]`` float32 at the model's sampling rate.
            state: from `init_encoder` or the step before.
            num_codebooks: codebooks, the first ones; all if None.
            ahead: ``[C, spec.lookahead]`` samples that follow; fewer at the end of the signal, and
                none if None. Models without lookahead do not use it.

        Returns:
            Codes ``[G, K, T]``, and the state for the next step. A model without codes returns
            its `Latents` ``[G, E, T]`` in their place.
        """

    @abstractmethod
    def init_decoder(self, channels: int) -> State:
        """State of a decoder at the beginning of a signal."""

    @abstractmethod
    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        """Decode the next frames.

        Args:
            codes: ``[G, K, T]``, of any number of whole codebooks from the first one on.
            state: from `init_decoder` or the step before.

        Returns:
            Audio ``[C, T * hop_length]``, which trails by ``spec.delay`` samples, and the state
            for the next step.
        """

    @abstractmethod
    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """Audio ``[C, num_frames * hop_length]`` in place of frames that were lost.

        The session that calls it fades it out.
        """

    @abstractmethod
    def flush_step(self, state: State) -> Samples:
        """Audio ``[C, spec.flush_frames * hop_length]`` still inside after the last frame."""

    def analyze_step(self, audio: Samples, state: State) -> tuple[Analysis, State]:
        """Encode the next frames with all codebooks, and compute the error that each one leaves.

        Streams of variable bitrate need it.

        Args:
            audio: as for `encode_step`.
            state: as for `encode_step`.

        Returns:
            What was found, and the state for the next step.

        Raises:
            ModelError: the model does not compute errors.
        """
        raise ModelError(
            f"{self.spec.name} has no variable bitrate: give another model, or --codebooks"
        )

    @property
    def code_tables(self) -> CodeTables | None:
        """The entries of the codebooks, for a search among them; None if they are unknown."""
        return None

    def join_states(self, states: Sequence[State]) -> State:
        """The state of several sessions as one, whose channels are theirs in a row.

        A step of many sessions takes far less time than a step of each. All are states of
        encoders, or all of decoders.
        """
        raise ModelError(f"{self.spec.name} cannot join sessions: step each of them")

    def split_state(self, state: State, channels: Sequence[int]) -> list[State]:
        """The inverse of `join_states`.

        Args:
            state: state of all sessions.
            channels: number of channels of each session.
        """
        raise ModelError(f"{self.spec.name} cannot join sessions: step each of them")


def encode(engine: Engine, audio: Samples, num_codebooks: int | None = None) -> Codes:
    """Encode a whole signal in one step.

    Args:
        engine: the model.
        audio: ``[C, N]`` float32 at the model's sampling rate, any N.
        num_codebooks: codebooks to use; all if None.

    Returns:
        Codes ``[G, K, T]`` with ``T = ceil(N / hop_length)``. Sessions filter the audio before
        (`codec.highpass`), and code a frame more where the end of the audio needs it.
    """
    padding = -audio.shape[1] % engine.spec.hop_length
    padded = np.pad(audio, ((0, 0), (0, padding)))
    groups = ChannelGroups(engine.spec, len(audio))
    state = engine.init_encoder(groups.num_inputs)
    codes, _ = engine.encode_step(groups.inputs(padded), state, num_codebooks)
    return codes


def decode(engine: Engine, codes: Codes, num_samples: int, channels: int | None = None) -> Samples:
    """Decode a whole signal in one step.

    Args:
        engine: the model.
        codes: ``[G, K, T]``, from `encode`.
        num_samples: length of the audio that was encoded.
        channels: its number of channels, C; those of whole groups if None.

    Returns:
        Audio ``[C, num_samples]``, aligned with the audio that was encoded.
    """
    spec = engine.spec
    whole = len(codes) * spec.channels_coded_together
    audio, state = engine.decode_step(codes, engine.init_decoder(whole))
    audio = np.concatenate((audio, engine.flush_step(state)), axis=1)
    audio = ChannelGroups(spec, whole if channels is None else channels).outputs([audio])
    return audio[:, spec.delay : spec.delay + num_samples]
