"""`encode_file` and `decode_file`: whole files in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from codec.bitrate import Bitrate, ceil_div
from codec.engines.base import EngineInfo
from codec.engines.names import EngineName
from codec.errors import CodecError
from codec.format.container import MAX_CHANNELS, MAX_PAYLOAD, Gap, Packet, PacketWriter
from codec.format.reading import open_codes, read_batches, read_header
from codec.format.summary import StreamSummary
from codec.io.audio import Resampler, Samples, create_audio, open_audio
from codec.io.outputs import atomic_output, check_apart
from codec.io.pipes import is_pipe, seekable_input
from codec.model_folder import DEFAULT_MODEL
from codec.registry import Model, as_engine, codec_for
from codec.stream import StreamDecoder, StreamEncoder

PACKET_SECONDS = 2.0
"""Length of a packet in files."""

PACKETS_TOGETHER = 32
"""Number of packets that are decoded side by side: a minute of audio in memory."""

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1."""


def encode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: Model = DEFAULT_MODEL,
    bitrate: Bitrate | None = None,
    mono: bool = False,
    frames_per_packet: int | None = None,
    entropy_coding: bool = True,
    variable: bool | None = None,
    engine: EngineName | None = None,
    threads: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> StreamSummary:
    """Encode an audio file to a ``.codes`` file.

    Args:
        source: any file that libsndfile reads; ``-`` is standard input.
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
        engine: which engine loads a model that is named, as in `load_engine`.
        threads: its number of threads, as in `load_engine`.
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
        >>> summary.num_frames, summary.num_bytes
        (50, 435)
    """
    source, target = Path(source), Path(target)
    check_apart(source, target)
    with seekable_input(source) as readable, open_audio(readable, mono=mono) as reader:
        if reader.channels > MAX_CHANNELS:
            raise CodecError(
                f"{source} has {reader.channels} channels, a stream holds {MAX_CHANNELS}: "
                "mix down with --mono"
            )
        loaded = as_engine(model, engine, threads=threads)
        if variable is None:
            variable = entropy_coding and bitrate is not None and loaded.info.context is not None
        if frames_per_packet is None:
            frames_per_packet = packet_length(
                loaded.info, bitrate, reader.channels, variable=variable
            )
        encoder = StreamEncoder(
            loaded,
            bitrate=bitrate,
            channels=reader.channels,
            frames_per_packet=frames_per_packet,
            original_sample_rate=reader.sample_rate,
            entropy_coding=entropy_coding,
            variable=variable,
        )
        header = encoder.header
        resampler = Resampler(reader.sample_rate, header.sample_rate, reader.channels)
        with atomic_output(target, force=force) as file:
            writer = PacketWriter(file, header)
            summary = StreamSummary(header)

            def write(packets: list[Packet]) -> None:
                for packet in packets:
                    summary.num_bytes += writer.write(packet)
                    summary.count(packet)

            num_samples = 0
            for block in reader.blocks():
                num_samples += block.shape[1]
                write(encoder.push(resampler.push(block)))
                if progress is not None and reader.num_samples:
                    progress(min(1.0, num_samples / reader.num_samples))
            write(encoder.push(resampler.finish(header.model_samples(num_samples))))
            write(encoder.finish(num_samples))
    return summary


def decode_file(
    source: str | Path,
    target: str | Path,
    *,
    model: Model | None = None,
    bitrate: Bitrate | None = None,
    sample_rate: int | Literal["model"] | None = None,
    suffix: str | None = None,
    engine: EngineName | None = None,
    threads: int = 1,
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
        engine: which engine loads a model that is named, as in `load_engine`.
        threads: its number of threads, as in `load_engine`.
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
    """
    source, target = Path(source), Path(target)
    check_apart(source, target)
    if suffix is None:
        suffix = ".wav" if is_pipe(target) else target.suffix.lower()
    with open_codes(source) as file:
        header = read_header(file)
        if model is None:
            loaded = codec_for(header, engine, threads=threads)
        else:
            loaded = as_engine(model, engine, threads=threads)
        decoder = StreamDecoder(loaded, header, bitrate=bitrate)
        rate = header.sample_rate if sample_rate == "model" else sample_rate
        rate = rate or header.original_sample_rate
        resampler = Resampler(header.sample_rate, rate, header.channels)
        summary = StreamSummary(header)
        size = os.fstat(file.fileno()).st_size
        with (
            atomic_output(target, force=force, seekable=True) as out,
            create_audio(out, suffix, rate, header.channels) as writer,
        ):

            def write(samples: Samples) -> None:
                # In pieces: a long packet of many channels at a high rate is large.
                for start in range(0, samples.shape[1], header.sample_rate):
                    piece = samples[:, start : start + header.sample_rate]
                    writer.write(resampler.push(piece))

            for batch in read_batches(file, summary):
                for item in _together(batch):
                    if isinstance(item, Gap):
                        for _ in range(item.num_packets):
                            write(decoder.lost())
                    else:
                        write(decoder.push_all(item))
                if progress is not None and size:
                    progress(min(1.0, summary.num_bytes / size))
            if summary.num_samples is None:
                write(decoder.finish())
            num_samples = ceil_div(decoder.num_emitted * rate, header.sample_rate)
            if summary.num_samples is not None:
                claimed = ceil_div(summary.num_samples * rate, header.original_sample_rate)
                num_samples = min(claimed, num_samples)
            writer.write(resampler.finish(num_samples))
    return summary


def _together(items: Sequence[Packet | Gap]) -> Iterator[list[Packet] | Gap]:
    """Packets that follow one another, and the gaps between them."""
    packets: list[Packet] = []
    for item in items:
        if packets and (isinstance(item, Gap) or len(packets) == PACKETS_TOGETHER):
            yield packets
            packets = []
        if isinstance(item, Gap):
            yield item
        else:
            packets.append(item)
    if packets:
        yield packets


def packet_length(
    info: EngineInfo, bitrate: Bitrate | None, channels: int, *, variable: bool = False
) -> int:
    """Frames of about `PACKET_SECONDS`, fewer if that many channels would not fit a packet.

    Example:
        >>> from codec import load_engine
        >>> packet_length(load_engine().info, bitrate=None, channels=1)
        100
    """
    bits = info.codebooks_for(bitrate) * info.bits_per_code
    if variable:
        bits = 8 * (4 * info.num_codebooks + 2)  # the most, see `Header.max_payload`
    longest = (8 * MAX_PAYLOAD - 8) // (channels * bits)
    return max(1, min(int(PACKET_SECONDS * info.frame_rate), longest))
