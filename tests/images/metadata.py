"""Metadata to insert into images: chunks of PNG, segments of JPEG, extensions of GIF."""

import struct
import zlib


def png_chunk(kind, data=b"", checksum=0):
    """Returns a chunk; a checksum other than 0 is wrong."""
    code = zlib.crc32(kind + data) ^ checksum
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", code)


def jpeg_segment(marker, data=b""):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def gif_extension(label, data=b""):
    blocks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return bytes([0x21, label]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def png_places(data):
    """Returns the places between the chunks of a PNG, without the one after IEND."""
    places = [8]
    while places[-1] < len(data):
        places.append(places[-1] + 12 + struct.unpack_from(">I", data, places[-1])[0])
    return places[1:-1]


def jpeg_places(data):
    """Returns the places between the segments of a JPEG, up to the one before the first scan."""
    places = [2]
    while data[places[-1] + 1] != 0xDA:
        places.append(places[-1] + 2 + struct.unpack_from(">H", data, places[-1] + 2)[0])
    return places


def gif_places(data):
    """Returns the places before and after the extensions that a GIF of Pillow has before its first frame."""
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    places = [place]
    while data[place] == 0x21:
        place += 2
        while data[place]:
            place += 1 + data[place]
        place += 1
        places.append(place)
    return places


def inserted(data, place, metadata):
    return data[:place] + metadata + data[place:]
