"""`StreamDecoder`: packets to audio as they arrive; lost ones are recovered or concealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from codec.activity.noise import ComfortNoise
from codec.activity.pauses import fill_pauses
from codec.arguments import check_type, check_whole
from codec.arrays import Codes, Samples
from codec.engines.base import State
from codec.engines.groups import ChannelGroups
from codec.entropy.payload import PayloadDecoder
from codec.errors import FormatError, StreamFinishedError
from codec.format.container import MAX_CODEBOOKS, Coding, Header, Packet
from codec.format.reading import TOGETHER_SECONDS
from codec.format.timeline import Timeline
from codec.registry import ModelLike, model_for
from codec.session.concealment import Concealment


class StreamDecoder:
    """Decodes packets to audio as they arrive.

    Exactly as many samples as were encoded have been given out when the last packet was pushed, or
    `finish` was called.

    Args:
        header: header of the stream.
        model: the model that the header names: a loaded model, an engine, a `Codec`, the name of a
            packaged model or a model folder. None finds it among the packaged models.
        codebooks: most codebooks to decode; all of the stream if None.

    Attributes:
        header: header of the stream.
        num_emitted: number of samples given out so far, per channel.
        num_recovered: number of lost packets whose frame came with a later one.
        num_concealed: number of packets that were concealed: those that were lost, and those that
            depend on them in a stream with inter-packet prediction.
        num_silent: number of packets that were taken for silence that was not sent.

    Raises:
        ModelError: the stream was made with another model, or with one that is not packaged.
        ConfigError: ``codebooks`` is less than 1.

    Example:
        >>> import numpy as np
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> packets = encoder.push(np.zeros((1, 1000), np.float32)) + encoder.finish()
        >>> decoder = StreamDecoder(encoder.header, codebooks=6)
        >>> [decoder.push(packet).shape for packet in packets]
        [(1, 180), (1, 480), (1, 340)]
    """

    def __init__(
        self, header: Header, model: ModelLike | None = None, *, codebooks: int | None = None
    ) -> None:
        check_type("header", header, Header, FormatError)
        if header.skip:
            raise FormatError("the stream is a cut of another one: decode it with decode_file")
        loaded = model_for(header, model)
        self._engine, spec = loaded.engine, loaded.spec
        self.header = header
        self.num_emitted = 0
        context = loaded.context if header.context else None
        self._payloads = PayloadDecoder(header, context, threads=self._engine.threads)
        if codebooks is not None:
            codebooks = check_whole("codebooks", codebooks, 1, MAX_CODEBOOKS)
        self._num_codes = spec.num_codes(codebooks)
        self._groups = ChannelGroups(spec, header.channels, header.channels_coded_together)
        self._parts = _parts(header)
        together = spec.channels_coded_together
        self._states: list[State] = [
            self._engine.init_decoder(together * (part.stop - part.start)) for part in self._parts
        ]
        self.num_recovered = self.num_concealed = self.num_silent = 0
        self._concealment = Concealment(header.sample_rate)
        self._noise: ComfortNoise | None = None  # while the sender is silent
        self._skip = spec.delay  # samples that come out before the first one of the signal
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
        nothing = np.zeros((self.header.channels, 0), np.float32)
        return np.concatenate((nothing, *self.push_each(packets)), axis=1)

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
        found = zip(packets, self._payloads.decode(packets), strict=True)
        for run in _runs(found, together=self._engine.threads > 1):
            self._check_running()
            packet, first = run[0]
            if packet.num_samples is not None:
                self._total = Timeline(header).model_length(packet.num_samples)
            if packet.num_frames:
                self._noise = None
                if packet.coding == Coding.COMFORT_NOISE:
                    noise = self._payloads.decode_noise(packet)
                    self._noise = ComfortNoise(noise, header.num_silent)
                if first is None:  # it needs a packet that was lost
                    pieces.append(self._concealed(packet.num_frames))
                else:
                    pieces += self._step([codes for _, codes in run if codes is not None])
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
        pieces = [np.zeros((self.header.channels, 0), np.float32)]
        for age in range(ahead + num_packets, ahead, -1):
            codes = None if later is None else self._payloads.decode_earlier(later, age)
            if codes is not None:
                self.num_recovered += 1
                self._noise = None
            elif self._noise is not None and not self._noise.is_over:
                self.num_silent += 1
                codes = self._noise.next()
            if codes is None:
                pieces.append(self._concealed(self.header.frames_per_packet))
            else:
                pieces += self._step([codes])
        return np.concatenate(pieces, axis=1)

    def finish(self) -> Samples:
        """Give out what is still inside the decoder.

        Call it only if the last packet of a stream is lost: pushing that packet finishes the
        decoder.

        Raises:
            StreamFinishedError: the last packet was pushed, or `finish` was called before.
        """
        self._check_running()
        self._finished = True
        # Not faded: after a loss the gain stays where it is, for nothing follows.
        rest = self._groups.outputs([self._engine.flush_step(state) for state in self._states])
        return self._emit(rest[:, : self._engine.spec.delay] * np.float32(self._concealment.gain))

    @property
    def is_silent(self) -> bool:
        """Whether packets that do not come now are silence that was not sent."""
        return self._noise is not None and not self._noise.is_over

    def _concealed(self, num_frames: int) -> Samples:
        """Audio in place of the next frames."""
        self.num_concealed += 1
        audio = self._stepped(lambda _, state: self._engine.conceal_step(num_frames, state))
        return self._emit(self._concealment.fade_out(audio))

    def _step(self, packets: Sequence[Codes]) -> Iterator[Samples]:
        """Audio of the next packets, of each apart, from one step."""
        if self.header.pauses:
            packets = [fill_pauses(codes) for codes in packets]
        codes = packets[0] if len(packets) == 1 else np.concatenate(packets, axis=2)
        kept = codes[:, : self._num_codes]
        audio = self._stepped(lambda part, state: self._engine.decode_step(kept[part], state))
        start = 0
        for each in packets:
            end = start + each.shape[2] * self.header.hop_length
            yield self._emit(self._concealment.fade_in(audio[:, start:end]))
            start = end

    def _stepped(self, step: Callable[[slice, State], tuple[Samples, State]]) -> Samples:
        """Audio of a step that is taken for one part of the channels after the other."""
        found = [step(*each) for each in zip(self._parts, self._states, strict=True)]
        self._states = [state for _, state in found]
        return self._groups.outputs([audio for audio, _ in found])

    def _emit(self, audio: Samples) -> Samples:
        """What is part of the signal: without the delay before it and the padding after it."""
        skipped = min(self._skip, audio.shape[1])
        self._skip -= skipped
        audio = audio[:, skipped:]
        if self._total is not None:
            audio = audio[:, : max(0, self._total - self.num_emitted)]
        self.num_emitted += audio.shape[1]
        return audio

    def _check_running(self) -> None:
        if self._finished:
            raise StreamFinishedError("this stream is finished: start a new StreamDecoder")


Found: TypeAlias = tuple[Packet, Codes | None]


def _runs(found: Iterable[Found], *, together: bool) -> Iterator[list[Found]]:
    """Packets and their codes in runs, each of which is a step: of one packet, or of several.

    Args:
        found: the packets.
        together: whether steps may be of several, where nothing but codes matters of them.
    """
    run: list[Found] = []
    for packet, codes in found:
        joins = together and codes is not None and packet.num_frames > 0
        joins = joins and packet.num_samples is None and packet.coding != Coding.COMFORT_NOISE
        if run and not joins:
            yield run
            run = []
        run.append((packet, codes))
        if not joins:
            yield run
            run = []
    if run:
        yield run


def _parts(header: Header) -> list[slice]:
    """The groups that are decoded in one step, so that a packet takes not more than some memory.

    All of them, unless they are very many, or the packets very long.
    """
    seconds = header.seconds(header.frames_per_packet) * header.channels_coded_together
    most, groups = max(1, int(TOGETHER_SECONDS / seconds)), header.num_groups(header.channels)
    return [slice(start, min(start + most, groups)) for start in range(0, groups, most)]
