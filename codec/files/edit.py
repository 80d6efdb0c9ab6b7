"""Change streams without decoding them: `cut_file`, `concat_files`, `peel_file`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from codec.arguments import check_whole, shown
from codec.arrays import Codes
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import CodecError, FormatError
from codec.format.container import MAX_CODEBOOKS, Coding, Header, Packet, PacketWriter
from codec.format.reading import StoredStream, open_codes, read_streams
from codec.format.timeline import Span, Timeline, check_span
from codec.io.outputs import atomic_output, check_files
from codec.io.pipes import FileLike, check_file, name_of
from codec.registry import ModelLike, context_for, model_for


def cut_file(
    source: FileLike,
    target: FileLike,
    *,
    span: Span,
    model: ModelLike | None = None,
    force: bool = False,
) -> None:
    """Cut a part out of a file, exact to the sample.

    The part decodes to the samples that the whole file decodes to there. For that it keeps two
    seconds before it, which decoders skip.

    Args:
        source: path of a ``.codes`` file; ``-`` is standard input; or a binary file object.
        target: path of the part; ``-`` is standard output; or a binary file object. A file appears
            by rename when complete, a file object is written as the packets come.
        span: beginning and end in seconds; None for the beginning or the end of the file.
        model: the model that the file names; a packaged one is found by itself. Only entropy-coded
            streams need it.
        force: replace an existing target.

    Raises:
        CodecError: there is nothing in the part, or the file is damaged.

    Example:
        >>> import soundfile
        >>> from codec import decode_file, encode_file
        >>> soundfile.write("talk.wav", [0.0] * 240_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes")
        >>> cut_file("talk.codes", "part.codes", span=(4.5, 6.75))
        >>> _ = decode_file("part.codes", "part.wav")
        >>> soundfile.info("part.wav").frames / 24_000
        2.25
    """
    start, end = check_span(span)
    source, target = check_files(source, target)
    with open_codes(source) as file, atomic_output(target, force=force) as out:
        before, found = 0, False  # samples of the streams that came before
        for stream in read_streams(file):
            rate = stream.header.original_sample_rate
            first = max(0, round(start * rate) - before)
            last = None if end is None else round(end * rate) - before
            if last is None or last > 0:
                found = _cut_stream(stream, first, last, out, model) or found
            _check_whole(name_of(source), stream)
            before += stream.summary.num_samples or 0
        if not found:
            raise CodecError(
                f"{name_of(source)} ends before {start:g} seconds: give an earlier start"
            )


def concat_files(sources: Sequence[FileLike], target: FileLike, *, force: bool = False) -> None:
    """Join files: a ``.codes`` file may hold several streams, one after the other.

    Args:
        sources: ``.codes`` files of the same model, sampling rate and number of channels, each a
            path or a binary file object.
        target: the joined file: a path; ``-`` is standard output; or a binary file object. A file
            appears by rename when complete, a file object is written as the packets come.
        force: replace an existing target.

    Raises:
        CodecError: the files do not belong together, or one is damaged.

    Example:
        >>> import soundfile
        >>> from codec import decode_file, encode_file
        >>> soundfile.write("talk.wav", [0.0] * 24_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes")
        >>> concat_files(["talk.codes", "talk.codes"], "twice.codes")
        >>> _ = decode_file("twice.codes", "twice.wav")
        >>> soundfile.info("twice.wav").frames
        48000
    """
    if isinstance(sources, str | Path | io.IOBase) or not isinstance(sources, Iterable):
        raise CodecError(f"sources is {shown(sources)}: give a list of paths or file objects")
    target = check_file("target", target, "write")
    files = [check_file("source", source, "read") for source in sources]
    names = [name_of(source) for source in files]
    first: Header | None = None
    with atomic_output(target, force=force) as out:
        for source, name in zip(files, names, strict=True):
            check_files(source, target)
            with open_codes(source) as file, _about(name):
                for stream in read_streams(file):
                    first = first or stream.header
                    if _kind(stream.header) != _kind(first):
                        raise CodecError(
                            f"{name} has another model, sampling rate or number of channels than "
                            f"{names[0]}: encode it again in the same way"
                        )
                    _copy(stream, out)
                    _check_whole(name, stream)


def peel_file(
    source: FileLike,
    target: FileLike,
    *,
    codebooks: int,
    model: ModelLike | None = None,
    force: bool = False,
) -> None:
    """Drop the upper codebooks of a file, as if it had been encoded with fewer.

    Args:
        source: path of a ``.codes`` file; ``-`` is standard input; or a binary file object.
        target: path of the smaller file; ``-`` is standard output; or a binary file object. A file
            appears by rename when complete, a file object is written as the packets come.
        codebooks: number of codebooks that are kept: the first ones, or all if there are fewer.
        model: the model that the file names; a packaged one is found by itself. Entropy-coded
            streams need it, and those of format 1 and 2 whose model has several codes of a codebook
            in a frame.
        force: replace an existing target.

    Raises:
        CodecError: the file is damaged, or no codebook would be kept.

    Example:
        >>> import soundfile
        >>> from codec import Constant, encode_file
        >>> soundfile.write("talk.wav", [0.0] * 24_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes", rate=Constant(12))
        >>> peel_file("talk.codes", "small.codes", codebooks=3)
        >>> _ = encode_file("talk.wav", "direct.codes", rate=Constant(3))
        >>> Path("small.codes").read_bytes() == Path("direct.codes").read_bytes()
        True
    """
    codebooks = check_whole("codebooks", codebooks, 1, MAX_CODEBOOKS)
    source, target = check_files(source, target)
    with open_codes(source) as file, atomic_output(target, force=force) as out:
        for stream in read_streams(file):
            kept = stream.header.codebooks[:codebooks]
            if model is not None and stream.header.has_simple_codes:
                # Once all streams were simple, with a codebook for each code of a frame.
                count = model_for(stream.header, model).spec.num_codes(codebooks)
                kept = stream.header.codebooks[:count]
            _write_again(stream, replace(stream.header, codebooks=kept), out, model)
            _check_whole(name_of(source), stream)


def _write_again(
    stream: StoredStream, header: Header, out: BinaryIO, model: ModelLike | None
) -> None:
    """Write a stream with fewer codebooks."""
    _check_complete(stream.header)
    context = context_for(stream.header, model)
    decoder, encoder = PayloadDecoder(stream.header, context), PayloadEncoder(header, context)
    writer = PacketWriter(out, header)
    for packet, codes in _codes_of(stream, decoder):
        payload, coding = encoder.encode(codes[:, : header.num_codes()])
        writer.write(replace(packet, payload=payload, coding=coding))


def _copy(stream: StoredStream, out: BinaryIO) -> None:
    """Write a stream as it is."""
    writer = PacketWriter(out, stream.header)
    for batch in stream.batches:
        for packet in batch:
            if isinstance(packet, Packet):
                writer.write(packet)


def _cut_stream(
    stream: StoredStream, first: int, last: int | None, out: BinaryIO, model: ModelLike | None
) -> bool:
    """Write samples ``first`` to ``last`` of a stream as one of its own; whether there are any."""
    source = stream.header
    _check_complete(source)
    timeline = Timeline(source)
    part = timeline.part(first, last)
    header = replace(source, skip=part.skip, format=2, chained=False)
    context = context_for(source, model)
    decoder, encoder = PayloadDecoder(source, context), PayloadEncoder(header, context)
    needed = part.num_frames
    writer: PacketWriter | None = None
    held: list[Packet] = []
    # Packets that depend on no other are copied as they are.
    packets = _codes_of(stream, decoder) if source.chained else _packets_of(stream)
    for number, (packet, codes) in enumerate(packets):
        if number < part.first_packet:
            continue
        begin = number * source.frames_per_packet
        end = begin + packet.num_frames
        ends = packet.is_last or (needed is not None and end >= needed)
        num_samples = None
        if ends:
            stops = min(each for each in (last, packet.num_samples) if each is not None)
            num_samples = stops - first
            if num_samples <= 0:
                return False
        num_frames = packet.num_frames if needed is None else max(0, min(end, needed) - begin)
        payload, coding = packet.payload, packet.coding or Coding.PLAIN
        if codes is None and (num_frames < packet.num_frames or coding.has_earlier):
            (codes,) = decoder.decode([packet])
        if codes is not None:
            payload, coding_found = encoder.encode(codes[:, :, :num_frames])
            coding = coding_found or Coding.PLAIN
        number_of_part = (number - part.first_packet) % header.sequence_count
        held.append(Packet(number_of_part, num_frames, payload, num_samples, coding))
        # Nothing is written before it is certain that the stream does not end before the part.
        if ends or end * source.hop_length > timeline.model_length(first + source.skip):
            writer = writer or PacketWriter(out, header)
            for each in held:
                writer.write(each)
            held = []
        if ends:
            return True
    return False


def _packets_of(stream: StoredStream) -> Iterator[tuple[Packet, None]]:
    """Packets whose codes are not needed, up to the first damage."""
    for batch in stream.batches:
        for item in batch:
            if not isinstance(item, Packet):
                return
            yield item, None


def _codes_of(stream: StoredStream, decoder: PayloadDecoder) -> Iterator[tuple[Packet, Codes]]:
    """Packets and their codes, up to the first damage."""
    for batch in stream.batches:
        packets = [item for item in batch if isinstance(item, Packet)]
        if len(packets) < len(batch):
            return
        for packet, codes in zip(packets, decoder.decode(packets), strict=True):
            if codes is None:
                return
            yield packet, codes


def _check_complete(header: Header) -> None:
    if header.dtx:
        raise CodecError(
            "the recording of a call with silence that was not sent cannot be changed: decode it "
            "and encode it again"
        )


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Name the file in errors, where it may be one of several."""
    try:
        yield
    except FormatError as error:
        if name in str(error):
            raise
        raise FormatError(f"{name}: {error}") from error


def _kind(header: Header) -> tuple[bytes, int, int]:
    return header.fingerprint, header.original_sample_rate, header.channels


def _check_whole(name: str, stream: StoredStream) -> None:
    if damage := stream.read_on().damage():
        raise FormatError(f"{name} is damaged: {damage}; decode it and encode the rest again")
