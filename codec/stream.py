"""`StreamEncoder` and `StreamDecoder`: live sessions on an engine, which they share unchanged.

A session owns the engine's state and the samples that do not fill a packet yet. It always steps by
exactly one packet, so the bytes do not depend on how the audio was pushed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from codec.arguments import check_flag, check_type, check_whole
from codec.arrays import Codes, Samples
from codec.bitrate import Bitrate, ceil_div, checked_bitrate, format_bitrate
from codec.engines.base import Engine, State
from codec.entropy.allocation import (
    FIRST_RATIO,
    Allocator,
    Booleans,
    Frames,
    RateControl,
    audibility,
    gains,
)
from codec.entropy.context import NO_CODE, Integers
from codec.entropy.pauses import MOST_CODES, PauseDetector, fill_pauses
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.entropy.redundancy import MAX_FRAMES, Redundancy, RedundancyControl
from codec.entropy.search import CANDIDATES, CodeSearch, least_cost
from codec.entropy.silence import (
    NOISE_CODES,
    NOISE_FRAMES,
    REFRESH_SECONDS,
    ComfortNoise,
    SilenceDetector,
)
from codec.errors import AudioError, ConfigError, FormatError, ModelError, StreamFinishedError
from codec.format.container import (
    CODED_FORMAT,
    END_SIZE,
    MAX_CHANNELS,
    PLAIN_FORMAT,
    Coding,
    Header,
    Packet,
)
from codec.format.reading import TOGETHER_SECONDS
from codec.highpass import FilteredFrames
from codec.model_folder import DEFAULT_MODEL
from codec.registry import ModelLike, as_model, model_for

# The last frame is held in place of lost ones, for so long at its full level, and fades out over so
# long; the frame after a loss fades in over so long. Of what was tried at 10 % loss (the same with
# fewer codebooks, extrapolated latents, periods of the waveform, the codes that a context model
# draws or expects) nothing has a higher PESQ and STOI; expected codes have .1 more PLCMOS and cost
# a step of the context model. Holding 0.8 of the latent would bring .05 of PESQ, and the mean with
# the next frame's latent, for receivers that wait for it, .1 to .2. But graphs take codes.
HOLD_SECONDS, FADE_SECONDS, FADE_IN_SECONDS = 0.02, 0.1, 0.02

PACKET_COST, CHAINED_COST = 1.0, 0.25
"""Bytes that a payload of a variable stream takes beside its codes: its end, the numbers of codes,
and, if it is not chained, that the context model remembers nothing. Means over speech."""


LOUDEST = 1e15
"""Largest sample, the square of which float32 still holds."""


class _Analysis(NamedTuple):
    """What a variable stream, or a search, needs to know of some frames.

    Attributes:
        frames: for the allocator.
        silent: ``[C, T]``, whether they have no codes at all.
        latent: ``[C, T, D]``.
        audible: ``[C, T]``, how far errors are heard.
    """

    frames: Frames
    silent: Booleans
    latent: npt.NDArray[np.float32]
    audible: npt.NDArray[np.floating]


class _Analyzed(NamedTuple):
    """Frames of a packet that is not written yet.

    Attributes:
        codes: ``[C, K, T]``.
        analysis: None where all of the codes are sent as they are.
    """

    codes: Codes
    analysis: _Analysis | None = None


class StreamEncoder:
    """Encodes audio that arrives in pieces to packets.

    Args:
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        bitrate: target in bits per second and channel; the model's highest if None.
        channels: number of channels, each coded on its own.
        frames_per_packet: 1 for calls, more for files (a packet costs 8 bytes of overhead).
        original_sample_rate: sampling rate before the audio was resampled to the model's; None if
            it was not.
        entropy_coding: whether packets are made smaller, without a change of the audio, if the
            model has a context model.
        chained: whether packets may depend on those before them, which makes short packets much
            smaller. After a loss the decoder then waits for the next packet that does not, which
            comes within a second.
        variable: whether each frame gets as many codes as it needs, so that ``bitrate`` is the mean
            of all bytes, those of ``overhead`` included. Otherwise all frames have the same number,
            and ``bitrate`` is what they would take without entropy coding.
        allocator: chooses the numbers of codes of a variable stream; a `RateControl` with
            ``bitrate`` as its target if None.
        wait: number of packets that a variable stream waits for before it writes one, so that the
            bits are shared among all that is known; live streams do not wait.
        effort: 0 to 3; above 0 a search finds better codes for the same bitrate (`CodeSearch`).
        pauses: whether pauses of a variable stream take next to no bits; only long packets have
            them (`codec.entropy.pauses`).
        segments: number of parts of a packet that are entropy-coded side by side. Few long packets
            decode faster with several, and take up to 1 % more bytes.
        redundancy: what packets also carry of earlier frames, against losses; needs packets of one
            frame, not chained, and without pauses and segments. Start with ``Redundancy(0, 0)`` to
            add some later.
        dtx: whether silence is left out (discontinuous transmission): every 0.4 s a packet of
            comfort noise describes it, and `push` returns nothing between them. Packets must be
            such that they could carry redundancy. `Packet.sequence` counts what is left out.
        overhead: bytes that a packet of a variable stream costs beside its payload, as what carries
            it says: with RTP, UDP and IP about 41. By default ``bitrate`` is that of the payloads
            alone. ``"file"`` counts all bytes of a ``.codes`` file.

    Attributes:
        header: for the decoder, which needs it once, before the packets.

    Raises:
        ConfigError: the bitrate is out of the model's range, or less than a variable stream takes;
            the model has no codes or none to search; the overhead is negative; or the packets are
            such that they cannot carry redundancy, or leave out silence.
        FormatError: more channels or frames than a packet can hold.
        ModelError: the model was never saved, so a stream could not name it; or it has no context
            model, which chained and variable streams need.

    Example:
        >>> import numpy as np
        >>> encoder = StreamEncoder(bitrate=6_000)
        >>> packets = encoder.push(np.zeros((1, 1000), np.float32)) + encoder.finish()
        >>> [packet.num_frames for packet in packets]
        [1, 1, 1]
    """

    def __init__(
        self,
        model: ModelLike = DEFAULT_MODEL,
        *,
        bitrate: Bitrate | None = None,
        channels: int = 1,
        frames_per_packet: int = 1,
        original_sample_rate: int | None = None,
        entropy_coding: bool = True,
        chained: bool = False,
        variable: bool = False,
        allocator: Allocator | None = None,
        wait: int = 0,
        effort: int = 0,
        pauses: bool = False,
        segments: int = 1,
        redundancy: Redundancy | None = None,
        dtx: bool = False,
        overhead: int | Literal["file"] = 0,
    ) -> None:
        channels = check_whole("channels", channels, 1, MAX_CHANNELS, FormatError)
        frames = check_whole("frames_per_packet", frames_per_packet, 1, 0xFFFF, FormatError)
        wait = check_whole("wait", wait, 0, 2**31)
        entropy_coding = check_flag("entropy_coding", entropy_coding)
        chained, variable = check_flag("chained", chained), check_flag("variable", variable)
        pauses, dtx = check_flag("pauses", pauses), check_flag("dtx", dtx)
        if allocator is not None:
            check_type("allocator", allocator, Allocator)
        bitrate = None if bitrate is None else checked_bitrate(bitrate)
        loaded = as_model(model)
        self._engine, spec = loaded.engine, loaded.spec
        context = loaded.context if entropy_coding else None
        if (chained or variable) and context is None:
            raise ModelError(
                "chained and variable streams need entropy coding: fit a context model with "
                "aecodec fit-context"
            )
        num_codebooks = spec.codebooks_for(bitrate)
        if not spec.fingerprint:
            raise ModelError("this model has no fingerprint yet: save_codec() and load_codec() it")
        if dtx and (chained or pauses or frames > 1 or segments > 1):
            raise ConfigError(
                "only packets of one frame, not chained, without pauses and segments, leave out "
                "silence: leave frames_per_packet, chained, pauses and segments as they are by "
                "default"
            )
        # Format 1 has no frames after the last sample. Packets of one frame, of calls, keep it for
        # the three bytes that each saves.
        has_tail = spec.tail > 0 and frames_per_packet > 1
        self.header = Header(
            channels=channels,
            num_codebooks=spec.num_codebooks if variable else num_codebooks,
            bits_per_code=spec.bits_per_code,
            frames_per_packet=frames,
            sample_rate=spec.sample_rate,
            original_sample_rate=(
                spec.sample_rate if original_sample_rate is None else original_sample_rate
            ),
            hop_length=spec.hop_length,
            fingerprint=spec.fingerprint,
            context=context.identity if context else b"",
            chained=chained,
            variable=variable,
            segments=segments if context else 1,
            pauses=pauses,
            format=CODED_FORMAT if redundancy is not None or has_tail else PLAIN_FORMAT,
            dtx=dtx,
        )
        self._pauses = PauseDetector(spec.sample_rate, spec.hop_length) if pauses else None
        self._silence = SilenceDetector(spec.sample_rate, spec.hop_length) if dtx else None
        self._refresh = max(1, round(REFRESH_SECONDS * float(spec.frame_rate)))
        self._silent = 0  # frames of silence in a row
        self._noise: deque[Codes] = deque(maxlen=NOISE_FRAMES)  # first codes of the newest frames
        self._past: deque[Codes] = deque(maxlen=MAX_FRAMES)
        self.redundancy = redundancy
        self._payloads = PayloadEncoder(self.header, context)
        self._bitrate = spec.plain_bitrate(num_codebooks) if bitrate is None else bitrate
        self._allocator = allocator if variable else None
        # What a file adds is spent with each packet, what a transport adds lowers the target.
        in_file = isinstance(overhead, str) and overhead == "file"
        if in_file:
            overhead = self.header.head_size
        self._overhead = check_whole("overhead", overhead, 0, 0xFFFF)
        self._spent_overhead = self._overhead if in_file else 0
        self._transport = 0.0 if in_file else self._overhead * self._bits_per_byte
        if variable and allocator is None:
            target = float(self._bitrate) - self._transport
            self._allocator = RateControl(target, float(spec.frame_rate), spec.bits_per_code)
        self._search = _code_search(self._engine, effort)
        self._context, self._wait = context, wait if variable and not dtx else 0
        self._waiting: deque[_Analyzed] = deque()
        self._check_reachable(self._bitrate)
        if in_file:
            self._spent(8 * (self.header.size + END_SIZE), np.zeros((channels, 0, 0), np.int64))
        self._state: State = self._engine.init_encoder(channels)
        self._filter = FilteredFrames(spec.sample_rate, spec.hop_length, channels)
        self._remainder: Samples = np.zeros((channels, 0), np.float32)  # filtered
        self._num_samples = 0
        self._num_packets = 0
        self._finished = False

    @property
    def bitrate(self) -> Bitrate:
        """Target in bits per second and channel; that of a variable stream may be changed.

        Raises:
            ConfigError: on assignment, if it is out of the model's range, or less than the stream
                takes, or the stream is not variable, or has an allocator of its own.
        """
        return self._bitrate

    @bitrate.setter
    def bitrate(self, bitrate: Bitrate) -> None:
        bitrate = checked_bitrate(bitrate)
        self._engine.spec.codebooks_for(bitrate)
        if not isinstance(self._allocator, RateControl):
            raise ConfigError(
                "only a variable stream changes its bitrate: start it with variable=True, and "
                "without an allocator"
            )
        self._check_reachable(bitrate)
        self._allocator.change_target(float(bitrate) - self._transport)
        self._bitrate = bitrate

    @property
    def _bits_per_byte(self) -> float:
        """Bits per second and channel that a byte in each packet takes."""
        header = self.header
        return 8 / header.seconds(header.frames_per_packet) / header.channels

    def _check_reachable(self, bitrate: Bitrate) -> None:
        """Refuse a target that packets exceed which have one code for each frame."""
        if not isinstance(self._allocator, RateControl):
            return
        header = self.header
        codes = FIRST_RATIO * header.payload_size(header.frames_per_packet) / header.num_codebooks
        size = self._overhead + codes + (CHAINED_COST if header.chained else PACKET_COST)
        lowest = ceil(size * self._bits_per_byte)
        if bitrate < lowest:
            raise ConfigError(
                f"bitrate {format_bitrate(bitrate)} cannot be reached: {self._overhead} bytes of "
                f"overhead and a code for each frame take {format_bitrate(lowest)}, give at least "
                "that, or more frames per packet"
            )

    @property
    def redundancy(self) -> Redundancy | None:
        """What packets also carry of earlier frames; may be changed at any time.

        Raises:
            ConfigError: on assignment, if packets of this stream cannot carry any.
        """
        return self._redundancy

    @redundancy.setter
    def redundancy(self, redundancy: Redundancy | None) -> None:
        header = self.header
        if redundancy is not None:
            check_type("redundancy", redundancy, Redundancy)
        self._redundancy, self._earlier = redundancy, None
        if redundancy is None or not redundancy.frames:
            return
        if header.format == PLAIN_FORMAT:
            raise ConfigError(
                "this stream was started without redundancy: start it with Redundancy(0, 0) to "
                "add some later"
            )
        if not header.can_have_earlier:
            raise ConfigError(
                "only packets of one frame, not chained, without pauses and segments, carry "
                "redundancy: leave frames_per_packet, chained, pauses and segments as they are by "
                "default"
            )
        rate = float(self._engine.spec.frame_rate)
        self._earlier = RedundancyControl(redundancy, rate, header.bits_per_code)

    def push(self, samples: npt.ArrayLike) -> list[Packet]:
        """Encode more audio.

        Args:
            samples: ``[C, n]`` floats at the model's rate, nominally in [-1, 1], any n.

        Returns:
            The packets that are full now; often none, and few in silence with ``dtx``.

        Raises:
            AudioError: wrong shape or type, not finite, or far above full scale.
            StreamFinishedError: `finish` was called.
        """
        self._check_running()
        try:
            block = np.asarray(samples)
        except (TypeError, ValueError) as error:
            raise AudioError("samples are no array: give floats of shape [channels, n]") from error
        if block.dtype.kind != "f":
            raise AudioError(
                f"samples are {block.dtype}: give floats in [-1, 1] (16-bit integers / 32768)"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            block = block.astype(np.float32, copy=False)
        if block.ndim != 2 or len(block) != self.header.channels:
            raise AudioError(
                f"samples have shape {list(block.shape)}, "
                f"this stream takes [{self.header.channels}, n]"
            )
        if not np.isfinite(block).all():
            raise AudioError("the audio holds NaN or infinite samples: repair it before coding")
        if (peak := np.abs(block).max(initial=0)) > LOUDEST:
            raise AudioError(
                f"the audio holds samples of {peak:.3g}: scale it so that they are near 1"
            )
        self._num_samples += block.shape[1]
        block = np.concatenate((self._remainder, self._filter.push(block)), axis=1)
        step = self.header.frames_per_packet * self.header.hop_length
        whole = max(0, block.shape[1] - self._engine.spec.lookahead) // step * step
        self._remainder = block[:, whole:].copy()
        return self._packets(block, whole)

    def finish(self, num_samples: int | None = None) -> list[Packet]:
        """Encode what is left, padded to a whole frame, into the last packet.

        If the padding is shorter than the decoder's delay there is one frame more, without which
        the last samples would be extrapolated (except in packets of format 1).

        Args:
            num_samples: length at the original rate, if the audio was resampled.

        Raises:
            AudioError: ``num_samples`` contradicts the number of samples that were pushed.
            StreamFinishedError: `finish` was called before.
        """
        self._check_running()
        if num_samples is None:
            num_samples = self._num_samples
        num_samples = check_whole("num_samples", num_samples, 0, 2**63, AudioError)
        if self.header.model_samples(num_samples) != self._num_samples:
            raise AudioError(
                f"{num_samples} samples at {self.header.original_sample_rate} Hz are "
                f"{self.header.model_samples(num_samples)} at the model's rate, "
                f"but {self._num_samples} were pushed"
            )
        self._finished = True
        left = np.concatenate((self._remainder, self._filter.finish()), axis=1)
        spec = self._engine.spec
        if self.header.format == PLAIN_FORMAT:
            num_frames = spec.num_frames(self._num_samples)
        else:
            num_frames = spec.num_frames_with_tail(self._num_samples)
        padding = num_frames * spec.hop_length - self._num_samples
        rest = np.pad(left, ((0, 0), (0, padding)))
        # More than a packet is left if the engine hears ahead. The last one may be full only if it
        # is padded.
        step = self.header.frames_per_packet * self.header.hop_length
        whole = max(left.shape[1] // step, ceil_div(rest.shape[1], step) - 1) * step
        packets = self._packets(rest, whole)
        self._analyze(rest[:, whole:], rest[:, :0])
        packets += [self._packet() for _ in range(len(self._waiting) - 1)]
        return [*packets, self._packet(num_samples)]

    def _packets(self, block: Samples, whole: int) -> list[Packet]:
        """Full packets of the first ``whole`` samples of a block, and of those that waited."""
        step = self.header.frames_per_packet * self.header.hop_length
        ahead = self._engine.spec.lookahead
        packets = []
        for end in range(step, whole + 1, step):
            own, following = block[:, end - step : end], block[:, end : end + ahead]
            if self._silence is not None and self._silence.find(own):
                packets += self._silent_packets(own, following)
                continue
            self._silent = 0
            self._analyze(own, following)
            if len(self._waiting) > self._wait:
                packets.append(self._packet())
        return packets

    def _silent_packets(self, block: Samples, ahead: Samples) -> list[Packet]:
        """What is sent of a silent frame: a packet of comfort noise now and then, or nothing."""
        codes, self._state = self._engine.encode_step(
            np.ascontiguousarray(block), self._state, NOISE_CODES, ahead
        )
        self._noise.append(codes)
        self._past.clear()  # what was left out needs no redundancy
        sequence = self._num_packets % self.header.sequence_count
        self._num_packets += 1
        self._silent += 1
        if self._silent % self._refresh != 1 % self._refresh:
            return []
        payload = self._payloads.encode_noise(np.concatenate(self._noise, axis=2))
        return [Packet(sequence, 1, payload, coding=Coding.COMFORT_NOISE)]

    def _analyze(self, block: Samples, ahead: Samples) -> None:
        """Encode the frames of the next packet, as far as it does not depend on others."""
        channels, num_frames = len(block), block.shape[1] // self.header.hop_length
        if not num_frames:
            codes = np.zeros((channels, self.header.num_codebooks, 0), np.int64)
            self._waiting.append(_Analyzed(codes))
        elif self._allocator is None and self._search is None:
            codes, self._state = self._engine.encode_step(
                np.ascontiguousarray(block), self._state, self.header.num_codebooks, ahead
            )
            self._waiting.append(_Analyzed(codes))
        else:
            found, self._state = self._engine.analyze_step(np.ascontiguousarray(block), self._state)
            silent = references = np.zeros((channels, num_frames), np.bool_)
            if self._pauses is not None:
                silent, references = self._pauses.find(block)
            prices = np.full(found.errors.shape[1], float(self.header.bits_per_code))
            audible = audibility(block, num_frames)
            worth = gains(found.errors.transpose(0, 2, 1) * audible[..., None], prices)
            frames = Frames(worth, silent | references)
            latent = found.latent if self._search else found.latent[:, :, :0]  # much memory
            more = _Analysis(frames, silent, latent, audible)
            self._waiting.append(_Analyzed(found.codes, more))

    def _packet(self, num_samples: int | None = None) -> Packet:
        """The packet that waited longest."""
        frames = self._waiting.popleft()
        codes = self._codes(frames)
        if self._silence is not None and codes.shape[2]:
            self._noise.append(codes[:, :NOISE_CODES, -1:])
        payload, coding, redundant_bits = self._payload(codes)
        sequence = self._num_packets % self.header.sequence_count
        self._num_packets += 1
        self._spent(8 * (self._spent_overhead + len(payload)) - round(redundant_bits), codes)
        return Packet(sequence, codes.shape[2], payload, num_samples, coding)

    def _spent(self, bits: int, codes: Codes) -> None:
        if self._allocator is not None:
            self._allocator.spent(bits, (codes >= 0).sum(axis=1))

    def _payload(self, codes: Codes) -> tuple[bytes, Coding | None, float]:
        """The payload of codes ``[C, K, T]``, how it is written, and the bits of earlier frames."""
        past = list(self._past)
        if codes.shape[2] == 1:
            self._past.append(codes)
        if self._earlier is not None and codes.shape[2] == 1:
            earlier = self._earlier.choose(past)
            if earlier.size:
                payload, coding, bits = self._payloads.encode_with_earlier(codes, earlier)
                self._earlier.spent(bits, earlier)
                return payload, coding, bits
        return *self._payloads.encode(codes), 0.0

    def _codes(self, frames: _Analyzed) -> Codes:
        """Codes of the next frames, of all or of variable numbers of codebooks."""
        codes, more = frames.codes[:, : self.header.num_codebooks], frames.analysis
        if more is None:
            return codes
        counts = np.full(more.silent.shape, self.header.num_codebooks)
        price = 0.0  # of a bit, where fewer bits are of no use
        if self._allocator is not None:
            ahead = [each.analysis.frames for each in self._waiting if each.analysis is not None]
            counts = self._allocator.choose(more.frames, ahead if self._wait else None)
            settled = np.where(more.silent, 0, np.minimum(counts, MOST_CODES))
            counts = np.where(more.frames.paused, settled, counts)
            threshold = self._allocator.threshold
            price = threshold if 0 < threshold < np.inf else 0.0
        if self._search is not None:
            codes = self._searched(more, counts, price)
        present = np.arange(codes.shape[1])[:, None] < counts[:, None]
        return np.where(present, codes, NO_CODE)

    def _searched(self, more: _Analysis, counts: Integers, price: float) -> Codes:
        """Codes of the least error and price, among several for each frame."""
        assert self._search is not None
        latent = more.latent.reshape(-1, more.latent.shape[-1])
        found, errors = self._search.candidates(latent, counts.reshape(-1))
        candidates = found.reshape(*counts.shape, *found.shape[1:])
        if self._allocator is None or self._context is None:
            return candidates[:, :, 0, : self.header.num_codebooks].transpose(0, 2, 1)
        costs = errors.reshape(candidates.shape[:3]) * more.audible[..., None]
        state, segments = self._payloads.state, self.header.segments
        return least_cost(self._context, candidates, costs, price, state, segments)

    def _check_running(self) -> None:
        if self._finished:
            raise StreamFinishedError("this stream is finished: start a new StreamEncoder")


class StreamDecoder:
    """Decodes packets to audio as they arrive.

    Exactly as many samples as were encoded have been given out when the last packet was pushed, or
    `finish` was called.

    Args:
        model: the model that the header names: an engine, a `Codec`, the name of a packaged model
            or a model folder. None finds it among the packaged models.
        header: header of the stream.
        bitrate: decode at most this many bits per second and channel; all if None.

    Attributes:
        header: header of the stream.
        num_emitted: number of samples given out so far, per channel.
        num_recovered: number of lost packets whose frame came with a later one.
        num_concealed: number of packets that were concealed: those that were lost, and those of a
            chained stream that cannot be decoded without them.
        num_silent: number of packets that were taken for silence that was not sent.

    Raises:
        ModelError: the stream was made with another model, or with one that is not packaged.
        ConfigError: ``bitrate`` is below the model's range.

    Example:
        >>> import numpy as np
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> packets = encoder.push(np.zeros((1, 1000), np.float32)) + encoder.finish()
        >>> decoder = StreamDecoder(None, encoder.header, bitrate=3_000)
        >>> [decoder.push(packet).shape for packet in packets]
        [(1, 180), (1, 480), (1, 340)]
    """

    def __init__(
        self, model: ModelLike | None, header: Header, *, bitrate: Bitrate | None = None
    ) -> None:
        check_type("header", header, Header, FormatError)
        bitrate = None if bitrate is None else checked_bitrate(bitrate)
        if header.skip:
            raise FormatError("the stream is a cut of another one: decode it with decode_file")
        loaded = model_for(header, model)
        self._engine, spec = loaded.engine, loaded.spec
        self.header = header
        self.num_emitted = 0
        context = loaded.context if header.context else None
        self._payloads = PayloadDecoder(header, context)
        self._num_codebooks = header.num_codebooks
        if bitrate is not None and bitrate < spec.plain_bitrate(header.num_codebooks):
            self._num_codebooks = spec.codebooks_for(bitrate)
        self._groups = _channel_groups(header)
        self._states: list[State] = [
            self._engine.init_decoder(group.stop - group.start) for group in self._groups
        ]
        self.num_recovered = self.num_concealed = self.num_silent = 0
        self._noise: ComfortNoise | None = None  # while the sender is silent
        self._noise_frames = 0  # of it, that may be played until it is told again
        self._skip = spec.delay  # samples that come out before the first one of the signal
        self._gain = 1.0
        self._held = 0  # samples concealed in a row
        self._total: int | None = None  # samples in all, known from the last packet
        self._finished = False

    def push(self, packet: Packet) -> Samples:
        """Decode one packet to samples ``[C, n]`` at the model's rate.

        Packets are decoded in the order in which they are given. The caller puts them in sequence
        and reports which are `lost`. After the last packet of a stream nothing is left inside.

        Raises:
            FormatError: the packet does not fit the header.
            StreamFinishedError: the last packet was pushed, or `finish` was called.
        """
        return self.push_all([packet])

    def push_all(self, packets: Sequence[Packet]) -> Samples:
        """Decode packets that follow one another, as `push` does.

        Several long packets that are entropy-coded take much less time together.
        """
        return np.concatenate((self._empty(), *self.push_each(packets)), axis=1)

    def push_each(self, packets: Sequence[Packet]) -> list[Samples]:
        """The samples of `push_all` in pieces, one or two for each packet."""
        self._check_running()
        check_type("packets", packets, (list, tuple), FormatError)
        header = self.header
        for packet in packets:
            check_type("packet", packet, Packet, FormatError)
            if packet.num_frames > header.frames_per_packet:
                raise FormatError(
                    f"a packet of {packet.num_frames} frames does not fit the stream's header, "
                    f"which says {header.frames_per_packet}"
                )
            if (packet.coding is None) != (header.format == 1):
                raise FormatError("the packet is of another format than the stream's header")
        pieces = []
        for packet, codes in zip(packets, self._payloads.decode(packets), strict=True):
            self._check_running()
            if packet.num_samples is not None:
                self._total = header.model_samples(packet.num_samples)
            if packet.num_frames:
                self._noise = None
                if packet.coding == Coding.COMFORT_NOISE:
                    self._begin_silence(packet)
                self.num_concealed += codes is None  # it depends on one that was lost
                pieces.append(self._step(packet.num_frames, codes))
            if packet.num_samples is not None:
                pieces.append(self.finish())
        return pieces

    def lost(self, num_packets: int = 1, later: Packet | None = None, ahead: int = 0) -> Samples:
        """Conceal packets that did not arrive; the concealed audio fades out.

        After a packet of comfort noise they are silence that was not sent, and nothing is lost:
        the noise is played on, for a second at most.

        Args:
            num_packets: number of consecutive packets; each is as long as the header says.
            later: a packet after them that has arrived already. Frames whose first codes it
                carries (`Redundancy`) are decoded from these and not concealed. Its own frame is
                not played: it is pushed when it is its turn.
            ahead: number of packets between the lost ones and ``later``.

        Returns:
            Samples ``[C, n]`` for the time of the lost packets. `num_recovered`, `num_silent` and
            `num_concealed` count what they were made of.

        Raises:
            FormatError: ``num_packets`` is negative, or ``later`` does not fit the header.
            StreamFinishedError: the last packet was pushed, or `finish` was called.
        """
        self._check_running()
        num_packets = check_whole("num_packets", num_packets, 0, 2**31, FormatError)
        ahead = check_whole("ahead", ahead, 0, 2**31, FormatError)
        if later is not None:
            check_type("later", later, Packet, FormatError)
        if num_packets:
            self._payloads.lost()
        pieces = [self._empty()]
        for age in range(ahead + num_packets, ahead, -1):
            codes = None if later is None else self._payloads.decode_earlier(later, age)
            if codes is not None:
                self.num_recovered += 1
                self._noise = None
            elif self.is_silent and self._noise is not None:
                self.num_silent += 1
                self._noise_frames -= 1
                codes = self._noise.next()
            else:
                self.num_concealed += 1
            pieces.append(self._step(self.header.frames_per_packet, codes))
        return np.concatenate(pieces, axis=1)

    def finish(self) -> Samples:
        """Give out what is still inside the decoder.

        Needed only if the last packet of a stream is lost: that packet finishes by itself.

        Raises:
            StreamFinishedError: the last packet was pushed, or `finish` was called before.
        """
        self._check_running()
        self._finished = True
        # Not faded: after a loss the gain stays where it is, for nothing follows.
        rest = np.concatenate([self._engine.flush_step(state) for state in self._states])
        return self._emit(rest[:, : self._engine.spec.delay] * np.float32(self._gain))

    @property
    def is_silent(self) -> bool:
        """Whether packets that do not come now are silence that was not sent."""
        return self._noise is not None and self._noise_frames > 0

    def _begin_silence(self, packet: Packet) -> None:
        self._noise = ComfortNoise(self._payloads.decode_noise(packet))
        self._noise.next()  # the packet's own frame, which is decoded as any other
        self._noise_frames = self.header.num_silent

    def _step(self, num_frames: int, codes: Codes | None) -> Samples:
        """Audio of the next frames; concealed without codes."""
        engine = self._engine
        if codes is None:
            audio = self._stepped(lambda _, state: engine.conceal_step(num_frames, state))
            return self._emit(self._faded_out(audio))
        kept = fill_pauses(codes) if self.header.pauses else codes
        kept = kept[:, : self._num_codebooks]
        audio = self._stepped(lambda group, state: engine.decode_step(kept[group], state))
        self._held = 0
        return self._emit(self._faded_in(audio))

    def _stepped(self, step: Callable[[slice, State], tuple[Samples, State]]) -> Samples:
        """Audio of a step that each group of channels takes."""
        found = [step(*each) for each in zip(self._groups, self._states, strict=True)]
        self._states = [state for _, state in found]
        return np.concatenate([audio for audio, _ in found])

    def _faded_out(self, audio: Samples) -> Samples:
        """Concealed audio, which fades from the present gain to 0."""
        seconds = (self._held + np.arange(1, audio.shape[1] + 1)) / self.header.sample_rate
        self._held += audio.shape[1]
        return self._amplified(audio, 1 - (seconds - HOLD_SECONDS) / FADE_SECONDS, 0, self._gain)

    def _faded_in(self, audio: Samples) -> Samples:
        """Decoded audio, which fades from the present gain to 1."""
        if self._gain == 1.0:
            return audio
        seconds = np.arange(1, audio.shape[1] + 1) / self.header.sample_rate
        return self._amplified(audio, self._gain + seconds / FADE_IN_SECONDS, self._gain, 1)

    def _amplified(
        self, audio: Samples, gains: npt.NDArray[np.float64], low: float, high: float
    ) -> Samples:
        """Audio with a gain for each sample, limited to a range."""
        gains = np.clip(gains, low, high)
        self._gain = float(gains[-1]) if len(gains) else self._gain
        faded: Samples = audio * gains.astype(np.float32)
        return faded

    def _emit(self, audio: Samples) -> Samples:
        """What is part of the signal: without the delay before it and the padding after it."""
        skipped = min(self._skip, audio.shape[1])
        self._skip -= skipped
        audio = audio[:, skipped:]
        if self._total is not None:
            audio = audio[:, : max(0, self._total - self.num_emitted)]
        self.num_emitted += audio.shape[1]
        return audio

    def _empty(self) -> Samples:
        return np.zeros((self.header.channels, 0), np.float32)

    def _check_running(self) -> None:
        if self._finished:
            raise StreamFinishedError("this stream is finished: start a new StreamDecoder")


def _channel_groups(header: Header) -> list[slice]:
    """The channels that are decoded in one step, so that a packet takes not more than some memory.

    All of them, unless they are very many, or the packets very long.
    """
    most = max(1, int(TOGETHER_SECONDS / header.seconds(header.frames_per_packet)))
    starts = range(0, header.channels, most)
    return [slice(start, min(start + most, header.channels)) for start in starts]


def _code_search(engine: Engine, effort: int) -> CodeSearch | None:
    effort = check_whole("effort", effort, 0, len(CANDIDATES) - 1)
    if not effort:
        return None
    tables = engine.code_tables
    if tables is None:
        raise ConfigError(f"{engine.spec.name} has no codebooks to search: give effort 0")
    return CodeSearch(tables, CANDIDATES[effort])
