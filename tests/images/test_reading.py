"""Reading image files of every kind, valid and invalid."""

import errno
import io
import os
import socket
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from animesion_jax import preprocessing
from animesion_jax.data.decode import decode_and_resize
from animesion_jax.errors import InputError
from animesion_jax.images import find_images, read_image, reading, streams, to_image
from animesion_jax.preprocessing import ROUNDING, resize
from tests.conftest import ROOT

DRAW = np.random.default_rng(1)


def _saved(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def _refused(read, *words):
    """Asserts that `read` raises an InputError of one line with the words."""
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_read_image_scales_every_16_bit_value_to_the_nearest(tmp_path, form):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    rgb = np.asarray(read_image(_saved(tmp_path / f"x.{form}", values)))
    expected = np.rint(values.astype(np.float64) * 255 / 65535)  # no ties: 257 is odd
    np.testing.assert_array_equal(rgb, np.stack([expected] * 3, axis=-1))


def test_read_image_takes_32_bit_integers_as_16_bits_and_refuses_floats(tmp_path):
    values = np.array([[0, 257, 65535]], np.int32)
    assert np.asarray(read_image(_saved(tmp_path / "i.tiff", values)))[0, :, 0].tolist() == [0, 1, 255]
    wrong = _saved(tmp_path / "wide.tiff", np.array([[-1, 70000]], np.int32))
    _refused(lambda: read_image(wrong), "-1 to 70000", "0 to 65535", "save it")
    floats = _saved(tmp_path / "f.tiff", np.array([[0.5, 1.0]], np.float32))
    _refused(lambda: read_image(floats), "floats", "8 or 16 bits", "save it")


@pytest.mark.parametrize("form", ["png", "webp", "tiff"])
def test_read_image_pastes_transparent_pixels_onto_white(tmp_path, form):
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128], [0, 0, 0, 51]]], np.uint8)
    options = {"lossless": True, "exact": True} if form == "webp" else {}
    rgb = np.asarray(read_image(_saved(tmp_path / f"x.{form}", pixels, **options))).astype(float)
    colour, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    np.testing.assert_allclose(rgb, colour * alpha + 255 * (1 - alpha), atol=1)
    assert rgb[0, :2].tolist() == [[200, 100, 0], [255, 255, 255]]


def test_read_image_pastes_transparent_palettes_grey_and_colour_keys_onto_white(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    for name in ("p.png", "p.gif"):
        palette.save(tmp_path / name, transparency=1)
        assert np.asarray(read_image(tmp_path / name)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    _saved(tmp_path / "la.png", np.array([[[7, 255], [7, 0]]], np.uint8))
    assert np.asarray(read_image(tmp_path / "la.png")).tolist() == [[[7, 7, 7], [255, 255, 255]]]
    _saved(tmp_path / "key.png", np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), transparency=(4, 5, 6))
    assert np.asarray(read_image(tmp_path / "key.png")).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_read_image_converts_cmyk_and_takes_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue")]
    frames[0].convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    for name in ("x.gif", "x.png", "x.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=9)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 2
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(np.asarray(read_image(path))[4, 4].astype(int), (255, 0, 0), atol=3)


def test_read_image_ignores_exif_orientation_like_training(tmp_path):
    """TensorFlow does not read EXIF; evaluate and predict must see the same pixels of a file."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    path = _saved(tmp_path / "x.jpg", DRAW.integers(0, 256, (40, 60, 3), np.uint8), exif=exif, quality=95)
    assert read_image(path).size == (60, 40)
    np.testing.assert_array_equal(resize(read_image(path), 24, "pad"), decode_and_resize(path.read_bytes(), 24, "pad"))


@pytest.mark.parametrize(("shape", "size"), [((31, 47), 16), ((9, 200), 24), ((200, 3), 24), ((5, 7), 33)])
def test_resize_in_bands_equals_resize_at_once(monkeypatch, shape, size):
    monkeypatch.setattr(preprocessing, "BAND_PIXELS", 100)
    pixels = DRAW.integers(0, 256, (*shape, 3), np.uint8)
    whole = [
        Image.fromarray(pixels[..., channel].astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        for channel in range(3)
    ]
    expected = np.floor(np.stack(whole, axis=-1) + ROUNDING).astype(np.uint8)
    np.testing.assert_array_equal(resize(Image.fromarray(pixels), size, "squash"), expected)


def _png(path, width, height, rows=b""):
    """Writes a grey PNG that declares a size and holds the given rows."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (10_000, 10_000, ["100000000 pixels", "89478485", "scale it down"]),
        (30_000, 30_000, ["900000000 pixels", "scale it down"]),
        (9_000, 9_000, ["9000 x 9000", "16777216", "scale it down"]),
        (1, 80_000_000, ["1 x 80000000", "65535", "crop it"]),
        (100, 100, ["not a readable image", "allowed: a whole file of AVIF", "save or download it again"]),
    ],
)
def test_read_image_refuses_a_declared_size_beyond_the_limits(tmp_path, width, height, words):
    _refused(lambda: read_image(_png(tmp_path / "x.png", width, height)), *words)


def test_read_image_allows_more_pixels_for_larger_files(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "FREE_PIXELS", 50)
    noise = _saved(tmp_path / "noise.png", DRAW.integers(0, 256, (60, 60), np.uint8))
    assert read_image(noise).size == (60, 60)
    flat = _saved(tmp_path / "flat.png", np.zeros((600, 600), np.uint8))
    _refused(lambda: read_image(flat), "600 x 600", f"{flat.stat().st_size} bytes", "50 pixels and 100 more")


def test_read_image_and_resize_hold_no_float_copy_of_the_whole_image(tmp_path):
    """A process limited to 100 MB reads 16 megapixels, whose white square takes 201 MB, as floats 268 MB a channel."""
    noise = Image.effect_noise((2048, 8192), 50).convert("RGB")
    noise.save(tmp_path / "tall.jpg", quality=50)
    noise.transpose(Image.Transpose.TRANSPOSE).save(tmp_path / "wide.jpg", quality=50)
    code = (
        "import resource, sys\n"
        "from animesion_jax.images import read_image\n"
        "from animesion_jax.preprocessing import resize\n"
        "resize(read_image(sys.argv[1]), 64, 'pad')\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, resource.RLIM_INFINITY))\n"
        "print([resize(read_image(path), 64, fit).shape for path in sys.argv[2:] for fit in ('squash', 'pad')])\n"
    )
    small = _saved(tmp_path / "small.jpg", np.zeros((99, 99, 3), np.uint8))
    paths = [small, tmp_path / "tall.jpg", tmp_path / "wide.jpg"]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == str(4 * [(64, 64, 3)]), result.stderr


def test_read_image_refuses_folders_pipes_sockets_devices_and_missing_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        for name, words in {
            "pipe.png": ["a pipe", "allowed: a whole file of"], "folder.png": ["a folder"], "s.png": ["a socket"],
            "loop.png": ["symbolic links"], "absent.png": ["no such image", "absent.png"],
            "\0.png": ["null ", "\\x00.png"], "a" * 300 + ".png": ["too long"],
        }.items():  # fmt: skip
            _refused(lambda name=name: read_image(tmp_path / name), *words)
        _refused(lambda: read_image("/dev/zero"), "a device")
        good = _saved(tmp_path / "good.png", np.zeros((2, 2, 3), np.uint8))
        assert find_images([str(tmp_path)]) == [good, tmp_path / "loop.png"]


@pytest.mark.parametrize(
    "head", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"SIMPLE  =                    T"]
)
def test_read_image_refuses_formats_outside_its_list(tmp_path, head):
    path = tmp_path / "x.png"
    path.write_bytes(head + b" " * 3000)
    _refused(lambda: read_image(path), "cannot identify", "allowed: a whole file of AVIF")


def test_read_image_reports_a_disk_error_as_such(tmp_path, monkeypatch):
    path = _saved(tmp_path / "x.png", np.zeros((2, 2, 3), np.uint8))

    def fail(*_) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(streams.BoundedFile, "read", fail)
    _refused(lambda: read_image(path), "cannot be read: Input/output error; check its permissions and its disk")


def test_to_image_refuses_unusable_images_in_memory():
    _refused(lambda: to_image(Image.new("RGB", (0, 5))), "no pixel")
    _refused(lambda: to_image(np.zeros((0, 5, 3), np.uint8)), "no pixel")
    written = io.BytesIO()
    Image.new("RGB", (64, 64)).save(written, "PNG")
    _refused(lambda: to_image(Image.open(io.BytesIO(written.getvalue()[:-40]))), "not a readable image")
    for array, found in ((np.zeros((4, 4)), "(4, 4) float64"), (5, "() int64")):
        _refused(lambda array=array: to_image(array), f"an array image is (H, W, 3) uint8; this one is {found}")
