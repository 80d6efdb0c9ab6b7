"""`Analyzer`: the first stage of an encoder, from audio to the frames of packets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from codec.activity.noise import NOISE_CODEBOOKS
from codec.activity.pauses import PauseDetector
from codec.activity.silence import SilenceDetector
from codec.arguments import check_whole
from codec.arrays import Codes, Latents, Samples
from codec.bitrate import ceil_div
from codec.engines.base import Errors, State
from codec.engines.groups import ChannelGroups
from codec.errors import AudioError
from codec.format.container import PLAIN_FORMAT
from codec.format.timeline import Timeline
from codec.highpass import FilteredFrames
from codec.rate.allocation import perceptual_weight, slopes
from codec.rate.block import Block
from codec.session.plan import Plan

LOUDEST = 1e15
"""Largest sample, the square of which float32 still holds."""
THREAD_SECONDS = 16.0
"""Audio that a thread analyses at once, if there are several and so much was pushed: all channels
together, for it lies in memory."""
LEAST_THREAD_SECONDS = 4.0
"""The same of each channel, at least. Shorter steps are not divided."""


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
        self._filter = FilteredFrames(header.sample_rate, header.hop_length, header.channels)
        self._remainder: Samples = np.zeros((header.channels, 0), np.float32)  # filtered
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
        audio = self._checked(samples)
        self.num_samples += audio.shape[1]
        audio = self._filter.push(audio)
        if self._remainder.size:
            audio = np.concatenate((self._remainder, audio), axis=1)
        whole = max(0, audio.shape[1] - self._engine.spec.lookahead) // self._step * self._step
        self._remainder = audio[:, whole:].copy()
        return self._blocks(audio, whole)

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
        left = np.concatenate((self._remainder, self._filter.finish()), axis=1)
        tailed = header.format != PLAIN_FORMAT
        num_frames = (spec.num_frames_with_tail if tailed else spec.num_frames)(pushed)
        padding = num_frames * header.hop_length - pushed
        rest = np.pad(left, ((0, 0), (0, padding)))
        # More than a packet is left if the engine has look-ahead. The last one may be full only if
        # it is padded.
        whole = max(left.shape[1] // self._step, ceil_div(rest.shape[1], self._step) - 1)
        return self._last_blocks(rest, whole * self._step)

    @property
    def _step(self) -> int:
        """Samples of a packet."""
        return self._header.frames_per_packet * self._header.hop_length

    def _checked(self, samples: npt.ArrayLike) -> Samples:
        audio = as_float32(samples, "samples are", "[channels, n]")
        if audio.ndim != 2 or len(audio) != self._header.channels:
            raise AudioError(
                f"samples have shape {list(audio.shape)}, "
                f"this stream takes [{self._header.channels}, n]"
            )
        peak = max(audio.max(initial=0), -audio.min(initial=0))  # NaN if a sample is
        if not np.isfinite(peak):
            raise AudioError("the audio holds NaN or infinite samples: repair it before coding")
        if peak > LOUDEST:
            raise AudioError(
                f"the audio holds samples of {peak:.3g}: scale it so that they are near 1"
            )
        return audio

    def _last_blocks(self, audio: Samples, whole: int) -> Iterator[Block]:
        yield from self._blocks(audio, whole)
        yield from self._analyzed(audio[:, whole:], audio[:, :0])

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
        header, limits = self._header, None
        if self._pauses is not None:
            limits = self._pauses.limits(audio).astype(np.int64)
        weights = perceptual_weight(audio, codes.shape[2])
        steepness = None
        if header.variable:
            steepness = slopes(errors.transpose(0, 2, 1) * weights[..., None], self._bits)
        kept = latent if self._searches else None  # much memory
        return Block(codes, steepness, limits, kept, weights)


def seconds_at_once(threads: int, channels: int) -> float:
    """Audio of each channel that several threads analyse at once.

    Example:
        >>> seconds_at_once(threads=2, channels=1), seconds_at_once(threads=2, channels=8)
        (32.0, 8.0)
    """
    return threads * max(THREAD_SECONDS / channels, LEAST_THREAD_SECONDS)


def as_float32(values: npt.ArrayLike, subject: str, shape: str) -> Samples:
    """An array of floats, of any shape, as float32; what float32 cannot hold becomes infinite.

    Args:
        values: an array, or what converts to one.
        subject: beginning of the messages, such as ``"audio is"``.
        shape: the shape to give, for the message.

    Raises:
        AudioError: it is no array, or one of another type.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # such as tensors of another device
        raise AudioError(f"{subject} no array: give floats of shape {shape}") from error
    if array.dtype.kind != "f":
        raise AudioError(
            f"{subject} {array.dtype}: give floats in [-1, 1] (16-bit integers / 32768)"
        )
    with np.errstate(over="ignore"):
        samples: Samples = array.astype(np.float32, copy=False)
    return samples
