"""Prints the images per second of the input pipeline alone, for each cache, and of two peers.

python benchmarks/input_pipeline.py --dataset=toyfaces --data_dir=runs/demo/data
python benchmarks/input_pipeline.py --dataset=dafre/min20 --data_dir=DATA --peers tf.data DataLoader

Our pipeline ends with uint8 batches in host memory; the device augments them later. "tf.data" is TensorFlow's usual
pipeline with crop, flip and colour jitter on the host. "DataLoader" is PyTorch's, as in the paper's framework: Pillow
and torchvision's transforms in one process per core (needs torch and torchvision). Both read the same records, shuffle,
and end with normalised float batches. The DataLoader's records are in memory.
"""

import argparse
import io
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections
import tensorflow as tf

CACHES = ("none", "encoded", "decoded")
PEERS = ("tf.data", "DataLoader")
# The decoded cache yields 20,000 images in a tenth of a second, too short to time.
MIN_SECONDS = 3.0
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests, which are not installed

from animesion_jax.config import default_config, resolve  # noqa: E402
from animesion_jax.data.datasets import Dataset, load_dataset  # noqa: E402
from animesion_jax.data.decode import decode_and_resize  # noqa: E402
from animesion_jax.data.splits import select_examples  # noqa: E402
from animesion_jax.data.train_data import TrainData  # noqa: E402
from animesion_jax.models import family_of  # noqa: E402


def tf_data(config: ml_collections.ConfigDict, dataset: Dataset) -> Iterator[Any]:
    """Returns endless batches that tf.data augments on the host."""
    examples = select_examples(config, dataset, config.train_split)
    size, jitter = config.image_size, config.augment

    def augment(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = decode_and_resize(record["image"], size + config.crop_margin, config.fit)
        image = tf.image.random_crop(image, (size, size, 3))
        image = tf.image.convert_image_dtype(tf.image.random_flip_left_right(image), tf.float32)
        image = tf.image.random_brightness(image, jitter.brightness)
        image = tf.image.random_contrast(image, 1 - jitter.contrast, 1 + jitter.contrast)
        image = tf.image.random_saturation(image, 1 - jitter.saturation, 1 + jitter.saturation)
        image = tf.clip_by_value(tf.image.random_hue(image, jitter.hue), 0.0, 1.0)
        return {"image": (image - config.mean) / config.std, "label": record["label"]}

    records = examples.records(0, examples.num_examples).shuffle(min(examples.num_examples, 10_000)).repeat()
    batches = records.map(augment, tf.data.AUTOTUNE).batch(config.batch_size, drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def data_loader(config: ml_collections.ConfigDict, dataset: Dataset) -> Iterator[Any]:
    """Returns endless batches of a PyTorch DataLoader."""
    import torch
    from PIL import Image

    from tests.peers.torch_models import torchvision

    transforms = torchvision.transforms
    examples = select_examples(config, dataset, config.train_split)
    kept = [
        (record["image"], int(record["label"]))
        for record in examples.records(0, examples.num_examples).as_numpy_iterator()
    ]
    size, side = config.image_size, config.image_size + config.crop_margin
    jitter = config.augment
    transform = transforms.Compose(
        [
            transforms.Resize((side, side)),
            transforms.RandomCrop(size),
            transforms.RandomHorizontalFlip(jitter.flip),
            transforms.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
            transforms.ToTensor(),
            transforms.Normalize(config.mean, config.std),
        ]
    )

    class Faces(torch.utils.data.Dataset):
        """The records."""

        def __len__(self) -> int:
            return len(kept)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            encoded, label = kept[place]
            return transform(Image.open(io.BytesIO(encoded)).convert("RGB")), label

    loader = torch.utils.data.DataLoader(
        Faces(), config.batch_size, shuffle=True, num_workers=os.cpu_count(), drop_last=True, persistent_workers=True
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="toyfaces", help="TFDS name; default: toyfaces")
    parser.add_argument("--data_dir", required=True, help="where the data set was built")
    parser.add_argument("--images", type=int, default=20_000, help="time at least this many images; default: 20,000")
    parser.add_argument("--caches", nargs="*", default=CACHES, choices=CACHES, help="default: all three")
    parser.add_argument("--peers", nargs="*", default=(), choices=PEERS, help="default: none")
    flags = parser.parse_args()
    config = default_config()
    config = resolve(config, family_of(config.model))
    dataset = load_dataset(flags.dataset, flags.data_dir)
    print(f"{flags.dataset}, batches of {config.batch_size}, {config.image_size} + {config.crop_margin} px\n")
    print("| pipeline | images/s | to the first batch, s |")
    print("|---|---:|---:|")
    for name in (*flags.caches, *flags.peers):
        started = time.perf_counter()
        if name in CACHES:
            config.data.cache = name
            batches = TrainData(config, dataset).batches()
        else:
            batches = {"tf.data": tf_data, "DataLoader": data_loader}[name](config, dataset)
        next(batches)
        filled = time.perf_counter()
        steps, seconds = 0, 0.0
        while (steps + 1) * config.batch_size <= flags.images or seconds < MIN_SECONDS:
            next(batches)
            steps, seconds = steps + 1, time.perf_counter() - filled
        label = f"cache '{name}'" if name in CACHES else name
        print(f"| {label} | {steps * config.batch_size / seconds:,.0f} | {filled - started:.1f} |", flush=True)


if __name__ == "__main__":
    main()
