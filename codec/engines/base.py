"""`Engine`: what computes codes. NumPy arrays in and out; nothing here knows a network.

Everything that carries codes (sessions, files, the command line, evaluation) works with an engine,
so that any implementation of these few methods can take the place of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from codec.arrays import Codes, Latents, Samples
from codec.bitrate import FrameRates, ceil_div
from codec.entropy.context import ContextModel
from codec.entropy.context_file import StoredContext
from codec.entropy.search import CodeTables
from codec.errors import ModelError

State: TypeAlias = Any
"""What an engine remembers between two steps of one session.

A value that only its engine understands: steps take one and return a new one, and never change
the one they were given. So a session can be copied, rewound and continued from any point.
"""

Errors: TypeAlias = npt.NDArray[np.float32]
"""Mean squares ``[C, K, T]`` of what each codebook leaves of a frame's latent."""


class Analysis(NamedTuple):
    """What an encoder finds in some frames.

    Attributes:
        codes: of all codebooks.
        errors: what each codebook leaves.
        latent: ``[C, T, D]``, which the codes stand for.
    """

    codes: Codes
    errors: Errors
    latent: Latents


@dataclass(frozen=True, kw_only=True)
class EngineInfo(FrameRates):
    """What must be known about a model to use its codes.

    Attributes:
        name: name of the model, for people.
        sample_rate: samples per second of the audio that is coded.
        hop_length: samples per frame.
        num_codebooks: codebooks of a frame.
        codebook_size: entries of a codebook, a power of two.
        delay: samples by which decoded audio trails the audio that was encoded.
        fingerprint: 16 bytes that identify the model in streams; empty if it was never saved.
        has_codes: whether frames become codes; a model with continuous latents cannot make
            streams.
        context_source: the context model of its codes, or where it is stored; None if it has none.
        lookahead: samples after a step that its codes depend on, whole frames; see `HearsAhead`.
        tail: samples of silence after a recording that must be coded too, so that its end is
            decoded and not extrapolated: the delay, unless `Engine.flush_step` needs no more codes.
        codes_per_layer: how many codebooks of a frame belong to each layer of the quantizer, for
            models that have several codes of a layer in a frame; empty for one each. Streams have
            whole layers.

    Example:
        >>> from codec import load_engine
        >>> info = load_engine().info
        >>> info.codebooks_for(3_000), info.bits_per_code, info.latency
        (6, 10, 780)
    """

    name: str
    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    delay: int
    fingerprint: bytes
    has_codes: bool = True
    context_source: ContextModel | StoredContext | None = field(default=None, compare=False)
    lookahead: int = 0
    tail: int = 0
    codes_per_layer: tuple[int, ...] = ()

    @property
    def codebook_counts(self) -> Sequence[int]:
        """Numbers of codebooks that can be coded, ascending; none without codes."""
        return tuple(accumulate(self.codes_per_layer)) or super().codebook_counts

    @property
    def context(self) -> ContextModel | None:
        """The model of its codes that makes streams smaller; None if it was not fitted.

        Raises:
            ModelError: its file is damaged, or about the codes of another model.
        """
        source = self.context_source
        context = source.model if isinstance(source, StoredContext) else source
        if context is not None:
            codes = context.shape.num_codebooks, context.shape.codebook_size
            if codes != (self.num_codebooks, self.codebook_size):
                raise ModelError(
                    f"the context model is about {codes[0]} codebooks of {codes[1]} entries, the "
                    f"model has {self.num_codebooks} of {self.codebook_size}: fit it again with "
                    "aecodec fit-context"
                )
        return context

    @property
    def latency(self) -> int:
        """Algorithmic latency with one-frame packets in samples: a frame, lookahead and delay."""
        return self.hop_length + self.lookahead + self.delay

    @property
    def flush_frames(self) -> int:
        """Frames that a decoder needs after the last code to give out the delayed samples."""
        return ceil_div(self.delay, self.hop_length)

    def num_frames_with_tail(self, num_samples: int) -> int:
        """Frames of a recording of ``num_samples`` samples and of the silence after it.

        Example:
            >>> from codec import load_engine
            >>> info = load_engine().info
            >>> info.num_frames(480), info.num_frames_with_tail(480), info.num_frames_with_tail(0)
            (1, 2, 0)
        """
        return self.num_frames(num_samples + self.tail) if num_samples else 0


@runtime_checkable
class Engine(Protocol):
    """Computes codes from audio and audio from codes, step by step.

    All channels of a recording are coded independently and in parallel. A step takes any number of
    whole frames; the result does not depend on how a signal is divided into steps, up to rounding.

    Example:
        >>> import numpy as np
        >>> from codec import load_engine
        >>> engine = load_engine()
        >>> codes, _ = engine.encode_step(np.zeros((1, 960), np.float32), engine.init_encoder(1))
        >>> audio, state = engine.decode_step(codes, engine.init_decoder(1))
        >>> codes.shape, audio.shape, engine.flush_step(state).shape
        ((1, 20, 2), (1, 960), (1, 480))
    """

    @property
    def info(self) -> EngineInfo:
        """What must be known about the model."""
        ...

    def init_encoder(self, channels: int) -> State:
        """State of an encoder at the beginning of a signal."""
        ...

    def encode_step(
        self, audio: Samples, state: State, num_codebooks: int | None = None
    ) -> tuple[Codes, State]:
        """Encode the next frames.

        Args:
            audio: ``[C, T * hop_length]`` float32 at the model's sampling rate.
            state: from `init_encoder` or the step before.
            num_codebooks: codebooks to use, the first ones; all if None.

        Returns:
            Codes ``[C, K, T]``, and the state for the next step. A model without codes returns
            its `Latents` ``[C, E, T]`` in their place.
        """
        ...

    def init_decoder(self, channels: int) -> State:
        """State of a decoder at the beginning of a signal."""
        ...

    def decode_step(self, codes: Codes, state: State) -> tuple[Samples, State]:
        """Decode the next frames.

        Args:
            codes: ``[C, K, T]``, of any number of codebooks from the first one on.
            state: from `init_decoder` or the step before.

        Returns:
            Audio ``[C, T * hop_length]``, which trails by ``info.delay`` samples, and the state
            for the next step.
        """
        ...

    def conceal_step(self, num_frames: int, state: State) -> tuple[Samples, State]:
        """Audio ``[C, num_frames * hop_length]`` in place of frames that were lost.

        The session that asks for it fades it out.
        """
        ...

    def flush_step(self, state: State) -> Samples:
        """Audio ``[C, info.flush_frames * hop_length]`` still inside after the last frame."""
        ...


@runtime_checkable
class JoinsSessions(Protocol):
    """An engine that steps many sessions at once.

    Example:
        >>> import numpy as np
        >>> from codec import load_engine
        >>> engine = load_engine()
        >>> assert isinstance(engine, JoinsSessions)
        >>> both = engine.join_states([engine.init_encoder(1), engine.init_encoder(1)])
        >>> codes, both = engine.encode_step(np.zeros((2, 480), np.float32), both)
        >>> first, second = engine.split_state(both, channels=[1, 1])
        >>> codes[0].shape
        (20, 1)
    """

    def join_states(self, states: Sequence[State]) -> State:
        """The state of several sessions as one, whose channels are theirs in a row.

        A step of many sessions takes far less time than a step of each. All are states of
        encoders, or all of decoders.
        """
        ...

    def split_state(self, state: State, channels: Sequence[int]) -> list[State]:
        """The inverse of `join_states`.

        Args:
            state: state of all sessions.
            channels: number of channels of each session.
        """
        ...


@runtime_checkable
class WeighsCodes(Protocol):
    """An engine that says what each code is worth, for streams of variable bitrate."""

    def analyze_step(self, audio: Samples, state: State) -> tuple[Analysis, State]:
        """Encode the next frames with all codebooks, and say what each codebook is worth.

        Args:
            audio: as for `encode_step`.
            state: as for `encode_step`.

        Returns:
            What was found, and the state for the next step.
        """
        ...

    @property
    def code_tables(self) -> CodeTables | None:
        """What codes stand for, for those who search among them; None if that is not known."""
        ...


@runtime_checkable
class HearsAhead(Protocol):
    """An engine whose codes depend on what follows a step.

    Its ``encode_step`` takes the end of its input for the end of the signal.
    """

    def encode_ahead(
        self, audio: Samples, ahead: Samples, state: State, num_codebooks: int | None = None
    ) -> tuple[Codes, State]:
        """Encode the next frames, knowing what follows.

        Args:
            audio: as for ``encode_step``.
            ahead: ``[C, info.lookahead]`` that follow; fewer at the end of the signal.
            state: as for ``encode_step``.
            num_codebooks: as for ``encode_step``.

        Returns:
            Codes of ``audio``, and the state after it.
        """
        ...


def encode_block(
    engine: Engine, audio: Samples, ahead: Samples, state: State, num_codebooks: int
) -> tuple[Codes, State]:
    """Encode the next frames with any engine.

    Args:
        engine: the model.
        audio: ``[C, T * hop_length]``.
        ahead: ``[C, info.lookahead]`` that follow; fewer at the end of the signal.
        state: from ``init_encoder`` or the step before.
        num_codebooks: codebooks to use.
    """
    audio = np.ascontiguousarray(audio)
    if isinstance(engine, HearsAhead):
        return engine.encode_ahead(audio, ahead, state, num_codebooks)
    return engine.encode_step(audio, state, num_codebooks)


def encode(engine: Engine, audio: Samples, num_codebooks: int | None = None) -> Codes:
    """Encode a whole signal in one step.

    Args:
        engine: the model.
        audio: ``[C, N]`` float32 at the model's sampling rate, any N.
        num_codebooks: codebooks to use; all if None.

    Returns:
        Codes ``[C, K, T]`` with ``T = ceil(N / hop_length)``. Sessions filter the audio before
        (`codec.highpass`), and code a frame more where the end of the audio needs it.
    """
    padding = -audio.shape[1] % engine.info.hop_length
    padded = np.pad(audio, ((0, 0), (0, padding)))
    codes, _ = engine.encode_step(padded, engine.init_encoder(len(audio)), num_codebooks)
    return codes


def decode(engine: Engine, codes: Codes, num_samples: int) -> Samples:
    """Decode a whole signal in one step.

    Args:
        engine: the model.
        codes: ``[C, K, T]``, from `encode`.
        num_samples: length of the audio that was encoded.

    Returns:
        Audio ``[C, num_samples]``, aligned with the audio that was encoded.
    """
    audio, state = engine.decode_step(codes, engine.init_decoder(len(codes)))
    audio = np.concatenate((audio, engine.flush_step(state)), axis=1)
    return audio[:, engine.info.delay : engine.info.delay + num_samples]
