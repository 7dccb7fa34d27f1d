"""Draws new faces of the toyfaces characters.

python -m tfds_builders.toyfaces.draw --output=faces --per_class=1
"""

import argparse
import sys
from pathlib import Path

from animesion_jax.errors import InputError, escape
from animesion_jax.files import expand_home
from tfds_builders.toyfaces.drawing.characters import CHARACTERS
from tfds_builders.toyfaces.drawing.faces import draw_image

# The indices of the data set start at 0 and stay far below.
FIRST_NEW_INDEX = 100_000


def write_new_faces(folder: Path, per_class: int) -> list[Path]:
    """Writes faces `NAME_NN.png` that are not in the data set; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for class_id, character in enumerate(CHARACTERS):
        for number in range(per_class):
            paths.append(folder / f"{character.name}_{number:02d}.png")
            draw_image(class_id, FIRST_NEW_INDEX + number).save(paths[-1])
    return paths


def main() -> None:
    """Runs the command line; ends with one line and status 2 for a bad flag or path."""
    # Suppress the usage so that errors are one line; the docstring shows it.
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, help="folder for new faces, named by character")
    parser.add_argument("--per_class", type=int, default=1, help="new faces per character; default: 1")
    flags = parser.parse_args()
    if flags.per_class < 1:
        parser.error(f"--per_class is {flags.per_class}; allowed: a whole number from 1")
    try:
        paths = write_new_faces(Path(expand_home(flags.output)), flags.per_class)
    except InputError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}; give a path in a folder that can be written")
    sys.stdout.reconfigure(errors="backslashreplace")
    print(f"wrote {len(paths)} new faces to {escape(flags.output)}")


if __name__ == "__main__":
    main()
