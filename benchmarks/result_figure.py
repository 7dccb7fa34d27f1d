"""Draws the README's figure from the output of `explain`: each face, its explanation and the model's answer.

python -m animesion_jax.main explain --bundle=runs/demo/demo.msgpack --output=explained/ runs/demo/faces > rows.jsonl
python benchmarks/result_figure.py rows.jsonl --output=docs/figures/toyfaces_result.jpg

The faces are those of `python -m tfds_builders.toyfaces.draw`: CHARACTER_NUMBER.png. A title is green if it names
CHARACTER.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLUMNS = 5
# Width and height of a cell in inches, and the colours of right and wrong answers.
CELL = (2.2, 1.35)
RIGHT, WRONG = "#1a7f37", "#cf222e"


def draw(rows: list[dict[str, Any]], output: Path) -> None:
    """Writes an image with one cell per row of `explain`."""
    num_rows = -(-len(rows) // COLUMNS)
    figure, axes = plt.subplots(num_rows, COLUMNS, figsize=(COLUMNS * CELL[0], num_rows * CELL[1]), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        overlay = Image.open(row["overlay"]).convert("RGB")
        face = Image.open(row["path"]).convert("RGB").resize(overlay.size)
        axis.imshow(np.concatenate([np.asarray(face), np.asarray(overlay)], axis=1))
        is_right = Path(row["path"]).stem.rpartition("_")[0] == row["class"]
        axis.set_title(f"{row['class']} {row['probability']:.0%}", fontsize=9, color=RIGHT if is_right else WRONG)
    figure.tight_layout(pad=0.4)
    figure.savefig(output, dpi=90)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="JSON lines that explain printed")
    parser.add_argument("--output", type=Path, required=True, help="image file to write")
    flags = parser.parse_args()
    draw([json.loads(line) for line in flags.rows.read_bytes().splitlines()], flags.output)


if __name__ == "__main__":
    main()
