"""`encode_file` and `decode_file`: whole files in constant memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from codec.arguments import check_flag, check_path, check_whole, shown
from codec.arrays import Samples
from codec.bitrate import Bitrate, ceil_div, checked_bitrate
from codec.entropy.payload import CHAIN_SECONDS
from codec.errors import CodecError, FormatError
from codec.format.container import (
    MAX_CHANNELS,
    Gap,
    Packet,
    PacketWriter,
)
from codec.format.parts import PREROLL_SECONDS, check_part, first_packet, frames_until
from codec.format.reading import (
    StoredStream,
    most_together,
    open_codes,
    read_streams,
    together,
)
from codec.format.summary import StreamSummary
from codec.io.audio import AudioReader, Resampler, create_audio, open_audio
from codec.io.outputs import atomic_output, check_apart
from codec.io.pipes import is_pipe, seekable_input
from codec.model_folder import DEFAULT_MODEL
from codec.rate.modes import Average, Constant, Quality, Rate
from codec.rate.quality import search_size
from codec.registry import Model, ModelLike, as_model, model_for
from codec.session.decoder import StreamDecoder
from codec.session.encoder import StreamEncoder
from codec.session.packing import PACKET_SECONDS, Packing

MIN_OUTPUT_RATE, MAX_OUTPUT_RATE = 1_000, 384_000
"""Sampling rates of decoded files."""

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1."""


def encode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: ModelLike = DEFAULT_MODEL,
    bitrate: Bitrate | None = None,
    mono: bool = False,
    frames_per_packet: int | None = None,
    entropy_coding: bool = True,
    variable: bool | None = None,
    quality: float | None = None,
    target_bytes: int | None = None,
    effort: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> StreamSummary:
    """Encode an audio file to a ``.codes`` file.

    Args:
        source: any file that libsndfile reads, or FFmpeg with the extra ``media``; ``-`` is
            standard input.
        target: the stream; ``-`` is standard output. A file appears by rename when complete.
        model: an engine, a `Codec`, the name of a packaged model or a model folder.
        bitrate: target in bits per second and channel; the model's highest if None.
        mono: whether to mix all channels to one.
        frames_per_packet: number of frames per packet; `PACKET_SECONDS` worth if None.
        entropy_coding: whether to make the file smaller, without a change of the audio, if the
            model has a context model.
        variable: whether ``bitrate`` is the mean of all bytes of the file, and each frame gets the
            codes that it needs. If None, so it is where a bitrate is given and the model has a
            context model.
        quality: from 0 to 10, for a variable bitrate without a target: see `Quality`.
        target_bytes: size of the whole file, which has as many bytes or a little fewer. The
            file is encoded several times.
        effort: 0 to 3, see `StreamEncoder`.
        force: replace an existing target.
        progress: called with the share that is done.

    Returns:
        What was written.

    Raises:
        CodecError: with one line that names the remedy; nothing is left half-written.

    Example:
        >>> import soundfile
        >>> soundfile.write("talk.wav", [0.0] * 24_000, 24_000)
        >>> summary = encode_file("talk.wav", "talk.codes", bitrate=3_000)
        >>> summary.num_frames, summary.num_bytes < 375  # silence takes less than 3 kbit/s
        (51, True)
    """
    source, target = check_path("source", source), check_path("target", target)
    if frames_per_packet is not None:
        frames_per_packet = check_whole("frames_per_packet", frames_per_packet, 1, 0xFFFF)
    if target_bytes is not None:
        target_bytes = check_whole("target_bytes", target_bytes, 1, 2**63)
    bitrate = None if bitrate is None else checked_bitrate(bitrate)
    mono, force = check_flag("mono", mono), check_flag("force", force)
    entropy_coding = check_flag("entropy_coding", entropy_coding)
    if variable is not None:
        variable = check_flag("variable", variable)
    check_apart(source, target)
    with seekable_input(source) as readable, open_audio(readable, mono=mono) as reader:
        if reader.channels > MAX_CHANNELS:
            raise CodecError(
                f"{source} has {reader.channels} channels, a stream holds {MAX_CHANNELS}: "
                "mix down with --mono"
            )
        loaded = as_model(model)
        free = quality is not None or target_bytes is not None
        if free and (bitrate is not None or variable is False or not entropy_coding):
            raise CodecError("a quality or size takes the place of a bitrate: give one of them")
        if quality is not None and target_bytes is not None:
            raise CodecError("give a quality or a size, not both")
        if variable is None:
            coded = entropy_coding and loaded.context is not None
            variable = free or (coded and bitrate is not None)
        seconds = PACKET_SECONDS
        if frames_per_packet is not None:
            seconds = float(frames_per_packet / loaded.spec.frame_rate)
        rate: Rate = Constant(loaded.spec.codebooks_for(bitrate), plain=not entropy_coding)
        if variable and not free:
            rate = Average(loaded.spec.bitrates[-1] if bitrate is None else bitrate)

        def encode(file: BinaryIO, rate: Rate, begin: float) -> StreamSummary:
            encoder = StreamEncoder(
                loaded,
                rate=rate,
                channels=reader.channels,
                packing=Packing.file(seconds, num_samples=reader.num_samples),
                effort=effort,
                original_sample_rate=reader.sample_rate,
            )

            def report(num_samples: int) -> None:
                if progress is not None and reader.num_samples:
                    share = min(1.0, num_samples / reader.num_samples)
                    progress(begin + (1 - begin) * share)

            return _encode(reader, encoder, file, report)

        if target_bytes is not None:
            found = _of_size(reader, target_bytes, encode)
            with found as (file, summary), atomic_output(target, force=force) as out:
                shutil.copyfileobj(file, out)
            return summary
        if quality is not None:
            rate = Quality(quality)
        with atomic_output(target, force=force) as out:
            return encode(out, rate, 0.0)


def _encode(
    reader: AudioReader, encoder: StreamEncoder, file: BinaryIO, report: Callable[[int], None]
) -> StreamSummary:
    """Encode all that ``reader`` gives; ``report`` is called with the number of samples so far."""
    header = encoder.header
    resampler = Resampler(reader.sample_rate, header.sample_rate, reader.channels)
    writer, summary = PacketWriter(file, header), StreamSummary(header)

    def write(packets: list[Packet]) -> None:
        for packet in packets:
            summary.num_bytes += writer.write(packet)
            summary.count(packet)

    num_samples = 0
    for block in reader.blocks():
        num_samples += block.shape[1]
        write(encoder.push(resampler.push(block)))
        report(num_samples)
    write(encoder.push(resampler.finish(header.model_samples(num_samples))))
    write(encoder.finish(num_samples))
    return summary


@contextmanager
def _of_size(
    reader: AudioReader,
    target_bytes: int,
    encode: Callable[[BinaryIO, Rate, float], StreamSummary],
) -> Iterator[tuple[BinaryIO, StreamSummary]]:
    """A temporary file of at most ``target_bytes``, from its beginning, and what it holds."""
    with ExitStack() as stack:
        found: dict[float, tuple[BinaryIO, StreamSummary]] = {}

        def size_at(quality: float) -> int:
            reader.seek(0)
            file = stack.enter_context(tempfile.TemporaryFile())
            # Each pass has a half of what is left of the progress bar.
            summary = encode(file, Quality(quality), 1 - 0.5 ** len(found))
            found[quality] = file, summary
            return summary.num_bytes

        file, summary = found[search_size(target_bytes, size_at)]
        file.seek(0)
        yield file, summary


def decode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: ModelLike | None = None,
    bitrate: Bitrate | None = None,
    sample_rate: int | Literal["model"] | None = None,
    suffix: str | None = None,
    start: float = 0.0,
    end: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> StreamSummary:
    """Decode a ``.codes`` file to an audio file.

    Lost packets are concealed. If the damage is so heavy that nothing can be decoded, an error is
    raised; otherwise ``damage()`` of the result describes it.

    Args:
        source: the stream; ``-`` is standard input.
        target: the audio file; ``-`` is standard output. A file appears by rename when complete.
        model: the model that the stream names: an engine, a `Codec`, the name of a packaged model
            or a model folder. None finds it among the packaged models.
        bitrate: decode at most this many bits per second and channel.
        sample_rate: of the output; ``"model"`` for the model's own, the original one if None.
        suffix: format of the output; that of ``target`` if None, wav for pipes.
        start: seconds from the beginning. What is before is read, and not decoded except for the
            two seconds before ``start``, which bring the decoder to the state that it has there.
        end: seconds from the beginning; to the end of the file if None.
        force: replace an existing target.
        progress: called with the share that is done.

    Returns:
        What was read.

    Raises:
        CodecError: with one line that names the remedy; nothing is left half-written.

    Example:
        >>> import soundfile
        >>> soundfile.write("speech.wav", [0.0] * 24_000, 24_000)
        >>> _ = encode_file("speech.wav", "speech.codes")
        >>> decode_file("speech.codes", "decoded.wav").damage() is None
        True
        >>> soundfile.info("decoded.wav").frames
        24000
        >>> _ = decode_file("speech.codes", "part.wav", start=0.25, end=0.75)
        >>> soundfile.info("part.wav").frames
        12000
    """
    source, target = check_path("source", source), check_path("target", target)
    if sample_rate is not None and not (isinstance(sample_rate, str) and sample_rate == "model"):
        sample_rate = check_whole("sample_rate", sample_rate, MIN_OUTPUT_RATE, MAX_OUTPUT_RATE)
    if suffix is not None and not isinstance(suffix, str):
        raise CodecError(f"suffix is {shown(suffix)}: give one such as '.wav'")
    bitrate = None if bitrate is None else checked_bitrate(bitrate)
    check_apart(source, target)
    start, end = check_part(start, end)
    if suffix is None:
        suffix = ".wav" if is_pipe(target) else target.suffix.lower()
    with open_codes(source) as file:
        streams = read_streams(file)
        first = next(streams)
        header, total = first.header, first.summary
        loaded = model_for(header, model)
        rate = header.sample_rate if sample_rate == "model" else sample_rate
        rate = rate or header.original_sample_rate
        begin, last = round(start * rate), None if end is None else round(end * rate)
        decoding = _Decoding(first, loaded, bitrate, rate, begin, last)  # fails before all writing
        size = os.fstat(file.fileno()).st_size

        def report(summary: StreamSummary) -> None:
            before = 0 if summary is total else total.num_bytes
            if progress is not None and size:
                progress(min(1.0, (before + summary.num_bytes) / size))

        with (
            atomic_output(target, force=force, seekable=True) as out,
            create_audio(out, suffix, rate, header.channels) as writer,
        ):
            found = not start
            for stream in chain([first], streams):
                if stream.header.channels != header.channels:
                    raise FormatError(
                        f"{source} has a stream of {stream.header.channels} channels after one of "
                        f"{header.channels}: decode them apart"
                    )
                if stream is not first:
                    decoding = _Decoding(stream, loaded, bitrate, rate, begin, last)
                for samples in decoding.blocks(report):
                    writer.write(samples)
                    found = found or samples.shape[1] > 0
                stream.read_on()
                begin = max(0, begin - decoding.num_samples)
                last = None if last is None else max(0, last - decoding.num_samples)
                if stream is not first:
                    total.append(stream.summary)
            if not found:
                raise CodecError(f"{source} ends before {start:g} seconds: give an earlier start")
    return total


class _Decoding:
    """A part of a stored stream, or all of it, to samples at the rate of the output.

    Args:
        stream: the stream, of which nothing has been read.
        model: its model.
        bitrate: decode at most this many bits per second and channel.
        rate: sampling rate of the output.
        first: first sample of the part at that rate.
        last: the sample after its last one; the end of the stream if None.
    """

    def __init__(
        self,
        stream: StoredStream,
        model: Model,
        bitrate: Bitrate | None,
        rate: int,
        first: int,
        last: int | None,
    ) -> None:
        header = stream.header
        self._stream, self._rate = stream, rate
        self._first, self._last = first, last
        # What is to be skipped is decoded like all else, and dropped at the rate of the output.
        skip = ceil_div(header.skip * rate, header.original_sample_rate)
        # After a start in a chain of packets it takes up to a second to find one that begins anew.
        preroll = PREROLL_SECONDS + (CHAIN_SECONDS if header.chained else 0)
        self._next = 0  # number of the next packet
        self._begin = first_packet(header, skip + first, rate, preroll) if first else 0
        self._enough = None if last is None else frames_until(header, skip + last, rate)
        before = self._begin * header.frames_per_packet * header.hop_length
        self._samples_before = before
        self._skip = skip + first - before * rate // header.sample_rate
        at_model_rate = replace(header, skip=0, original_sample_rate=header.sample_rate)
        codebooks = None
        if bitrate is not None and bitrate < model.spec.plain_bitrate(header.num_codebooks):
            codebooks = model.spec.codebooks_for(bitrate)
        self._decoder = StreamDecoder(at_model_rate, model, codebooks=codebooks)
        self._resampler = Resampler(header.sample_rate, rate, header.channels)
        # A part of a longer stream may hold more than its samples, at its end too.
        self._most_held = rate if header.format > 1 else 0
        self._held: Samples = np.zeros((header.channels, 0), np.float32)
        self._num_given = 0

    @property
    def num_samples(self) -> int:
        """Length of the whole stream at the rate of the output, once it has been read."""
        summary = self._stream.summary
        if summary.num_samples is None:
            return round(summary.duration_seconds * self._rate)
        return ceil_div(summary.num_samples * self._rate, self._stream.header.original_sample_rate)

    def blocks(self, report: Callable[[StreamSummary], None]) -> Iterator[Samples]:
        """Samples ``[C, n]`` as they are decoded; ``report`` is called from time to time."""
        header, summary = self._stream.header, self._stream.summary
        most = most_together(header)
        for batch in self._stream.batches:
            for item in together(self._needed(batch), most):
                if isinstance(item, Gap):
                    for _ in range(item.num_packets):
                        yield from self._resampled(self._decoder.lost())
                else:
                    packets = [self._with_all_samples(packet) for packet in item]
                    for samples in self._decoder.push_each(packets):
                        yield from self._resampled(samples)
            report(summary)
            if self._is_enough():
                break
        if summary.num_samples is None and not self._is_enough():
            yield from self._resampled(self._decoder.finish())
        decoded = ceil_div(self._decoder.num_emitted * self._rate, header.sample_rate)
        rest = np.concatenate((self._held, self._given(self._resampler.finish(decoded))), axis=1)
        ends = [] if self._last is None else [self._last]
        if summary.num_samples is not None:
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
            if self._next <= self._begin:
                continue
            if isinstance(item, Gap) and number < self._begin:
                item = replace(item, num_packets=self._next - self._begin)
            yield item

    def _is_enough(self) -> bool:
        num_frames = self._next * self._stream.header.frames_per_packet
        return self._enough is not None and num_frames >= self._enough

    def _with_all_samples(self, packet: Packet) -> Packet:
        """The last packet with the number of all samples to decode, at the model's rate."""
        if packet.num_samples is None:
            return packet
        header, num_frames = self._stream.header, self._stream.summary.num_frames
        num_samples = header.model_samples(packet.num_samples + header.skip)
        if header.format > 1 and num_frames * header.hop_length >= num_samples + header.hop_length:
            num_samples = num_frames * header.hop_length
        return replace(packet, num_samples=max(0, num_samples - self._samples_before))

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
