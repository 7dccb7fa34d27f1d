"""Prints the images per second of the input pipeline alone, for each cache.

python benchmarks/input_pipeline.py --dataset=toyfaces --data_dir=runs/demo/data
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

CACHES = ("none", "encoded", "decoded")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for `from configs import common`

from animesion_jax.data import TrainData  # noqa: E402
from animesion_jax.datasets import load_dataset  # noqa: E402
from configs import common  # noqa: E402


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="toyfaces", help="TFDS name; default: toyfaces")
    parser.add_argument("--data_dir", required=True, help="where the data set was built")
    parser.add_argument("--image_size", type=int, default=128, help="side of the model's input; default: 128")
    parser.add_argument("--batch_size", type=int, default=64, help="images of a batch; default: 64")
    parser.add_argument("--images", type=int, default=20_000, help="images to time per cache; default: 20,000")
    parser.add_argument("--caches", nargs="+", default=CACHES, choices=CACHES, help="default: all three")
    flags = parser.parse_args()
    config = common.get_config()
    config.image_size, config.batch_size = flags.image_size, flags.batch_size
    dataset = load_dataset(flags.dataset, flags.data_dir)
    steps = max(flags.images // config.batch_size, 2)
    print(f"{flags.dataset}, batches of {config.batch_size}, {flags.image_size} + {config.crop_margin} px\n")
    print(f"{'cache':<10}{'images/s':>12}{'to fill, s':>12}")
    for cache in flags.caches:
        config.data.cache = cache
        started = time.perf_counter()
        batches = TrainData(config, dataset).batches()
        next(batches)
        filled = time.perf_counter()
        for _ in itertools.islice(batches, steps):
            pass
        seconds = time.perf_counter() - filled
        print(f"{cache:<10}{steps * config.batch_size / seconds:>12,.0f}{filled - started:>12.1f}")


if __name__ == "__main__":
    main()
