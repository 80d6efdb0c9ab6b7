"""What the packets of a file hold, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from codec.arrays import Codes
from codec.entropy.payload import PayloadDecoder
from codec.errors import ModelError
from codec.format.container import Coding, Gap, Packet
from codec.format.reading import open_codes, read_streams, together
from codec.format.timeline import Timeline
from codec.io.pipes import FileLike
from codec.registry import ModelLike, context_for


@dataclass(frozen=True)
class PacketFacts:
    """A packet of a file, or a place where some are missing.

    Attributes:
        seconds: when it begins in the audio of the file; below 0, or before the end of the stream
            before it, if it only brings the decoder of a cut to its state.
        num_frames: number of frames; those that are missing in a gap.
        num_bytes: size in the file; bytes that were skipped in a gap.
        coding: ``"plain"`` or ``"coded"``, followed by ``" with earlier"`` if there are codes of
            earlier frames, ``"chained"``, ``"comfort noise"``, ``"silence"`` that was not sent, or
            ``"missing"``.
        codebooks: mean number of codes of a frame and channel; None if it is unknown because the
            context model is not at hand or an earlier packet is missing.
    """

    seconds: float
    num_frames: int
    num_bytes: int
    coding: str
    codebooks: float | None


def list_packets(source: FileLike, model: ModelLike | None = None) -> Iterator[PacketFacts]:
    """The packets of a file, in their order.

    Args:
        source: path of a ``.codes`` file; ``-`` is standard input; or a binary file object.
        model: the model that the file names; a packaged one is found by itself.

    Raises:
        CodecError: the file cannot be opened, or is no stream.

    Example:
        >>> import soundfile
        >>> from codec import encode_file
        >>> soundfile.write("talk.wav", [0.0] * 60_000, 24_000)
        >>> _ = encode_file("talk.wav", "talk.codes", rate=3_000)
        >>> [(each.seconds, each.num_frames) for each in list_packets("talk.codes")]
        [(0.0, 100), (2.0, 26)]
    """
    with open_codes(source) as file:
        before = 0.0  # seconds of the streams that came before
        for stream in read_streams(file):
            header = stream.header
            timeline, frame = Timeline(header), 0
            decoder: PayloadDecoder | None = None
            with suppress(ModelError):  # without the model, the codes stay unknown
                decoder = PayloadDecoder(header, context_for(header, model))
            for batch in stream.batches:
                for item, codes in _with_codes(batch, decoder):
                    seconds, frames = before + timeline.seconds(frame), timeline.num_frames(item)
                    frame += frames
                    if isinstance(item, Gap):
                        coding = "silence" if item.is_silence else "missing"
                        yield PacketFacts(seconds, frames, item.num_bytes, coding, None)
                    else:
                        books = None
                        if codes is not None and codes.size:
                            books = float((codes >= 0).sum(axis=1).mean())
                        coding = (item.coding or Coding.PLAIN).name.lower().replace("_", " ")
                        yield PacketFacts(seconds, frames, item.size, coding, books)
            before += stream.summary.duration_seconds


def _with_codes(
    items: Sequence[Packet | Gap], decoder: PayloadDecoder | None
) -> Iterator[tuple[Packet | Gap, Codes | None]]:
    """Packets with their codes, if they are known; those between two gaps are decoded together."""
    for item in together(items, len(items)):
        if isinstance(item, Gap):
            yield item, None
            if decoder is not None:
                decoder.lost()
        elif decoder is None:
            yield from ((packet, None) for packet in item)
        else:
            yield from zip(item, decoder.decode(item), strict=True)
