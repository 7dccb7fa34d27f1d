"""Writes the seeds of tests/corpus/: small valid files of every kind. Run `python -m tests.hostile_seeds`."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import safetensors.numpy
from PIL import Image

from animesion_jax.images import formats
from animesion_jax.models import abstract_variables, create_model

CORPUS = Path(__file__).parent / "corpus"

# A calibration for `bundle_tree`, whose model gives both characters 0.5.
CALIBRATION = {
    "temperature": 1.0, "threshold": 0.6, "false_accept_rate": 0.1, "scale": 5.0, "offset": 0.0, "source": {}
}  # fmt: skip
# The crops that a model expects, of a detector that no machine has.
CROPS = {
    "detector": "heads.xml", "sha256": "0" * 64, "scale": 1.5, "shift": 0.25, "fit": "pad",
    "source": {"images": 40, "top1_accuracy": 0.75},
}  # fmt: skip

LABELS = {
    "split": [
        "0,0000/1.jpg\n0,0000/2.jpg\n1,0001/3.jpg\n",
        "0001/3.jpg,1\r\n\r\n0000/é 1.jpg,0\r\n",
        "\ufeff0,a b/c.jpg",
    ],
    "names": ["0,a\n1,b, c\n", "1,ä\n0,あかり\n"],
    "faces": ["0446\\1.jpg\t7\t0.1, 0.2, 0.6, 0.8 0.95\n0447\\2.jpg\t9\t-0.1 0 0.5 1.2 0.91\n"],
    "tags": ["yui\t7\nmio\t9\nazusa\t11\n"],
}
# Formats by the Pillow mode that they support.
MODES = {
    "RGB": ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "AVIF", "HEIF"),
    "RGBA": ("PNG", "TIFF", "WEBP", "HEIF"),
    "P": ("BMP", "GIF", "PNG", "TIFF"),
    "L": ("JPEG", "PNG", "PPM", "TIFF"),
    "LA": ("PNG",),
    "1": ("PNG", "PPM", "TIFF"),
    "CMYK": ("JPEG", "TIFF"),
    "I;16": ("PNG", "TIFF"),
    "I": ("TIFF",),
    "F": ("TIFF", "PPM"),
}


def bundle_tree() -> dict:
    """Returns the tree of a bundle of the smallest model, with arrays of zeros."""
    variables = abstract_variables(create_model("shallownet", num_classes=2, image_size=16), 16)
    return {
        "format": "animesion",
        "version": 1,
        "model": {"name": "shallownet", "num_classes": 2, "image_size": 16, "dtype": "float32"},
        "preprocessing": {"size": 16, "fit": "squash", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "classes": ["yui", "あかり"],
        "training": {"dataset": "toyfaces", "weights": "best", "step": 3, "metrics": {"top1_accuracy": 0.5}},
        "variables": jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables),
    }


def _images() -> Iterator[tuple[str, bytes]]:
    """Yields (name, bytes) of a 5 x 4 image in every mode and format, and of animations."""
    formats()  # lets Pillow write HEIF
    draw = np.random.default_rng(1)
    pixels = Image.fromarray(draw.integers(0, 256, (4, 5, 3), np.uint8))
    for mode, written in MODES.items():
        image = pixels.convert("L").convert("I").convert("I;16") if mode == "I;16" else pixels.convert(mode)
        for each in written:
            file = io.BytesIO()
            image.save(file, each)
            yield f"{mode.replace(';', '_')}.{each.lower()}", file.getvalue()
    for each in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        pixels.save(file, each, save_all=True, append_images=[pixels.rotate(180)], duration=50)
        yield f"animated.{each.lower()}", file.getvalue()


def _npz(save, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yields (path in the corpus, bytes) of every seed."""
    tree = bundle_tree()
    yield "bundle/whole", flax.serialization.msgpack_serialize(tree)
    yield "bundle/small", flax.serialization.msgpack_serialize(tree | {"variables": {"params": {"a": np.ones(2, "f")}}})
    arrays = {"cls": np.ones((1, 1, 2), np.float32), "head/kernel": np.ones((2, 3), np.float16)}
    order = {"order": np.asfortranarray(np.ones((2, 3), ">f8"))}
    yield "npz/stored", _npz(np.savez, **arrays)
    yield "npz/deflated", _npz(np.savez_compressed, **arrays, **order)
    yield "safetensors/whole", safetensors.numpy.save({"fc.weight": np.ones((2, 3), "f"), "bn1.bias": np.ones(2, "f")})
    for kind, texts in LABELS.items():
        yield from ((f"{kind}/{place}", text.encode()) for place, text in enumerate(texts))
    images = dict(_images())
    yield from ((f"image/{name}", content) for name, content in images.items())
    yield from ((f"face/{name}", images[name]) for name in ("RGB.png", "RGBA.png"))
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("moeimouto-faces/000_yui/1.png", images["RGB.png"])
            archive.writestr("moeimouto-faces/000_yui/color.csv", "1,2")
        yield f"zip/{name}", file.getvalue()


if __name__ == "__main__":
    for path, content in seeds():
        (CORPUS / path).parent.mkdir(parents=True, exist_ok=True)
        (CORPUS / path).write_bytes(content)
