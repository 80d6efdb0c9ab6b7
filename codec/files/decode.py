"""`decode` and `decode_file`: ``.codes`` files to arrays and audio files, block by block."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from codec.arguments import check_type, check_whole
from codec.arrays import Samples
from codec.entropy.payload import CHAIN_SECONDS
from codec.errors import CodecError, FormatError
from codec.format.container import MAX_CODEBOOKS, Gap, Packet
from codec.format.reading import StoredStream, most_together, open_codes, read_streams, together
from codec.format.summary import StreamSummary
from codec.format.timeline import PREROLL_SECONDS, Span, Timeline, check_span
from codec.io.audio import FORMATS, Resampler, create_audio
from codec.io.outputs import atomic_output, check_files
from codec.io.pipes import File, FileLike, is_pipe, name_of
from codec.registry import Model, ModelLike, model_for
from codec.session.decoder import StreamDecoder

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1."""


def decode(
    data: bytes, *, model: ModelLike | None = None, codebooks: int | None = None
) -> tuple[Samples, int]:
    """Decode the bytes of a ``.codes`` file to an array.

    Args:
        data: what `encode` returned, or the content of a file.
        model: as in `decode_file`.
        codebooks: as in `decode_file`.

    Returns:
        ``[C, n]`` float32, of as many channels and samples as were encoded, and their sampling
        rate in Hz.

    Raises:
        FormatError: the data is damaged; `decode_file` decodes what is left.
        CodecError: it cannot be decoded at all.

    Example:
        >>> from codec import encode
        >>> audio, sample_rate = decode(encode(np.zeros(44_100), 44_100))
        >>> audio.shape, sample_rate
        ((1, 44100), 44100)
    """
    check_type("data", data, (bytes, bytearray, memoryview), FormatError)
    decoding = FileDecoder(io.BytesIO(data), "the data", model, codebooks)
    blocks = list(decoding.blocks())
    if damage := decoding.summary.damage():
        raise FormatError(
            f"the data is damaged: {damage}; decode the rest with decode_file(io.BytesIO(data), ..)"
        )
    return np.concatenate(blocks, axis=1), decoding.sample_rate


def decode_file(
    source: FileLike,
    target: FileLike,
    *,
    model: ModelLike | None = None,
    codebooks: int | None = None,
    sample_rate: int | Literal["model"] | None = None,
    span: Span = None,
    force: bool = False,
    progress: Progress | None = None,
) -> StreamSummary:
    """Decode a ``.codes`` file to an audio file.

    Lost packets are concealed. If the damage is so heavy that nothing can be decoded, an error is
    raised; otherwise ``damage()`` of the result describes it.

    Args:
        source: path of the stream; ``-`` is standard input; or a binary file object.
        target: path of the audio file, whose suffix says its format; ``-`` is standard output; or a
            binary file object, whose ``name`` may have the suffix. Without one, wav is written. A
            file appears by rename when complete, and nothing goes to a file object before.
        model: the model that the stream names: a loaded one, the name of a packaged one or a model
            folder. None finds it among the packaged models.
        codebooks: decode at most this many codebooks; all if None.
        sample_rate: of the output in Hz, 1,000 to 384,000; ``"model"`` for the model's own, the
            original one if None.
        span: beginning and end of the part to decode, in seconds; None for the beginning or the end
            of the file. What is before is read, and not decoded except for the two seconds before
            the part, which bring the decoder to the state that it has there.
        force: replace an existing target.
        progress: called with the share that is done.

    Returns:
        What was read.

    Raises:
        CodecError: with one line that names the remedy; nothing is left half-written.

    Example:
        >>> import soundfile
        >>> from codec import encode_file
        >>> soundfile.write("speech.wav", [0.0] * 24_000, 24_000)
        >>> _ = encode_file("speech.wav", "speech.codes")
        >>> decode_file("speech.codes", "decoded.wav").damage() is None
        True
        >>> soundfile.info("decoded.wav").frames
        24000
        >>> _ = decode_file("speech.codes", "part.wav", span=(0.25, 0.75))
        >>> soundfile.info("part.wav").frames
        12000
    """
    source, target = check_files(source, target)
    with open_codes(source) as file:
        decoding = FileDecoder(file, name_of(source), model, codebooks, sample_rate, span)
        write_audio(decoding, target, format_of(target), force=force, progress=progress)
    return decoding.summary


def format_of(target: File) -> str:
    """The format of an audio file, as a suffix: that of its name, wav where it has none."""
    if isinstance(target, Path):
        return ".wav" if is_pipe(target) else target.suffix.lower()
    name = getattr(target, "name", "")
    suffix = Path(name).suffix.lower() if isinstance(name, str) else ""
    return suffix if suffix in FORMATS else ".wav"


def write_audio(
    decoding: FileDecoder,
    target: File,
    suffix: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write all that ``decoding`` gives to an audio file of the format ``suffix``."""
    facts = decoding.sample_rate, decoding.header.channels
    with (
        atomic_output(target, force=force, seekable=True) as out,
        create_audio(out, suffix, *facts) as writer,
    ):
        for samples in decoding.blocks(progress):
            writer.write(samples)


class FileDecoder:
    """The audio of a file of one or several streams, or a part of it.

    Args:
        file: the open file.
        name: what it is called in messages.
        model: as in `decode_file`.
        codebooks: as in `decode_file`.
        sample_rate: as in `decode_file`.
        span: as in `decode_file`.

    Attributes:
        header: header of the first stream.
        summary: counts what is read.
        sample_rate: sampling rate of the output.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        model: ModelLike | None = None,
        codebooks: int | None = None,
        sample_rate: int | Literal["model"] | None = None,
        span: Span = None,
    ) -> None:
        self._start, end = check_span(span)
        wants_model_rate = isinstance(sample_rate, str) and sample_rate == "model"
        if sample_rate is not None and not wants_model_rate:
            sample_rate = check_whole("sample_rate", sample_rate, 1_000, 384_000)
        if codebooks is not None:
            codebooks = check_whole("codebooks", codebooks, 1, MAX_CODEBOOKS)
        self._file, self._name, self._codebooks = file, name, codebooks
        self._streams = read_streams(file)
        self._first = next(self._streams)
        self.header, self.summary = self._first.header, self._first.summary
        if wants_model_rate:
            sample_rate = self.header.sample_rate
        self.sample_rate = int(sample_rate or self.header.original_sample_rate)
        self._model = model_for(self.header, model)
        self._begin = round(self._start * self.sample_rate)
        self._end = None if end is None else round(end * self.sample_rate)
        self._decoder = self._open(self._first)  # fails before anything is written

    def blocks(self, progress: Progress | None = None) -> Iterator[Samples]:
        """Samples ``[C, n]`` as they are decoded; called once.

        Raises:
            FormatError: the file is too damaged, or a stream has another number of channels.
            CodecError: the file ends before the part.
        """
        size, found = 0, not self._start
        with suppress(AttributeError, OSError):  # of some files the size is unknown
            size = os.fstat(self._file.fileno()).st_size
        for stream in chain([self._first], self._streams):
            if stream.header.channels != self.header.channels:
                raise FormatError(
                    f"{self._name} has a stream of {stream.header.channels} channels after one of "
                    f"{self.header.channels}: decode them apart"
                )
            is_first = stream is self._first
            num_bytes = 0 if is_first else self.summary.num_bytes  # of the streams before
            decoder = self._decoder if is_first else self._open(stream)
            for samples in decoder.blocks():
                found = found or samples.shape[1] > 0
                yield samples
                if progress is not None and size:
                    progress(min(1.0, (num_bytes + stream.summary.num_bytes) / size))
            stream.read_on()
            self._begin = max(0, self._begin - decoder.num_samples)
            if self._end is not None:
                self._end = max(0, self._end - decoder.num_samples)
            if not is_first:
                self.summary.append(stream.summary)
        if not found:
            raise CodecError(
                f"{self._name} ends before {self._start:g} seconds: give an earlier start"
            )

    def _open(self, stream: StoredStream) -> _PartDecoder:
        timeline = Timeline(stream.header, self.sample_rate)
        return _PartDecoder(stream, self._model, self._codebooks, timeline, self._begin, self._end)


class _PartDecoder:
    """A part of a stored stream, or all of it, to samples at the rate of the output.

    Args:
        stream: the stream, of which nothing has been read.
        model: its model.
        codebooks: decode at most this many codebooks.
        timeline: that of the stream at the sampling rate of the output.
        first: first sample of the part at that rate.
        last: the sample after its last one; the end of the stream if None.
    """

    def __init__(
        self,
        stream: StoredStream,
        model: Model,
        codebooks: int | None,
        timeline: Timeline,
        first: int,
        last: int | None,
    ) -> None:
        header = stream.header
        self._stream, self._timeline = stream, timeline
        self._first, self._last = first, last
        # After a start in a chain of packets it takes up to a second to find one that begins anew.
        preroll = PREROLL_SECONDS + CHAIN_SECONDS * header.chained
        # What is to be skipped is decoded like all else, and dropped at the rate of the output.
        self._part = timeline.part(first, last, preroll)
        self._skip = self._part.skip
        self._next = 0  # index of the next packet
        at_model_rate = replace(header, skip=0, original_sample_rate=header.sample_rate)
        self._decoder = StreamDecoder(at_model_rate, model, codebooks=codebooks)
        self._resampler = Resampler(header.sample_rate, timeline.rate, header.channels)
        # A part of a longer stream may hold more than its samples, at its end too.
        self._most_held = timeline.rate if header.format > 1 else 0
        self._held: Samples = np.zeros((header.channels, 0), np.float32)
        self._num_given = 0

    @property
    def num_samples(self) -> int:
        """Length of the whole stream at the rate of the output, once it has been read."""
        summary = self._stream.summary
        if summary.num_samples is None:
            return round(summary.duration_seconds * self._timeline.rate)
        return self._timeline.length(summary.num_samples)

    def blocks(self) -> Iterator[Samples]:
        """Samples ``[C, n]`` as they are decoded."""
        for batch in self._stream.batches:
            for item in together(self._needed(batch), most_together(self._stream.header)):
                if isinstance(item, Gap):
                    for _ in range(item.num_packets):
                        yield from self._resampled(self._decoder.lost())
                else:
                    packets = [self._with_all_samples(packet) for packet in item]
                    for samples in self._decoder.push_each(packets):
                        yield from self._resampled(samples)
            if self._is_enough():
                break
        told = self._stream.summary.num_samples
        if told is None and not self._is_enough():
            yield from self._resampled(self._decoder.finish())
        decoded = self._timeline.output_length(self._decoder.num_emitted)
        rest = np.concatenate((self._held, self._given(self._resampler.finish(decoded))), axis=1)
        ends = [] if self._last is None else [self._last]
        if told is not None:
            ends.append(self.num_samples)
        wanted = min(ends) - self._first - self._num_given if ends else rest.shape[1]
        yield rest[:, : max(0, wanted)]

    def _needed(self, items: Sequence[Packet | Gap]) -> Iterator[Packet | Gap]:
        """Those of the next packets and gaps that the part needs."""
        for item in items:
            if self._is_enough():
                return
            number = self._next
            self._next += item.num_packets if isinstance(item, Gap) else 1
            if self._next <= self._part.first_packet:
                continue
            if isinstance(item, Gap) and number < self._part.first_packet:
                item = replace(item, num_packets=self._next - self._part.first_packet)
            yield item

    def _is_enough(self) -> bool:
        num_frames = self._next * self._stream.header.frames_per_packet
        return self._part.num_frames is not None and num_frames >= self._part.num_frames

    def _with_all_samples(self, packet: Packet) -> Packet:
        """The last packet with the number of all samples to decode, at the model's rate."""
        if packet.num_samples is None:
            return packet
        header, num_frames = self._stream.header, self._stream.summary.num_frames
        decoded = self._timeline.decoded_length(packet.num_samples, num_frames)
        before = self._part.first_packet * header.frames_per_packet * header.hop_length
        return replace(packet, num_samples=max(0, decoded - before))

    def _resampled(self, samples: Samples) -> Iterator[Samples]:
        # In pieces: a long packet of many channels at a high rate is large.
        step = self._stream.header.sample_rate
        for start in range(0, samples.shape[1], step):
            piece = self._given(self._resampler.push(samples[:, start : start + step]))
            held = np.concatenate((self._held, piece), axis=1)
            given = held[:, : max(0, held.shape[1] - self._most_held)]
            self._held = held[:, given.shape[1] :]
            if self._last is not None:
                given = given[:, : max(0, self._last - self._first - self._num_given)]
            self._num_given += given.shape[1]
            yield given

    def _given(self, samples: Samples) -> Samples:
        """Without what is to be skipped."""
        dropped = min(self._skip, samples.shape[1])
        self._skip -= dropped
        return samples[:, dropped:]
