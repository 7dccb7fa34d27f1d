"""Metadata does not change pixels, in predict, in the builders and in training."""

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from animesion_jax.data.decode import decode
from animesion_jax.images import read_image
from tests.fuzz import fuzz
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
from tfds_builders.folder.storage import encode, is_decoded_alike

RGB = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8))


def _saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _split_pixels(data: bytes) -> bytes:
    """Returns a PNG whose pixels are in two chunks."""
    start = data.index(b"IDAT") - 4
    pixels = data[start + 8 : start + 8 + int.from_bytes(data[start : start + 4], "big")]
    halves = png_chunk(b"IDAT", pixels[:99]) + png_chunk(b"IDAT", pixels[99:])
    return data[:start] + halves + data[start + 12 + len(pixels) :]


PNGS = {
    "RGB": _saved(RGB, "PNG"),
    "two chunks": _split_pixels(_saved(RGB, "PNG")),
    "colour key": _saved(RGB, "PNG", transparency=(1, 2, 3)),
    "palette": _saved(RGB.quantize(16), "PNG", transparency=3),
    "alpha": _saved(RGB.convert("RGBA"), "PNG"),
    "16 bits": _saved(RGB.convert("L").convert("I").convert("I;16"), "PNG"),
    "animation": _saved(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)], duration=9),
}
JPEGS = {
    "RGB": _saved(RGB, "JPEG"),
    "progressive": _saved(RGB, "JPEG", progressive=True),
    "grey": _saved(RGB.convert("L"), "JPEG"),
    "CMYK": _saved(RGB.convert("CMYK"), "JPEG"),
}
GIFS = {
    "palette": _saved(RGB.quantize(32), "GIF", comment=b"a"),
    "transparent": _saved(RGB.quantize(32), "GIF", transparency=3, duration=9),
    "animation": _saved(RGB.quantize(32), "GIF", save_all=True, append_images=[RGB.rotate(180)], duration=9),
}
# How programs start their metadata, cut anywhere, and then anything; some longer than the buffers of files.
STARTS = st.sampled_from(
    [
        b"", b"workflow\0", b"XML:com.adobe.xmp\0\0\0\0\0", b"a\0\1\0\0\0x\x9c", b"p\0\0x\x9c", b"\0\0\0\2\0\0\0\0",
        b"\0" * 26, b"JFIF\0\1\1", b"Exif\0\0II*\0\x08\0\0\0\3\0\x1a\1\5\0", b"Exif\0\0MM\0*", b"ICC_PROFILE\0\1\1",
        b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10", b"FPXR\0", b"Adobe\0d\0",
        b"MPF\0II*\0\x08\0\0\0\3\0\0\xb0\7\0\4\0\0\0", b"NETSCAPE2.0", b"XMP DataXMP", b"\1\0\0\0",
    ]
)  # fmt: skip
DATA = st.tuples(STARTS, st.integers(0, 40), st.binary(max_size=80), st.sampled_from([0] * 9 + [1, 9000, 60_000])).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + bytes(parts[3])
)
CHUNK_NAMES = (
    "tEXt", "zTXt", "iTXt", "iCCP", "gAMA", "cHRM", "sRGB", "sBIT", "pHYs", "bKGD", "hIST", "sPLT", "tIME", "eXIf",
    "acTL", "fcTL", "fdAT", "caBX", "cICP", "prVt",
)  # fmt: skip
KINDS = (st.sampled_from(CHUNK_NAMES) | st.from_regex("[a-z][A-Za-z]{3}", fullmatch=True)).filter(
    lambda kind: kind != "tRNS"
)
CHUNKS = st.builds(png_chunk, KINDS.map(str.encode), DATA, st.sampled_from([0, 0, 0, 1]))
# JFIF and Adobe decide the colours, unless they are too short.
SEGMENTS = st.one_of(
    st.builds(jpeg_segment, st.sampled_from([*range(0xE1, 0xEE), 0xEF, 0xFE]), DATA),
    st.builds(jpeg_segment, st.sampled_from([0xE0, 0xEE]), DATA.map(lambda data: data[:11])),
    st.integers(0, 3).map(lambda count: b"\xff" * count),
)
EXTENSIONS = st.builds(gif_extension, st.sampled_from([0xFE, 0xFE, 0xFF, 0x01, 0x77]), DATA)


def _check(plain: bytes, places: list[int], found: st.DataObject, metadata: st.SearchStrategy, form: str) -> None:
    """Inserts metadata at several places and compares the pixels."""
    with Image.open(io.BytesIO(plain)) as image:
        is_rgb = image.mode == "RGB"
    data = plain
    for place in sorted(found.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4)), reverse=True):
        data = inserted(data, place, found.draw(metadata))
    expected = np.asarray(read_image(plain))
    np.testing.assert_array_equal(read_image(data), expected)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        path.write_bytes(data)
        pixels = read_image(path)
        np.testing.assert_array_equal(pixels, expected)
        stored = encode(path, is_decoded_alike(path, pixels))
        np.testing.assert_array_equal(decode(stored).numpy(), expected)
        assert image_fault(path, form) is None or not is_rgb or form == "GIF"


@fuzz
@given(st.sampled_from(list(PNGS)), st.data())
def test_chunks_do_not_change_the_pixels_of_a_png(name, found):
    _check(PNGS[name], png_places(PNGS[name]), found, CHUNKS, "PNG")


@fuzz
@given(st.sampled_from(list(JPEGS)), st.data())
def test_segments_do_not_change_the_pixels_of_a_jpeg(name, found):
    _check(JPEGS[name], jpeg_places(JPEGS[name]), found, SEGMENTS, "JPEG")


@fuzz
@given(st.sampled_from(list(GIFS)), st.data())
def test_extensions_do_not_change_the_pixels_of_a_gif(name, found):
    _check(GIFS[name], gif_places(GIFS[name]), found, EXTENSIONS, "GIF")
