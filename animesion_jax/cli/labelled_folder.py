"""The images of a folder that holds a folder per character."""

import logging
from collections.abc import Callable
from pathlib import Path

from animesion_jax.errors import InputError, escape
from animesion_jax.files import expand_home

log = logging.getLogger("animesion_jax")


def find_labelled_images(folder: str, suggest: Callable[[str], str]) -> list[tuple[Path, str]]:
    """Returns the images of a folder, each with the name of its character's folder; logs what is left out.

    Args:
      folder: as the user gave it.
      suggest: returns a command that takes another folder.

    Raises:
      InputError: there are no images in folders of characters, or the folder has splits.
    """
    from animesion_jax.images import describe, formats
    from tfds_builders.folder.layout import read_layout

    layout = read_layout(Path(expand_home(folder)))
    if not layout.images:
        others = f" (left out: {describe(layout.left_out)})" if layout.left_out else ""
        raise InputError(
            f"{folder} has no images in folders of characters{others}; allowed: files of {', '.join(formats())}"
        )
    if layout.has_splits:
        splits = {image.split: image.name.partition("/")[0] for image in layout.images}
        chosen = Path(folder, splits.get("test") or splits.get("validation") or splits["train"])
        raise InputError(
            f"{folder} has the splits {', '.join(splits.values())}; give one of them: {suggest(str(chosen))}"
        )
    if layout.loose:
        log.warning(
            "left out: %d images that are in no character's folder, such as %s",
            len(layout.loose), escape(layout.loose[0]),
        )  # fmt: skip
    if layout.left_out:
        log.info("left out: %s", describe(layout.left_out))
    return [(image.path, image.character) for image in layout.images]
