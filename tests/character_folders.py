"""Folders of random images per character, and a small config that trains on one."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.configs import folder as folder_config

# The rule of DAF:re splits them 14 / 1 / 5, 7 / 0 / 3 and 2 / 1 / 1 in order of the names.
SIZES = {"ai": 20, "mi ku": 10, "初音": 4}
TEST_NAMES = {
    *(f"ai/{i:02d}.png" for i in range(15, 20)), *(f"mi ku/{i:02d}.png" for i in range(7, 10)), "初音/03.png",
}  # fmt: skip


def random_pixels(seed, shape=(12, 14, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def draw_image(path, seed, **options):
    """Writes an image of random pixels and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_pixels(seed)).save(path, **options)
    return path


def draw_folder(root, sizes=None, start=0):
    """Writes CHARACTER/NN.png below a folder and returns it; another `start` gives other pixels."""
    for number, (name, count) in enumerate((SIZES if sizes is None else sizes).items()):
        for i in range(count):
            draw_image(root / name / f"{i:02d}.png", (start, number, i))
    return root


def toy_folder_config(folder, data_dir):
    config = folder_config.get_config("shallownet")
    config.folder, config.data_dir = str(folder), str(data_dir)
    config.image_size, config.crop_margin, config.epochs, config.batch_size = 16, 4, 3, 8
    config.eval_batch_size = 8
    return config


def stored_records(builder):
    """Returns the stored examples by file name, with their split."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        record["filename"].decode(): record | {"split": split}
        for split in builder.info.splits
        for record in builder.as_dataset(split, decoders=decoders).as_numpy_iterator()
    }
