"""Where the audio of a chunked file (WAV, AIFF, CAF, W64, AU) ends, whatever its header says.

Recorders that crash and programs that write to pipes leave sizes of zero, of all ones, or of an
earlier moment; sizes of 32 bits overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from codec.io.beginnings import file_begins
from codec.io.views import Readable, Searched

# The rest of a file that is too short to be missed, such as padding or an ID3v1 tag, in bytes and
# as a share of a second.
SHORT, SHORT_SHARE = 256, 25
LARGEST_SAMPLE = 32  # bytes in plain audio of up to eight channels: blocks of codecs are larger
TAGS = (b"ID3", b"TAG", b"APETAGEX")
# Chunks that may be cut short at the end of a file.
METADATA = (b"LIST", b"id3 ", b"bext", b"iXML", b"_PMX", b"cue ", b"smpl", b"afsp", b"PEAK")
MAX_CHUNKS = 10_000
# Audio of more bytes than this is divided where lengths have 32 bits.
LONGEST = 2**31 - 2**20


@dataclass(frozen=True)
class Layout:
    """How a format stores chunks.

    Attributes:
        first: place of the first chunk.
        id_size: bytes of a chunk's name.
        size_size: bytes of its length, which follow.
        order: order of these bytes.
        counted: bytes of the name and length that the length includes.
        align: what the place of each chunk is a multiple of.
        data: name of the chunk with the audio.
        preamble: bytes in it before the audio.
        total: place of the length of the whole file; None if there is none.
        uncounted: bytes at the beginning of the file that this length does not include.
    """

    first: int = 12
    id_size: int = 4
    size_size: int = 4
    order: Literal["little", "big"] = "little"
    counted: int = 0
    align: int = 2
    data: bytes = b"data"
    preamble: int = 0
    total: int | None = 4
    uncounted: int = 8

    @property
    def head(self) -> int:
        """Bytes of name and length."""
        return self.id_size + self.size_size


WAV = Layout()
W64 = Layout(first=40, id_size=16, size_size=8, counted=24, align=8, total=16, uncounted=0)
AIFF = Layout(order="big", data=b"SSND", preamble=8)
CAF = Layout(first=8, size_size=8, order="big", align=1, preamble=4, total=None)
BW64 = b"BW64"  # RF64 under another name, which libsndfile does not know
# The first bytes of a file; the place of its type, and the types.
LAYOUTS = (
    (b"RIFF", 8, (b"WAVE",), WAV),
    (b"RIFX", 8, (b"WAVE",), Layout(order="big")),
    (b"RF64", 8, (b"WAVE",), WAV),
    (BW64, 8, (b"WAVE",), WAV),
    (b"riff", 24, (b"wave",), W64),
    (b"FORM", 8, (b"AIFF", b"AIFC"), AIFF),
    (b"caff", 4, (b"\0\1",), CAF),
)
AU = b".snd"


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    begin: int  # of its content
    size: int
    end: int  # where the next chunk begins


def layout_at(data: Searched, begin: int) -> Layout | None:
    """The layout of the chunked file that begins there; None if none does."""
    head = data.at(begin, 32)
    for magic, place, types, layout in LAYOUTS:
        if head.startswith(magic) and head.startswith(types, place):
            return layout
    return None


def chunked_parts(data: Searched, begin: int, layout: Layout) -> tuple[list[Readable], int]:
    """All the chunked files that a file is joined of, and where they end.

    Args:
        data: the file.
        begin: where the first chunked file begins.
        layout: how that one stores chunks.

    Returns:
        The file itself, or views with true lengths.
    """
    parts: list[Readable] = []
    found: Layout | None = layout
    while found is not None:
        views, end = _parts_from(data, begin, found)
        parts += views
        begin, found = end, layout_at(data, end)
    return parts, begin


def _parts_from(data: Searched, begin: int, layout: Layout) -> tuple[list[Readable], int]:
    """The chunked file that begins there, and where it ends."""
    chunks: dict[bytes, _Chunk] = {}
    position = begin + layout.first
    while layout.data not in chunks:
        chunk = _chunk_at(data, begin, position, layout)
        if chunk is None or len(chunks) == MAX_CHUNKS:
            return [data.file], data.size  # no audio that could be found: libsndfile says why
        chunks[chunk.name] = chunk
        position = chunk.end
    audio, ds64 = chunks[layout.data], chunks.get(b"ds64")
    claimed = audio.size
    told = claimed if ds64 is None else int.from_bytes(data.at(ds64.begin + 8, 8), "little")
    if claimed == 2**32 - 1:
        claimed = told
    short = _short(data, chunks, claimed)
    for end in (audio.begin + claimed, _aligned(begin, audio.begin + claimed, layout)):
        found = _end_of_chunks(data, begin, end, layout, short)
        if found is None:
            continue
        file_end, more = found
        magic = data.at(begin, 4)
        if more or magic == BW64 or (magic == b"RF64" and told != claimed):
            return [_rebuilt(data, begin, layout, chunks, [audio, *more])], file_end
        # libsndfile takes all that follows the audio of a W64 file for audio.
        if layout is W64 and end < file_end:
            return [data.view(begin, end)], file_end
        if begin or file_end < data.size:
            return [data.view(begin, file_end)], file_end
        return [data.file], file_end
    return [*_repaired(data, begin, layout, chunks)], data.size


def _short(data: Searched, chunks: dict[bytes, _Chunk], claimed: int) -> int:
    """Bytes after the audio that are too few to be missed."""
    if b"fmt " not in chunks:
        return SHORT
    rate = int.from_bytes(data.at(chunks[b"fmt "].begin + 8, 4), "little") or SHORT * SHORT_SHARE
    block = _block_size(data, chunks)
    # Of a block of a codec, all is needed.
    return 0 if block > LARGEST_SAMPLE and claimed % block else min(SHORT, rate // SHORT_SHARE)


def _chunk_at(data: Searched, begin: int, position: int, layout: Layout) -> _Chunk | None:
    """The chunk that begins at a position of the chunked file from ``begin``."""
    head = data.at(position, layout.head)
    name = head[:4]  # the rest of the longer names of W64 is the same in all
    if len(head) < layout.head or not all(32 <= letter < 127 for letter in name):
        return None
    size = int.from_bytes(head[layout.id_size :], layout.order) - layout.counted
    content = position + layout.head
    return _Chunk(name, content, size, _aligned(begin, content + max(0, size), layout))


def _aligned(begin: int, position: int, layout: Layout) -> int:
    return position + (begin - position) % layout.align


def _end_of_chunks(
    data: Searched, begin: int, position: int, layout: Layout, short: int
) -> tuple[int, list[_Chunk]] | None:
    """Where the chunked file ends whose audio ends at ``position``, and the chunks of more audio.

    None if its audio cannot end there.
    """
    more: list[_Chunk] = []
    for _ in range(MAX_CHUNKS):
        if position > data.size:
            return None
        if file_begins(data, position):
            return position, more
        if data.size - position <= short or data.at(position, 8).startswith(TAGS):
            return data.size, more
        chunk = _chunk_at(data, begin, position, layout)
        if chunk is None:
            return None
        if chunk.begin + chunk.size > data.size:
            return (data.size, more) if chunk.name in METADATA else None
        more += [chunk] if chunk.name == layout.data and chunk.size > layout.preamble else []
        position = min(chunk.end, data.size)
    return None


def _rebuilt(
    data: Searched, begin: int, layout: Layout, chunks: dict[bytes, _Chunk], audio: list[_Chunk]
) -> Readable:
    """The audio of all its chunks as one."""
    pieces = [(each.begin + layout.preamble, each.size - layout.preamble) for each in audio]
    pieces = [(start, max(0, min(size, data.size - start))) for start, size in pieces]
    size = sum(size for _, size in pieces)
    return data.view(begin, pieces[0][0], _lengths(data, begin, layout, chunks, size), pieces)


def _repaired(
    data: Searched, begin: int, layout: Layout, chunks: dict[bytes, _Chunk]
) -> Iterator[Readable]:
    """The audio up to the end of the file, in as many views as its fields for lengths require."""
    audio = chunks[layout.data]
    first = start = audio.begin + layout.preamble
    wide = layout.size_size == 8 or b"ds64" in chunks
    step = data.size if wide else LONGEST - LONGEST % _block_size(data, chunks)
    while start < data.size or start == first:
        size = max(0, min(step, data.size - start))
        yield data.view(
            begin,
            first,
            _lengths(data, begin, layout, chunks, size),
            [(start, size)],
        )
        start += step


def _lengths(
    data: Searched, begin: int, layout: Layout, chunks: dict[bytes, _Chunk], size: int
) -> dict[int, bytes]:
    """What the fields for lengths should hold, by their places, for ``size`` bytes of audio."""
    audio, ds64 = chunks[layout.data], chunks.get(b"ds64")
    magic = {begin: b"RF64"} if data.at(begin, 4) == BW64 else {}
    length = layout.preamble + size
    whole = audio.begin - begin + length - layout.uncounted
    place = audio.begin - layout.size_size
    if ds64 is not None:
        numbers = (whole, length, size // _block_size(data, chunks))
        ds64_field = b"".join(number.to_bytes(8, "little") for number in numbers)
        return {**magic, ds64.begin: ds64_field, place: b"\xff" * 4}
    fields = {place: length + layout.counted}
    if layout.total is not None:
        fields[begin + layout.total] = whole
    return magic | {
        place: value.to_bytes(layout.size_size, layout.order) for place, value in fields.items()
    }


def _block_size(data: Searched, chunks: dict[bytes, _Chunk]) -> int:
    """Bytes of audio that belong together: a sample of every channel, or a block of a codec."""
    size = 1
    if b"fmt " in chunks:
        order: Literal["little", "big"] = "big" if data.at(0, 4) == b"RIFX" else "little"
        size = int.from_bytes(data.at(chunks[b"fmt "].begin + 12, 2), order)
    elif b"COMM" in chunks:
        common = data.at(chunks[b"COMM"].begin, 8)
        size = int.from_bytes(common[:2]) * -(-int.from_bytes(common[6:]) // 8)
    return max(1, size)


def au_parts(data: Searched, begin: int) -> tuple[list[Readable], int]:
    """As `chunked_parts`, for AU files, which have one length in their header and no chunks."""
    parts: list[Readable] = []
    while data.at(begin, 4) == AU:
        start, claimed = (int.from_bytes(data.at(begin + place, 4)) for place in (4, 8))
        end = begin + start + claimed
        if end > data.size or not file_begins(data, end):
            if not 0 <= data.size - end <= SHORT and not data.at(end, 8).startswith(TAGS):
                parts.append(data.view(begin, data.size, {begin + 8: b"\xff" * 4}))  # unknown
                return parts, data.size
            end = data.size
        parts.append(data.view(begin, end) if begin or end < data.size else data.file)
        begin = end
    return parts, begin
