"""Change streams without decoding them: `cut_file`, `concat_files`, `peel_file`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from codec.arguments import check_path, shown
from codec.arrays import Codes
from codec.bitrate import Bitrate, checked_bitrate
from codec.entropy.payload import PayloadDecoder, PayloadEncoder
from codec.errors import CodecError, FormatError
from codec.format.container import Coding, Header, Packet, PacketWriter
from codec.format.parts import check_part, first_packet, frames_until
from codec.format.reading import StoredStream, open_codes, read_streams
from codec.io.outputs import atomic_output, check_apart
from codec.registry import ModelLike, context_for


def cut_file(
    source: str | Path,
    target: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    model: ModelLike | None = None,
    force: bool = False,
) -> None:
    """Cut a part out of a file, exact to the sample.

    The part decodes to the samples that the whole file decodes to there. For that it keeps two
    seconds before it, which decoders skip.

    Args:
        source: path of a ``.codes`` file; ``-`` is standard input.
        target: the part; ``-`` is standard output. A file appears by rename when complete.
        start: seconds from the beginning.
        end: seconds from the beginning; to the end of the file if None.
        model: the model that the file names; a packaged one is found by itself. Only entropy-coded
            streams need it.
        force: replace an existing target.

    Raises:
        CodecError: there is nothing between ``start`` and ``end``, or the file is damaged.

    Example:
        >>> import soundfile
        >>> from codec import decode_file, encode_file
        >>> soundfile.write("talk.wav", [0.0] * 240_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes")
        >>> cut_file("talk.codes", "part.codes", start=4.5, end=6.75)
        >>> _ = decode_file("part.codes", "part.wav")
        >>> soundfile.info("part.wav").frames / 24_000
        2.25
    """
    source, target = check_path("source", source), check_path("target", target)
    check_apart(source, target)
    start, end = check_part(start, end)
    with open_codes(source) as file, atomic_output(target, force=force) as out:
        before, found = 0, False  # samples of the streams that came before
        for stream in read_streams(file):
            rate = stream.header.original_sample_rate
            first = max(0, round(start * rate) - before)
            last = None if end is None else round(end * rate) - before
            if last is None or last > 0:
                found = _cut_stream(stream, first, last, out, model) or found
            _check_whole(source, stream)
            before += stream.summary.num_samples or 0
        if not found:
            raise CodecError(f"{source} ends before {start:g} seconds: give an earlier start")


def concat_files(sources: Sequence[str | Path], target: str | Path, *, force: bool = False) -> None:
    """Join files: a ``.codes`` file may hold several streams, one after the other.

    Args:
        sources: paths of ``.codes`` files of the same model, sampling rate and number of channels.
        target: the joined file; ``-`` is standard output. A file appears by rename when complete.
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
    target = check_path("target", target)
    if isinstance(sources, str | Path) or not isinstance(sources, Iterable):
        raise CodecError(f"sources is {shown(sources)}: give a list of paths")
    paths = [check_path("source", source) for source in sources]
    first: Header | None = None
    with atomic_output(target, force=force) as out:
        for source in paths:
            check_apart(source, target)
            with open_codes(source) as file, _about(source):
                for stream in read_streams(file):
                    first = first or stream.header
                    if _kind(stream.header) != _kind(first):
                        raise CodecError(
                            f"{source} has another model, sampling rate or number of channels than "
                            f"{paths[0]}: encode it again in the same way"
                        )
                    _copy(stream, out)
                    _check_whole(source, stream)


def peel_file(
    source: str | Path,
    target: str | Path,
    *,
    bitrate: Bitrate,
    model: ModelLike | None = None,
    force: bool = False,
) -> None:
    """Drop the upper codebooks of a file, as if it had been encoded at a lower bitrate.

    Args:
        source: path of a ``.codes`` file; ``-`` is standard input.
        target: the smaller file; ``-`` is standard output. A file appears by rename when complete.
        bitrate: of the codes that are kept, in bits per second and channel, before entropy coding.
        model: the model that the file names; a packaged one is found by itself. Only entropy-coded
            streams need it.
        force: replace an existing target.

    Raises:
        CodecError: the file is damaged, or the bitrate below what one codebook takes.

    Example:
        >>> import soundfile
        >>> from codec import encode_file
        >>> soundfile.write("talk.wav", [0.0] * 24_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes", variable=False)
        >>> peel_file("talk.codes", "small.codes", bitrate=1_500)
        >>> _ = encode_file("talk.wav", "direct.codes", bitrate=1_500, variable=False)
        >>> Path("small.codes").read_bytes() == Path("direct.codes").read_bytes()
        True
    """
    source, target = check_path("source", source), check_path("target", target)
    bitrate = checked_bitrate(bitrate)
    check_apart(source, target)
    with open_codes(source) as file, atomic_output(target, force=force) as out:
        for stream in read_streams(file):
            header = stream.header
            of_book = header.bitrate / header.channels / header.num_codebooks
            kept = min(header.num_codebooks, int(bitrate / of_book))
            if kept < 1:
                raise CodecError(
                    f"{float(bitrate):g} bit/s hold no codebook of {source}: give at least "
                    f"{float(of_book):g}"
                )
            smaller = replace(header, num_codebooks=kept)
            _write_again(stream, smaller, out, model)
            _check_whole(source, stream)


def _write_again(
    stream: StoredStream, header: Header, out: BinaryIO, model: ModelLike | None
) -> None:
    """Write a stream with fewer codebooks."""
    _check_complete(stream.header)
    context = context_for(stream.header, model)
    decoder, encoder = PayloadDecoder(stream.header, context), PayloadEncoder(header, context)
    writer = PacketWriter(out, header)
    for packet, codes in _codes_of(stream, decoder):
        payload, coding = encoder.encode(codes[:, : header.num_codebooks])
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
    first += source.skip
    last = None if last is None else last + source.skip
    kept = first_packet(source, first, source.original_sample_rate)
    step = source.frames_per_packet
    skipped = first - kept * step * source.hop_length * source.original_sample_rate // (
        source.sample_rate
    )
    header = replace(source, skip=skipped, format=2, chained=False)
    context = context_for(source, model)
    decoder, encoder = PayloadDecoder(source, context), PayloadEncoder(header, context)
    enough = None if last is None else frames_until(source, last, source.original_sample_rate)
    writer: PacketWriter | None = None
    held: list[Packet] = []
    # Packets that depend on no other are copied as they are.
    packets = _codes_of(stream, decoder) if source.chained else _packets_of(stream)
    for number, (packet, codes) in enumerate(packets):
        if number < kept:
            continue
        begin = number * step
        end = begin + packet.num_frames
        total = None if packet.num_samples is None else packet.num_samples + source.skip
        ends = packet.is_last or (enough is not None and end >= enough)
        num_samples = None
        if ends:
            stops = min(each for each in (last, total) if each is not None)
            num_samples = stops - first
            if num_samples <= 0:
                return False
        num_frames = packet.num_frames if enough is None else max(0, min(end, enough) - begin)
        payload, coding = packet.payload, packet.coding or Coding.PLAIN
        if codes is None and (num_frames < packet.num_frames or coding.has_earlier):
            (codes,) = decoder.decode([packet])
        if codes is not None:
            payload, coding_found = encoder.encode(codes[:, :, :num_frames])
            coding = coding_found or Coding.PLAIN
        number_of_part = (number - kept) % header.sequence_count
        held.append(Packet(number_of_part, num_frames, payload, num_samples, coding))
        # Nothing is written before it is certain that the stream does not end before the part.
        if ends or end * source.hop_length > source.model_samples(first):
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
def _about(source: Path) -> Iterator[None]:
    """Name the file in errors, where it may be one of several."""
    try:
        yield
    except FormatError as error:
        if str(source) in str(error):
            raise
        raise FormatError(f"{source}: {error}") from error


def _kind(header: Header) -> tuple[bytes, int, int]:
    return header.fingerprint, header.original_sample_rate, header.channels


def _check_whole(source: Path, stream: StoredStream) -> None:
    if damage := stream.read_on().damage():
        raise FormatError(f"{source} is damaged: {damage}; decode it and encode the rest again")
