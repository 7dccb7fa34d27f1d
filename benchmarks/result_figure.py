"""Draws the README's figure from the output of `predict`: each face with the model's answer.

animesion predict --bundle=runs/demo/demo.msgpack --format=jsonl runs/demo/faces > rows.jsonl
python benchmarks/result_figure.py rows.jsonl --output=docs/figures/toyfaces_result.jpg

The faces are those of `python -m tfds_builders.toyfaces.draw`: CHARACTER_NUMBER.png. A title is green if it names
CHARACTER, grey if it is "unknown".
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLUMNS = 10
# Width and height of a cell in inches, and the colours of right, wrong and unknown answers.
CELL = (1.15, 1.32)
RIGHT, WRONG, UNKNOWN = "#1a7f37", "#cf222e", "#6e7781"


def draw(rows: list[dict[str, Any]], output: Path) -> None:
    """Writes an image with one cell per row of `predict`."""
    num_rows = -(-len(rows) // COLUMNS)
    figure, axes = plt.subplots(num_rows, COLUMNS, figsize=(COLUMNS * CELL[0], num_rows * CELL[1]), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        axis.imshow(Image.open(row["path"]).convert("RGB"))
        text, color = title(row)
        axis.set_title(text, color=color, fontsize=9, pad=3)
    figure.tight_layout(pad=0.3, w_pad=0.2, h_pad=0.5)
    figure.savefig(output, dpi=110, pil_kwargs={"quality": 90})


def title(row: dict[str, Any]) -> tuple[str, str]:
    """Returns the model's answer and the colour of its text."""
    likeliest = row["predictions"][0]
    if row["unknown"]:
        return "unknown", UNKNOWN
    is_right = Path(row["path"]).stem.rpartition("_")[0] == likeliest["class"]
    return f"{likeliest['class']} {likeliest['probability']:.0%}", RIGHT if is_right else WRONG


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON lines that predict printed")
    parser.add_argument("--output", type=Path, required=True, help="image file to write")
    flags = parser.parse_args()
    draw([json.loads(line) for line in flags.rows.read_bytes().splitlines()], flags.output)


if __name__ == "__main__":
    main()
