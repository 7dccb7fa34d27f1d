"""Prints the speed of naming the heads on whole pictures: each stage alone on all cores, and all together.

python benchmarks/find.py --detector=lbpcascade_animeface.xml
python benchmarks/find.py --detector=lbpcascade_animeface.xml --bundle faces.msgpack faces.onnx --faces=faces
python benchmarks/yolo_shape.py --output=yolov8s.onnx
python benchmarks/find.py --detector=yolov8s.onnx --pictures=100

The pictures are JPEG files of 1,000 x 1,400 with a few drawn faces, or those of --faces, on a smooth background. The
default bundles are a resnet18 with random weights at 64 px, by JAX and on ONNX Runtime.

| stage | is |
|---|---|
| decode | files to pixels, in threads |
| detect | pixels to boxes and crops, in threads |
| name | crops to probabilities, in batches |
| together | `predict_pictures`, as in `animesion predict --detector` |

"alone" is 1 / (1/decode + 1/detect + 1/name), and "share" is together / alone. A round measures all stages on the same
pictures, so that a change of the machine's speed hits them alike; every round has other pictures. CPU milliseconds
count no other program.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the builders, which are not installed

from animesion_jax.bundle import Bundle  # noqa: E402
from animesion_jax.images import find_images, prefetch, read_image  # noqa: E402
from animesion_jax.inference.heads import HeadFinder, head_finder  # noqa: E402
from animesion_jax.inference.namer import PICTURES_AHEAD, Namer  # noqa: E402
from animesion_jax.inference.recognizer import Recognizer, load  # noqa: E402
from animesion_jax.models import create_model, init_variables  # noqa: E402
from tfds_builders.toyfaces.drawing.characters import CHARACTERS  # noqa: E402
from tfds_builders.toyfaces.drawing.faces import draw_image  # noqa: E402

# Width and height of a picture, its number of faces and their sides, in pixels.
PICTURE = (1000, 1400)
FACES, SIDES = (1, 4), (120, 280)
# Different drawn faces, and JPEG's quality.
DRAWN, QUALITY = 60, 90
# Decoded pictures take 4 MB each.
PICTURES_PER_ROUND = 100
STAGES = ("decode", "detect", "name", "together")


def compose(folder: Path, count: int, faces: Sequence[Image.Image]) -> list[Path]:
    """Writes pictures with faces on clouds of colour; returns their paths."""
    random, files = np.random.default_rng(0), []
    for number in tqdm(range(count), desc="composing", leave=False, disable=None):
        clouds = Image.fromarray(random.integers(0, 256, (14, 10, 3), np.uint8))
        picture = clouds.resize(PICTURE, Image.Resampling.BICUBIC)
        for _ in range(random.integers(FACES[0], FACES[1] + 1)):
            side = int(random.integers(*SIDES))
            place = tuple(int(random.integers(0, length - side)) for length in PICTURE)
            picture.paste(faces[random.integers(len(faces))].resize((side, side)), place)
        files.append(folder / f"{number:05d}.jpg")
        picture.save(files[-1], quality=QUALITY)
    return files


def random_recognizers(folder: Path, name: str, size: int, batch_size: int) -> dict[str, Namer]:
    """Returns recognizers of one model with random weights, by JAX and on ONNX Runtime."""
    from animesion_jax.export.onnx import write_onnx

    classes = tuple(character.name for character in CHARACTERS)
    model = create_model(name, num_classes=len(classes), image_size=size)
    variables = jax.tree.map(np.asarray, init_variables(model, size, seed=0))
    bundle = Bundle(model, variables, classes, size, (0.5,) * 3, (0.5,) * 3, {}, {"name": name})
    (file,) = write_onnx(bundle, str(folder / "model.onnx"), normalize_inside=True)
    return {"JAX": Recognizer(bundle, batch_size), "ONNX Runtime": load(str(file), batch_size)}


class Clock:
    """Wall and CPU seconds by label."""

    def __init__(self):
        self.wall, self.cpu = Counter(), Counter()

    @contextmanager
    def __call__(self, *label: str) -> Iterator[None]:
        """Adds the seconds of a block."""
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.wall[label] += time.perf_counter() - wall
        self.cpu[label] += _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(files: Sequence[Path], finder: HeadFinder, namers: dict[str, Namer]) -> tuple[Clock, int]:
    """Returns the times of all stages, and the number of heads."""
    clock, heads = Clock(), 0
    for start in tqdm(range(0, len(files), PICTURES_PER_ROUND), desc="rounds", leave=False, disable=None):
        chosen = files[start : start + PICTURES_PER_ROUND]
        with clock("decode"):
            images = [image for _, image in prefetch(read_image, chosen, PICTURES_AHEAD)]
        with clock("detect"):
            found = [result for _, result in prefetch(finder.find, images, PICTURES_AHEAD)]
        crops = [head.pixels for each in found for head in each]
        heads += len(crops)
        for name, namer in namers.items():
            if crops:
                with clock("name", name):
                    namer.probabilities(np.stack(crops))
            with clock("together", name):
                rows = list(namer.predict_pictures(chosen, finder))
            assert sum(len(row["faces"]) for row in rows) == len(crops)
    return clock, heads


def print_tables(clock: Clock, pictures: int, names: Sequence[str]) -> None:
    """Prints pictures per second and CPU milliseconds per picture, a row per recognizer."""
    header = "| name | decode | detect | name | alone | together | share |\n|---|---:|---:|---:|---:|---:|---:|"
    units: dict[str, tuple[Counter, Callable[[float], Any]]] = {
        "pictures/s": (clock.wall, lambda seconds: f"{pictures / seconds:,.1f}" if seconds else "-"),
        "CPU ms per picture": (clock.cpu, lambda seconds: f"{1000 * seconds / pictures:,.1f}"),
    }
    for unit, (seconds, shown) in units.items():
        print(f"\n{unit}\n\n{header}")
        for name in names:
            parts = [seconds[("decode",)], seconds[("detect",)], seconds[("name", name)]]
            together = seconds[("together", name)]
            cells = [*parts, sum(parts), together]
            print(f"| {name} | {' | '.join(map(shown, cells))} | {sum(parts) / together:.0%} |")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", required=True, help="*.onnx or *.xml")
    parser.add_argument("--bundle", nargs="+", default=(), help="files written by export, *.msgpack or *.onnx")
    parser.add_argument("--faces", help="folder of face crops to paste; default: drawn ones")
    parser.add_argument("--pictures", type=int, default=1000, help="default: 1,000")
    parser.add_argument("--model", default="resnet18", help="without --bundle; default: resnet18")
    parser.add_argument("--image_size", type=int, default=64, help="without --bundle, in pixels; default: 64")
    parser.add_argument("--batch_size", type=int, default=32, help="crops per forward pass; default: 32")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        namers = {file: load(file, flags.batch_size) for file in flags.bundle}
        namers = namers or random_recognizers(folder, flags.model, flags.image_size, flags.batch_size)
        faces = map(read_image, find_images([flags.faces])) if flags.faces else (
            draw_image(number % len(CHARACTERS), number) for number in range(DRAWN)
        )  # fmt: skip
        files = compose(folder, flags.pictures, list(faces))
        finder = head_finder(next(iter(namers.values())).bundle, flags.detector)
        measure(files[: 2 * PICTURES_AHEAD], finder, namers)  # compiles
        clock, heads = measure(files, finder, namers)
    print(f"{len(files)} pictures, {heads} heads, {os.cpu_count()} cores, batches of {flags.batch_size}")
    print_tables(clock, len(files), list(namers))


if __name__ == "__main__":
    main()
