"""Where the audio of a chunked file (WAV, AIFF, CAF, W64, AU) ends, whatever its header says.

Recorders that crash and programs that write to pipes leave sizes of zero, of all ones, or of an
earlier moment; sizes of 32 bits overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    """How a format stores chunks."""

    first: int = 12  # place of the first chunk
    id_size: int = 4  # bytes of a chunk's name
    size_size: int = 4  # bytes of its length, which follow
    order: Literal["little", "big"] = "little"  # of these bytes
    counted: int = 0  # bytes of the name and length that the length includes
    align: int = 2  # what the place of each chunk is a multiple of
    data: bytes = b"data"  # name of the chunk with the audio
    preamble: int = 0  # bytes in it before the audio
    total: int | None = 4  # place of the length of the whole file; None if there is none
    uncounted: int = 8  # bytes at the beginning of the file that this length does not include


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


class _Chunk(NamedTuple):
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
    """All the chunked files that a file is joined of from ``begin`` on, and where they end.

    They are the file itself, or views with true lengths.
    """
    parts: list[Readable] = []
    found: Layout | None = layout
    while found is not None:
        views, end = _ChunkedFile(data, begin, found).parts()
        parts += views
        begin, found = end, layout_at(data, end)
    return parts, begin


class _ChunkedFile:
    """The chunked file that begins at a place of another one."""

    def __init__(self, data: Searched, begin: int, layout: Layout) -> None:
        self._data, self._begin, self._layout = data, begin, layout
        self._chunks: dict[bytes, _Chunk] = {}  # up to that of the audio, by name
        self._magic = data.at(begin, 4)

    def parts(self) -> tuple[list[Readable], int]:
        """What to read, and where it ends."""
        data, begin, layout = self._data, self._begin, self._layout
        position = begin + layout.first
        while layout.data not in self._chunks:
            chunk = self._chunk_at(position)
            if chunk is None or len(self._chunks) == MAX_CHUNKS:
                return [data.file], data.size  # no audio that could be found: libsndfile says why
            self._chunks[chunk.name] = chunk
            position = chunk.end
        self._audio, self._ds64 = self._chunks[layout.data], self._chunks.get(b"ds64")
        claimed = told = self._audio.size
        if self._ds64 is not None:
            told = int.from_bytes(data.at(self._ds64.begin + 8, 8), "little")
        if claimed == 2**32 - 1:
            claimed = told
        audio_end = self._audio.begin + claimed
        for end in (audio_end, self._aligned(audio_end)):
            if (found := self._end_of_chunks(end, self._short(claimed))) is None:
                continue
            file_end, more = found
            if more or self._magic == BW64 or (self._magic == b"RF64" and told != claimed):
                return [self._rebuilt([self._audio, *more])], file_end
            if begin == 0 and file_end == data.size and not (layout is W64 and end < file_end):
                return [data.file], file_end
            # libsndfile takes all that follows the audio of a W64 file for audio.
            return [data.view(begin, end if layout is W64 else file_end)], file_end
        return [*self._repaired()], data.size

    def _short(self, claimed: int) -> int:
        """Bytes after the audio that are too few to be missed."""
        if b"fmt " not in self._chunks:
            return SHORT
        place = self._chunks[b"fmt "].begin + 8
        rate = int.from_bytes(self._data.at(place, 4), "little") or SHORT * SHORT_SHARE
        block = self._block_size()
        # Of a block of a codec, all is needed.
        return 0 if block > LARGEST_SAMPLE and claimed % block else min(SHORT, rate // SHORT_SHARE)

    def _chunk_at(self, position: int) -> _Chunk | None:
        layout = self._layout
        size_place = position + layout.id_size
        content = size_place + layout.size_size
        name = self._data.at(position, 4)  # the rest of the longer names of W64 is the same in all
        length = self._data.at(size_place, layout.size_size)
        if len(length) < layout.size_size or not all(32 <= letter < 127 for letter in name):
            return None
        size = int.from_bytes(length, layout.order) - layout.counted
        return _Chunk(name, content, size, self._aligned(content + max(0, size)))

    def _aligned(self, position: int) -> int:
        return position + (self._begin - position) % self._layout.align

    def _end_of_chunks(self, position: int, short: int) -> tuple[int, list[_Chunk]] | None:
        """Where the file ends if its audio ends at ``position``, and the chunks of more audio.

        None if its audio cannot end there.
        """
        data, layout = self._data, self._layout
        more: list[_Chunk] = []
        for _ in range(MAX_CHUNKS):
            if position > data.size:
                return None
            if file_begins(data, position):
                return position, more
            if data.size - position <= short or data.at(position, 8).startswith(TAGS):
                return data.size, more
            chunk = self._chunk_at(position)
            if chunk is None:
                return None
            if chunk.begin + chunk.size > data.size:
                return (data.size, more) if chunk.name in METADATA else None
            more += [chunk] if chunk.name == layout.data and chunk.size > layout.preamble else []
            position = min(chunk.end, data.size)
        return None

    def _rebuilt(self, audio: list[_Chunk]) -> Readable:
        """The audio of all its chunks as one."""
        preamble, end = self._layout.preamble, self._data.size
        pieces = [(each.begin + preamble, each.size - preamble) for each in audio]
        pieces = [(start, max(0, min(size, end - start))) for start, size in pieces]
        lengths = self._lengths(sum(size for _, size in pieces))
        return self._data.view(self._begin, pieces[0][0], lengths, pieces)

    def _repaired(self) -> Iterator[Readable]:
        """The audio up to the end, in as many views as the fields for lengths require."""
        end = self._data.size
        first = start = self._audio.begin + self._layout.preamble
        wide = self._layout.size_size == 8 or self._ds64 is not None
        step = end if wide else LONGEST - LONGEST % self._block_size()
        while start < end or start == first:
            size = max(0, min(step, end - start))
            yield self._data.view(self._begin, first, self._lengths(size), [(start, size)])
            start += step

    def _lengths(self, size: int) -> dict[int, bytes]:
        """What the fields for lengths should hold, by their places, for ``size`` bytes of audio."""
        begin, layout = self._begin, self._layout
        length = layout.preamble + size
        whole = self._audio.begin - begin + length - layout.uncounted
        place = self._audio.begin - layout.size_size
        fields = {begin: b"RF64"} if self._magic == BW64 else {}
        if self._ds64 is not None:
            numbers = (whole, length, size // self._block_size())
            wide = b"".join(number.to_bytes(8, "little") for number in numbers)
            return fields | {self._ds64.begin: wide, place: b"\xff" * 4}
        fields[place] = (length + layout.counted).to_bytes(layout.size_size, layout.order)
        if layout.total is not None:
            fields[begin + layout.total] = whole.to_bytes(layout.size_size, layout.order)
        return fields

    def _block_size(self) -> int:
        """Bytes of audio that belong together: a sample of every channel, or a block of a codec."""
        size = 1
        if (fmt := self._chunks.get(b"fmt ")) is not None:
            order: Literal["little", "big"] = "big" if self._data.at(0, 4) == b"RIFX" else "little"
            size = int.from_bytes(self._data.at(fmt.begin + 12, 2), order)
        elif (comm := self._chunks.get(b"COMM")) is not None:
            common = self._data.at(comm.begin, 8)
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
