"""Metadata does not prevent reading an intact image, and takes no memory."""

import io
import itertools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.images import formats, read_image, without_metadata
from tests.images.metadata import (
    gif_extension,
    gif_places,
    inserted,
    jpeg_places,
    jpeg_segment,
    png_chunk,
    png_places,
)
from tfds_builders.common.image_files import image_fault

PIXELS = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
TEXT = b"workflow" * 2**17 * 3  # 3 MiB; Pillow reads 1 MiB at most
BOMB = zlib.compress(bytes(200 * 2**20))


@pytest.fixture(scope="module", autouse=True)
def heif():
    """Lets Pillow read and write HEIF, outside of measurements of memory."""
    assert "HEIF" in formats()


def _saved(form, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


PNG, JPEG, GIF = _saved("PNG"), _saved("JPEG", quality=90), _saved("GIF", comment=b"a")
CHUNKS = {
    "3 MiB of text": png_chunk(b"tEXt", b"workflow\0" + TEXT),
    "3 MiB of compressed text": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(TEXT)),
    "3 MiB of Unicode text": png_chunk(b"iTXt", b"workflow\0\0\0\0\0" + TEXT),
    "3 MiB of compressed Unicode text": png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(TEXT)),
    "72 MiB in 24 texts": png_chunk(b"tEXt", b"workflow\0" + TEXT) * 24,  # Pillow reads 64 MiB at most
    "a text that unpacks to 200 MiB": png_chunk(b"zTXt", b"workflow\0\0" + BOMB),
    "a colour profile that unpacks to 200 MiB": png_chunk(b"iCCP", b"p\0\0" + BOMB),
    "a colour profile of an unknown method": png_chunk(b"iCCP", b"p\0\1"),
    "a wrong checksum": png_chunk(b"tEXt", b"a\0b", checksum=1),
    "empty chunks": b"".join(map(png_chunk, (b"iCCP", b"gAMA", b"pHYs", b"sRGB", b"acTL", b"fcTL", b"fdAT", b"eXIf"))),
    "an odd chromaticity": png_chunk(b"cHRM", b"abc"),
    "an animation whose frames are out of order": png_chunk(b"fcTL", struct.pack(">5IHHBB", 9, 3, 3, 0, 0, 1, 1, 0, 0)),
    "a chunk of a program": png_chunk(b"prVt", TEXT),
}
SEGMENTS = {
    "20 MiB of XMP": jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60000)) * 350,
    "60,000 segments of EXIF": jpeg_segment(0xE1, b"Exif\0\0" + bytes(20)) * 60_000,  # Pillow joins them one by one
    "damaged EXIF": jpeg_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "a short profile": jpeg_segment(0xE2, b"ICC_PROFILE\0"),
    "a short index of images": jpeg_segment(0xE2, b"MPF\0" + b"II*\0\x08\0\0\0\1\0\1\xb0\4\0\1\0\0\0\2\0\0\0\0\0\0\0"),
    "damaged data of Photoshop": jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\3\xed"),
    "a short JFIF segment": jpeg_segment(0xE0, b"JFIF\0"),
    "a short Adobe segment": jpeg_segment(0xEE, b"Adobe"),
    "comments": jpeg_segment(0xFE, b"c" * 60000) * 9,
    "padding": b"\xff\xff\xff" + jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\3\xed"),
}
EXTENSIONS = {
    "a comment of 2 MiB": gif_extension(0xFE, bytes(2**21)),
    "XMP": gif_extension(0xFF, b"XMP DataXMP" + TEXT),
    "a short number of loops": gif_extension(0xFF, b"NETSCAPE2.0")[:-1] + b"\1\1\0",
    "a short control": gif_extension(0xF9, b"\1"),
}
CASES = [
    pytest.param(form, data, place, metadata, id=f"{form} {where} {name}")
    for form, data, kinds, places in [
        ("PNG", PNG, CHUNKS, {"before": png_places(PNG)[0], "after": png_places(PNG)[-1]}),
        ("JPEG", JPEG, SEGMENTS, {"before": jpeg_places(JPEG)[0], "after": jpeg_places(JPEG)[-1]}),
        ("GIF", GIF, EXTENSIONS, {"before": gif_places(GIF)[0]}),
    ]
    for name, metadata in kinds.items()
    for where, place in places.items()
]


@pytest.mark.parametrize(("form", "data", "place", "metadata"), CASES)
def test_metadata_changes_no_pixel_and_takes_no_memory(tmp_path, form, data, place, metadata):
    path = tmp_path / "a.png"
    path.write_bytes(inserted(data, place, metadata))
    with Image.open(io.BytesIO(data)) as plain:
        expected = np.asarray(plain.convert("RGB"))
    tracemalloc.start()
    try:
        pixels = np.asarray(read_image(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(pixels, expected)
    assert peak < 2**20
    if form != "GIF":
        assert image_fault(path, form) is None


@pytest.mark.parametrize(
    ("data", "place", "metadata", "unneeded"),
    [
        # Decoders need neither checksums nor marks of the end.
        (PNG, png_places(PNG)[0], CHUNKS["a wrong checksum"], 12 + 4 + 4),
        (PNG, png_places(PNG)[-1], CHUNKS["a wrong checksum"], 12 + 4 + 4 + 15),
        (JPEG, 2, SEGMENTS["damaged data of Photoshop"], 2),
        (GIF, gif_places(GIF)[0], gif_extension(0xFE, b"comment"), 4),
    ],
)
def test_truncated_pixels_are_an_error_in_files_with_metadata(data, place, metadata, unneeded):
    whole = inserted(data, place, metadata)
    for end in range(1, len(whole) - unneeded):
        with pytest.raises(InputError):
            read_image(whole[:end])


@pytest.mark.parametrize(
    ("form", "kind"),
    [("TIFF", "description"), *itertools.product(["WEBP", "AVIF", "HEIF"], ["xmp", "icc_profile"])],
)
def test_metadata_of_other_formats_changes_no_pixel(form, kind):
    plain, longer = _saved(form), _saved(form, **{kind: TEXT})
    assert len(longer) > len(plain) + len(TEXT) - 100
    np.testing.assert_array_equal(read_image(longer), read_image(plain))


def test_stream_without_metadata_equals_the_original_file():
    """Read in parts and out of order; a file without metadata is not copied."""
    plain = io.BytesIO(PNG)
    assert without_metadata(plain) is plain and plain.tell() == 0
    data = PNG
    for place in reversed(png_places(PNG)):
        data = inserted(data, place, png_chunk(b"tEXt", b"a\0b"))
    stream = without_metadata(io.BytesIO(data))
    assert stream.read() == PNG and stream.read(1) == b""
    for place in np.random.default_rng(1).integers(0, len(PNG), 50):
        stream.seek(place)
        assert stream.read(40) == PNG[place : place + 40] and stream.tell() == min(place + 40, len(PNG))


def test_png_transparency_after_the_pixels_is_ignored():
    """TensorFlow's decoder ignores it too."""
    key = png_chunk(b"tRNS", struct.pack(">3H", *PIXELS[0, 0]))
    first, *_, last = png_places(PNG)
    assert np.asarray(read_image(inserted(PNG, first, key)))[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(read_image(inserted(PNG, last, key)), PIXELS)


@pytest.mark.parametrize("default", [True, False])
def test_animated_png_is_read_as_its_default_image(default):
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue", "lime")]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], default_image=default, duration=9)
    assert np.asarray(read_image(file))[0, 0].tolist() == [255, 0, 0]


def test_adobe_segment_still_decides_the_colours_of_cmyk():
    data = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(data, "JPEG", quality=95)
    plain = data.getvalue()
    assert b"Adobe" in plain
    longer = inserted(plain, 2, SEGMENTS["damaged data of Photoshop"])
    np.testing.assert_array_equal(read_image(longer), Image.open(io.BytesIO(plain)).convert("RGB"))
