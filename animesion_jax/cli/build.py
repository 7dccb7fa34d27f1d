"""The command `build`."""

import argparse
import dataclasses
import importlib
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from animesion_jax.cli.flags import make_parser
from animesion_jax.errors import InputError, command, escape
from animesion_jax.files import expand_home, expand_utf8

# The config that trains on a data set, by the name of its builder.
TRAINED_BY = {"dafre": "dafre_128:MODEL", "moeimouto": "moeimouto_128:MODEL", "toyfaces": "demo"}

log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed arguments of the command."""
    parser = make_parser(
        "build",
        "Builds a data set: dafre/released, dafre/min20, dafre/min10, dafre/min5, moeimouto/kaggle, or toyfaces, which "
        "needs no files. `tfds build` in the folder of its builder does the same. Training builds the data set of your "
        "own folders.",
        "dafre/released --manual_dir=MANUAL --data_dir=DATA --num_shards=32",
        compiles=False,
    )
    parser.add_argument("dataset", metavar="NAME[/CONFIG]", help="default CONFIG: the first one above")
    parser.add_argument("--manual_dir", metavar="FOLDER", help="folder of the files that you downloaded")
    parser.add_argument(
        "--data_dir", metavar="FOLDER", default="~/tensorflow_datasets",
        help="folder of built data sets, as in --config.data_dir; local or gs://; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--num_shards", type=int, metavar="N",
        help="files per split, at least one for every process that trains; default: by size, 1 if small",
    )  # fmt: skip
    parser.add_argument(
        "--skip_broken", action="store_true",
        help="leave out unreadable images and those of a wrong format, instead of stopping; builds NAME/CONFIG_skip",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.num_shards is not None and args.num_shards < 1:
        parser.error(f"--num_shards is {args.num_shards}; allowed: a whole number from 1")
    if not args.data_dir:
        parser.error("--data_dir is empty; allowed: a folder")
    return args


def main(argv: Sequence[str]) -> int:
    """Builds a data set that is not built yet; prints where it is and how to train on it."""
    args = parse_args(argv)
    name = args.dataset.partition("/")[0]
    if name == "folder":
        train = command("", config="folder:MODEL", **{"config.folder": "PATH"}, workdir="RUN")
        raise InputError(f"training builds the data set of your folder: {train}")
    if name not in TRAINED_BY:
        raise InputError(f"unknown data set '{args.dataset}'; allowed: {', '.join(TRAINED_BY)}")
    # This import hides the accelerators from TensorFlow, before the builder starts it.
    from animesion_jax.data.datasets import load_dataset
    from tfds_builders.common.build import is_built

    builder = _make_builder(args)
    was_built = is_built(builder)
    if not was_built:
        _build(builder, args)
    dataset = f"{name}/{builder.builder_config.name}" if builder.builder_config else name
    built = load_dataset(dataset, args.data_dir)
    splits = built.builder.info.splits
    counts = ", ".join(f"{split.num_examples:,} {each}" for each, split in splits.items())
    print(f"{dataset} {'was built already' if was_built else 'is built'}: {escape(str(built.builder.data_path))}")
    shards = splits["train"].num_shards
    print(f"{counts} images of {len(built.class_names):,} characters; train has {shards} shard{'s' * (shards != 1)}")
    if was_built:
        print("remove that folder to build it again")
    flags = {"config.dataset": dataset, "config.data_dir": args.data_dir}
    print(f"train on it: {command('', config=TRAINED_BY[name], **flags, workdir=f'runs/{name}')}")
    return 0


def _make_builder(args: argparse.Namespace) -> Any:
    """Returns the builder of a data set and config.

    Raises:
      InputError: no such config, or a flag that its builder does not take.
    """
    from etils import epath

    from animesion_jax.data.datasets import SKIP

    name, has_config, config = args.dataset.partition("/")
    builder = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder
    configs = {each.name: each for each in builder.BUILDER_CONFIGS}
    if has_config and config not in configs:
        allowed = ", ".join(f"{name}/{each}" for each in configs) or name
        raise InputError(f"unknown data set '{args.dataset}'; allowed: {allowed}")
    reads_files = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    for flag in ("manual_dir", "skip_broken"):
        if getattr(args, flag) and not reads_files:
            raise InputError(f"{name} reads no files and takes no --{flag}; leave it out")
    settings = configs[config] if has_config else next(iter(configs.values()), None)
    if args.skip_broken:
        settings = dataclasses.replace(settings, name=settings.name + SKIP, skip_broken=True)
    return builder(config=settings, data_dir=epath.Path(expand_utf8(args.data_dir)))


def _build(builder: Any, args: argparse.Namespace) -> None:
    """Builds a data set.

    Raises:
      InputError: the files of the manual folder are missing or cannot be built from.
    """
    from tfds_builders.common.build import build

    manual, files = expand_home(args.manual_dir or ""), builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if files and not manual:
        raise InputError(f"{args.dataset} needs --manual_dir=FOLDER; {files}")
    if files and not (os.path.isdir(manual) and os.listdir(manual)):
        raise InputError(f"--manual_dir={args.manual_dir} is not a folder with files; {files}")
    log.info("building %s in %s", args.dataset, escape(str(builder.data_path)))
    start = time.monotonic()
    build(builder, manual or None, args.num_shards)
    log.info("built in %.0f s", time.monotonic() - start)
