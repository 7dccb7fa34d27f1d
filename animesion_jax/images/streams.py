"""Streams for Pillow that bound its reads and hide the metadata of PNG, JPEG and GIF files.

Pillow parses all metadata. It rejects intact images with a long or damaged text, and needs minutes for 20 MB of
comments. Metadata of other formats is harmless.
"""

import bisect
import io
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

# JPEG segments that decide the colour space, JFIF and Adobe, with the least length that decoders read, in bytes. It
# includes the marker and the length field.
JPEG_COLOUR = {0xE0: 18, 0xEE: 16}
# JPEG markers that a length follows, and those of metadata among them.
JPEG_SEGMENTS = frozenset((*range(0xC0, 0xD0), *range(0xDB, 0xF0), 0xFE))
JPEG_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))

Spans = Iterator[tuple[int, int]]


class BoundedFile(io.BufferedReader):
    """A stream that reads at most the file's size at once: Python allocates the requested size before it reads."""

    def __init__(self, raw: io.RawIOBase, size: int):
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        """Returns the next `size` bytes, or the remaining ones if there are fewer."""
        return super().read(self._size if size is None or not 0 <= size <= self._size else size)


class _Spliced(io.RawIOBase):
    """Several spans of a file as one stream, without a copy; does not close the file."""

    def __init__(self, file: BinaryIO, spans: Iterable[tuple[int, int]]):
        self._file = file
        # A span takes 24 bytes of memory, and stands for at least as many in the file.
        self._starts, self._ends, self._places = array("Q"), array("Q"), array("Q")
        self.size = self._place = 0
        for start, end in spans:
            if self._ends and self._ends[-1] == start:
                self._ends[-1] = end
            else:
                self._starts.append(start)
                self._ends.append(end)
                self._places.append(self.size)
            self.size += end - start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        if self._place >= self.size:
            return 0
        span = bisect.bisect_right(self._places, self._place) - 1
        start = self._starts[span] + self._place - self._places[span]
        self._file.seek(start)
        count = self._file.readinto(memoryview(buffer)[: self._ends[span] - start])
        self._place += count
        return count


def without_metadata(file: BinaryIO) -> BinaryIO:
    """Returns a stream of an image file without the metadata of a PNG, JPEG or GIF.

    From the first damage on, the content is unchanged, so that decoders report it. Keep `file` open while you read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(8)
    for signature, find_spans in SPANS.items():
        if head.startswith(signature):
            spliced = _Spliced(file, find_spans(file, size))
            if spliced.size < size:
                return BoundedFile(spliced, spliced.size)
    file.seek(0)
    return file


def _png_spans(file: BinaryIO, size: int) -> Spans:
    """Yields the critical chunks, and the transparency before the pixels; decoders ignore it after them."""
    yield 0, 8
    start, is_before_pixels = 8, True
    while start < size:
        file.seek(start)
        head = file.read(8)
        end = start + 12 + int.from_bytes(head[:4], "big")
        kind = head[4:]
        if len(head) < 8 or end > size or kind == b"IEND":
            yield start, size
            return
        is_before_pixels &= kind != b"IDAT"
        is_critical = not kind[0] & 0x20  # a capital letter
        if is_critical or (kind == b"tRNS" and is_before_pixels):
            yield start, end
        start = end


def _jpeg_spans(file: BinaryIO, size: int) -> Spans:
    """Yields all but the comments and application segments before the first scan; decoders skip later ones."""
    yield 0, 2
    start = 2
    while start < size:
        file.seek(start)
        head = file.read(4)
        if head.startswith(b"\xff\xff"):  # padding
            start += 1
            continue
        end = start + 2 + int.from_bytes(head[2:], "big")
        if len(head) < 4 or head[0] != 0xFF or head[1] not in JPEG_SEGMENTS or end < start + 4 or end > size:
            yield start, size
            return
        if head[1] not in JPEG_METADATA or end - start >= JPEG_COLOUR.get(head[1], size):
            yield start, end
        start = end


def _gif_spans(file: BinaryIO, size: int) -> Spans:
    """Yields the header, the transparency of the first frame, and everything from that frame on."""
    file.seek(0)
    flags = file.read(13)[10:11] or b"\0"
    start = 13 + (3 << (flags[0] & 7) + 1 if flags[0] & 0x80 else 0)
    yield 0, min(start, size)
    while start < size:
        file.seek(start)
        head = file.read(3)
        end = _end_of_blocks(file, start + 2, size) if head.startswith(b"!") else size
        if end >= size:
            yield start, size
            return
        if head == b"!\xf9\x04":
            yield start, end
        start = end


def _end_of_blocks(file: BinaryIO, start: int, size: int) -> int:
    """Returns the offset after a sequence of GIF data blocks, which an empty block ends."""
    while start < size:
        file.seek(start)
        length = file.read(1)[0]
        start += 1 + length
        if not length:
            break
    return start


# Functions that yield the (start, end) of each span to keep, by the signature of the format.
SPANS: dict[bytes, Callable[[BinaryIO, int], Spans]] = {
    b"\x89PNG\r\n\x1a\n": _png_spans,
    b"\xff\xd8\xff": _jpeg_spans,
    b"GIF8": _gif_spans,
}
