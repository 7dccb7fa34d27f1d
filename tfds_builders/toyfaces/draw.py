r"""Draws new faces of the toyfaces characters, or a sample grid.

python -m tfds_builders.toyfaces.draw --output=faces --per_class=1
python -m tfds_builders.toyfaces.draw --grid=toyfaces.png
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from tfds_builders.toyfaces.drawing.characters import CHARACTERS
from tfds_builders.toyfaces.drawing.faces import draw_image

# The indices of the data set start at 0 and stay far below.
FIRST_NEW_INDEX = 100_000
GRID_COLUMNS = 6
CAPTION = 18


def write_new_faces(folder: Path, per_class: int) -> list[Path]:
    """Writes faces `NAME_NN.png` that are not in the data set; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for class_id, character in enumerate(CHARACTERS):
        for number in range(per_class):
            paths.append(folder / f"{character.name}_{number:02d}.png")
            draw_image(class_id, FIRST_NEW_INDEX + number).save(paths[-1])
    return paths


def draw_grid(size: int = 96) -> Image.Image:
    """Returns a grid of all characters in two columns, each with its name and six images."""
    rows = (len(CHARACTERS) + 1) // 2
    width = GRID_COLUMNS * size + 12
    grid = Image.new("RGB", (2 * width, rows * (size + CAPTION)), "white")
    pen = ImageDraw.Draw(grid)
    for class_id, character in enumerate(CHARACTERS):
        left, top = class_id // rows * width, class_id % rows * (size + CAPTION)
        pen.text((left + 4, top + 2), character.name, fill="black")
        for column in range(GRID_COLUMNS):
            grid.paste(draw_image(class_id, column, size), (left + column * size, top + CAPTION))
    return grid


def main() -> None:
    """Runs the command line; ends with one line and status 2 for a bad flag or path."""
    # Suppress the usage so that errors are one line; the docstring shows it.
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="folder for new faces, named by character")
    parser.add_argument("--per_class", type=int, default=1, help="new faces per character; default: 1")
    parser.add_argument("--grid", type=Path, help="PNG file for the sample grid")
    flags = parser.parse_args()
    if not flags.output and not flags.grid:
        parser.error("nothing to do: give --output=FOLDER or --grid=FILE.png")
    if flags.per_class < 1:
        parser.error(f"--per_class is {flags.per_class}; allowed: a whole number from 1")
    if flags.grid and flags.grid.suffix.lower() != ".png":
        parser.error(f"--grid is {flags.grid}; allowed: a file name that ends in .png")
    try:
        write(flags.output, flags.per_class, flags.grid)
    except OSError as error:
        path = error.filename or flags.output or flags.grid
        parser.error(f"cannot write {path}: {error.strerror}; give a path in a folder that can be written")


def write(output: Path | None, per_class: int, grid: Path | None) -> None:
    """Writes new faces, the grid, or both, and prints their paths."""
    if output:
        print(f"wrote {len(write_new_faces(output, per_class))} new faces to {output}")
    if grid:
        # A palette cuts the file to a third without a visible difference.
        draw_grid().quantize(256).save(grid, optimize=True)
        print(f"wrote {grid}")


if __name__ == "__main__":
    main()
