"""Finds the heads on whole pictures; writes their crops, and the pictures with the boxes drawn."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from animesion_jax.detection import Detection, Detector
from animesion_jax.detection.drawing import draw_boxes
from animesion_jax.errors import InputError
from animesion_jax.images import prefetch, read_image
from animesion_jax.inference.named_files import Below, check_distinct, save_png
from animesion_jax.inference.rows import Row
from animesion_jax.preprocessing import Margin, canvas, crop

# Pictures that are searched ahead; only their rows wait in memory.
PICTURES_AHEAD = 4 * (os.cpu_count() or 1)

# Writes a picture's files, given its path, its RGB image and its heads.
Save = Callable[[Path, Image.Image, Sequence[Detection]], None]


def find_heads(files: Sequence[Path], detector: Detector, savers: Sequence[Save] = ()) -> Iterator[Row]:
    """Yields {"path", "faces": [{"box", "confidence"}]} for each file in order, or {"path", "error"}.

    Threads read, search and save the next pictures meanwhile.

    Args:
      files: pictures.
      detector: finds the heads; the most confident come first.
      savers: write files of each picture, from several threads.
    """
    for _, row in prefetch(partial(_find, detector, savers), files, PICTURES_AHEAD):
        yield row


def _find(detector: Detector, savers: Sequence[Save], file: Path) -> Row:
    try:
        image = read_image(file)
        found = detector(image)
        for save in savers:
            save(file, image, found)
    except InputError as error:
        return {"path": str(file), "error": str(error)}
    return {"path": str(file), "faces": [_describe(each) for each in found]}


def _describe(found: Detection) -> dict[str, Any]:
    return {"box": list(found.box), "confidence": found.confidence}


def crop_saver(folder: str, files: Sequence[Path], given: Sequence[str], margin: Margin) -> Save:
    """Returns a function that saves each head on IMAGE as IMAGE.NUMBER.png below a folder.

    Args:
      folder: local folder.
      files: the pictures.
      given: the files and folders that the user gave, whose subfolders are kept.
      margin: how a box becomes a crop. With the fit "pad", the crop is in the middle of a white square.

    Raises:
      InputError: two pictures have the same crops, or the folder is an address.
    """
    below = _below(folder, files, given, "crops", "--crops")

    def save(file: Path, image: Image.Image, found: Sequence[Detection]) -> None:
        for number, each in enumerate(found, start=1):
            cut = _on_canvas(crop(image, each.box, margin), margin.fit)
            save_png(cut, Path(f"{below.path(file)}.{number}.png"), "--crops=FOLDER")

    return save


def overlay_saver(folder: str, files: Sequence[Path], given: Sequence[str]) -> Save:
    """Returns a function that saves IMAGE with numbered boxes as IMAGE.png below a folder; see `crop_saver`."""
    below = _below(folder, files, given, "overlay", "--overlays")

    def save(file: Path, image: Image.Image, found: Sequence[Detection]) -> None:
        drawn = draw_boxes(image, [each.box for each in found])
        save_png(drawn, Path(f"{below.path(file)}.png"), "--overlays=FOLDER")

    return save


def _below(folder: str, files: Sequence[Path], given: Sequence[str], kind: str, flag: str) -> Below:
    below = Below(folder, given)
    check_distinct({os.path.abspath(file): below.path(file) for file in files}, kind, f"no {flag}")
    return below


def _on_canvas(image: Image.Image, fit: str) -> Image.Image:
    """Returns an image on the square that `resize` with this fit would see."""
    width, height, left, top = canvas(*image.size, fit)
    page = Image.new("RGB", (width, height), "white")
    page.paste(image, (left, top))
    return page
