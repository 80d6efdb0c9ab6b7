"""`Analyzer`: the first stage of an encoder, from audio to the frames of packets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from codec.activity.noise import NOISE_CODEBOOKS
from codec.activity.pauses import PauseDetector
from codec.activity.silence import SilenceDetector
from codec.arguments import check_whole
from codec.arrays import Codes, Latents, Samples
from codec.bitrate import ceil_div
from codec.core.frames import levels_and_weights, slopes
from codec.engines.base import Errors, State
from codec.engines.groups import ChannelGroups
from codec.errors import AudioError
from codec.format.container import PLAIN_FORMAT
from codec.format.timeline import Timeline
from codec.highpass import HighPass
from codec.rate.block import Block
from codec.session.plan import Plan


class Analyzer:
    """Audio that arrives in pieces of any length to `Block`s, each of one packet.

    A step is always one packet, so blocks do not depend on how the audio was pushed.

    Args:
        plan: of the stream.

    Attributes:
        num_samples: number of samples that were pushed, per channel.

    Example:
        >>> from codec import load_model
        >>> from codec.session.plan import make_plan
        >>> analyzer = Analyzer(make_plan(load_model()))
        >>> [block.codes.shape for block in analyzer.push(np.zeros((1, 1_000), np.float32))]
        [(1, 20, 1), (1, 20, 1)]
        >>> len(list(analyzer.finish()))
        1
    """

    def __init__(self, plan: Plan) -> None:
        header = plan.header
        self._engine, self._header = plan.model.engine, header
        self._searches = plan.effort > 0
        self._bits = np.array(plan.model.spec.bits, float)
        self._pauses = self._silence = None
        if header.pauses:
            self._pauses = PauseDetector(header.sample_rate, header.hop_length)
        if header.dtx:
            self._silence = SilenceDetector(header.sample_rate, header.hop_length)
        together = header.channels_coded_together
        self._groups = ChannelGroups(plan.model.spec, header.channels, together)
        self._state: State = plan.model.engine.init_encoder(self._groups.num_inputs)
        self._filter = HighPass(header.sample_rate, header.hop_length)
        self._filtered = self._filter.init_state(header.channels)
        self._step = header.frames_per_packet * header.hop_length  # samples of a packet
        self._remainder: Samples = np.zeros((header.channels, 0), np.float32)
        self.num_samples = 0

    def push(self, samples: npt.ArrayLike) -> Iterator[Block]:
        """The blocks that are full now.

        They are computed one by one as they are taken, so a long push needs little memory. All must
        be taken before the next push.

        Args:
            samples: ``[C, n]`` floats at the model's rate, nominally in [-1, 1], any n.

        Raises:
            AudioError: wrong shape or type, not finite, or far above full scale.
        """
        audio = as_float32(samples, "samples are", "[channels, n]")
        if audio.ndim != 2 or len(audio) != self._header.channels:
            raise AudioError(
                f"samples have shape {list(audio.shape)}, "
                f"this stream takes [{self._header.channels}, n]"
            )
        self.num_samples += audio.shape[1]
        if self._remainder.size:
            audio = np.concatenate((self._remainder, audio), axis=1)
        lookahead = self._engine.spec.lookahead
        whole = max(0, audio.shape[1] - lookahead) // self._step * self._step
        self._remainder = audio[:, whole:].copy()
        filtered, self._filtered = self._filter.step(audio[:, :whole], self._filtered)
        if whole and lookahead:  # what is ahead is filtered again when it is its turn
            ahead, _ = self._filter.step(audio[:, whole : whole + lookahead], self._filtered)
            filtered = np.concatenate((filtered, ahead), axis=1)
        return self._blocks(filtered, whole)

    def finish(self, num_samples: int | None = None) -> Iterator[Block]:
        """The blocks of what is left, padded to whole frames; the last one may have no frames.

        If the padding is shorter than the decoder's delay there is one frame more, without which
        the last samples would be extrapolated (except in packets of format 1).

        Args:
            num_samples: length at the original rate, if the audio was resampled.

        Raises:
            AudioError: ``num_samples`` contradicts the number of samples that were pushed.
        """
        header, spec = self._header, self._engine.spec
        pushed = self.num_samples
        num_samples = pushed if num_samples is None else num_samples
        num_samples = check_whole("num_samples", num_samples, 0, 2**63, AudioError)
        if (expected := Timeline(header).model_length(num_samples)) != pushed:
            raise AudioError(
                f"{num_samples} samples at {header.original_sample_rate} Hz are {expected} at the "
                f"model's rate, but {pushed} were pushed"
            )
        left, tailed = self._remainder.shape[1], header.format != PLAIN_FORMAT
        num_frames = (spec.num_frames_with_tail if tailed else spec.num_frames)(pushed)
        padding = num_frames * header.hop_length - pushed
        padded = np.pad(self._remainder, ((0, 0), (0, padding)))
        rest, _ = self._filter.step(padded, self._filtered)
        rest[:, left:] = 0
        # More than a packet is left if the engine has look-ahead. The last one may be full only if
        # it is padded.
        whole = max(left // self._step, ceil_div(rest.shape[1], self._step) - 1) * self._step
        return chain(self._blocks(rest, whole), self._analyzed(rest[:, whole:], rest[:, :0]))

    def _blocks(self, audio: Samples, whole: int) -> Iterator[Block]:
        """Blocks of the first ``whole`` samples."""
        step, lookahead = self._step, self._engine.spec.lookahead
        if self._silence is None and self._engine.threads > 1:
            seconds = seconds_at_once(self._engine.threads, self._header.channels)
            step *= max(1, round(seconds * self._header.sample_rate / step))
        for start in range(0, whole, step):
            end = min(start + step, whole)
            own, ahead = audio[:, start:end], audio[:, end : end + lookahead]
            if self._silence is not None and self._silence.find(own):
                yield Block(self._encoded(own, ahead, NOISE_CODEBOOKS), is_silence=True)
            else:
                yield from self._analyzed(own, ahead)

    def _encoded(self, audio: Samples, ahead: Samples, num_codebooks: int) -> Codes:
        codes, self._state = self._engine.encode_step(
            self._groups.inputs(audio), self._state, num_codebooks, self._groups.inputs(ahead)
        )
        return codes

    def _analyzed(self, audio: Samples, ahead: Samples) -> Iterator[Block]:
        """Blocks of packets, which are analysed in one step; the last one may be shorter."""
        header, hop = self._header, self._header.hop_length
        num_frames, size = audio.shape[1] // hop, header.frames_per_packet
        starts = range(0, num_frames, size)
        if not num_frames:
            groups = header.num_groups(header.channels)
            yield Block(np.zeros((groups, header.num_codes(), 0), np.int64))
        elif not header.variable and not self._searches:
            codes = self._encoded(audio, ahead, header.num_codebooks)
            yield from (Block(codes[:, :, start : start + size]) for start in starts)
        else:
            found, self._state = self._engine.analyze_step(self._groups.inputs(audio), self._state)
            for start in starts:
                end = min(start + size, num_frames)
                yield self._block(
                    audio[:, start * hop : end * hop],
                    found.codes[:, :, start:end],
                    found.errors[:, :, start:end],
                    found.latent[:, start:end],
                )

    def _block(self, audio: Samples, codes: Codes, errors: Errors, latent: Latents) -> Block:
        """What is known of the frames of a packet without the packets before it."""
        steepness = None
        _, weights = levels_and_weights(audio.reshape(len(audio), codes.shape[2], -1))
        if self._header.variable:
            steepness = slopes(errors.transpose(0, 2, 1) * weights[..., None], self._bits)
        if self._pauses is not None and steepness is not None:
            pauses, references = self._pauses.find(audio)
            steepness[pauses] = -np.inf
            steepness[references, 1:] = -np.inf
        kept = latent if self._searches else None  # much memory
        return Block(codes, steepness, kept, weights)


def seconds_at_once(threads: int, channels: int) -> float:
    """Audio of each channel that several threads analyse at once, if so much was pushed.

    It lies in memory: 16 seconds for a thread, all channels together, but 4 of each at least, for
    shorter steps are not divided.

    Example:
        >>> seconds_at_once(threads=2, channels=1), seconds_at_once(threads=2, channels=8)
        (32.0, 8.0)
    """
    return threads * max(16.0 / channels, 4.0)


def as_float32(values: npt.ArrayLike, subject: str, shape: str) -> Samples:
    """An array of finite floats, of any shape, as float32.

    Args:
        values: an array, or what converts to one.
        subject: beginning of the messages, such as ``"audio is"``.
        shape: the shape to give, for the message.

    Raises:
        AudioError: it is no array, or one of another type, or of samples that cannot be coded.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # such as tensors of another device
        raise AudioError(f"{subject} no array: give floats of shape {shape}") from error
    if array.dtype.kind != "f":
        raise AudioError(
            f"{subject} {array.dtype}: give floats in [-1, 1] (16-bit integers / 32768)"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        audio: Samples = array.astype(np.float32, copy=False)
    peak = max(audio.max(initial=0), -audio.min(initial=0))  # NaN if a sample is
    if not np.isfinite(peak):
        raise AudioError("the audio holds NaN or infinite samples: repair it before coding")
    if peak > 1e15:  # float32 still holds the square
        raise AudioError(f"the audio holds samples of {peak:.3g}: scale it so that they are near 1")
    return audio
