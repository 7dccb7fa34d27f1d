"""Builds a data set from config.folder, a folder of images per character, before training."""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections
from etils import epath

from animesion_jax import distributed, hub
from animesion_jax.config import check
from animesion_jax.data.splits import HELD_OUT
from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home, expand_utf8, read_json
from animesion_jax.models import family_of
from animesion_jax.preprocessing import Margin
from animesion_jax.workdir import run
from animesion_jax.workdir.names import CONFIG_FILE
from tfds_builders.common.build import build, is_built
from tfds_builders.folder.folder_dataset_builder import REPORT_FILE, Builder, FolderConfig
from tfds_builders.folder.heads import HeadCrops
from tfds_builders.folder.layout import FolderLayout, read_layout

# Share of train to hold out without validation images, if a character has enough images to hold one out.
HELD_OUT_PART = 1 / 8
MIN_IMAGES_TO_HOLD_OUT = 4
# The fields that choose what is built from a folder.
SETTINGS = ("min_images", "skip_broken", "detector", "min_confidence", "box_scale", "box_shift")

log = logging.getLogger(__name__)


def build_folder(
    config: ml_collections.ConfigDict, workdir: str | None = None, *, accept_changes: bool = False
) -> None:
    """Builds the data set of config.folder if it is not built yet, and sets the fields of the config to train on it.

    The data set is `folder/NAME_KEY` below config.data_dir. The key is a hash of the path of the folder, the names,
    sizes and times of its images, the config's min_images and skip_broken, and, with a detector, its file's content and
    the crops' margin. A changed folder is built again. Of several processes, which all see the same folder, the first
    builds.

    Args:
      config: `folder` and a local `detector` become absolute paths and `dataset` the name; `validation_split`,
        `held_out` and `test_split` change if the data set lacks these splits.
      workdir: of a run, which must have started with the same images of the folder; None for no run.
      accept_changes: resume with other images.

    Raises:
      InputError: the folder cannot be trained on, its images or the detector's file have changed since the workdir's
        run started, or the detector cannot be loaded.
      ModuleNotFoundError: the detector needs an extra that is missing.
    """
    check(config, family_of(config.model))
    folder = Path(expand_home(config.folder)).resolve()
    layout, crops = read_layout(folder), _load_crops(config)
    settings = FolderConfig(
        name=_dataset_name(layout, config, crops), min_images=config.min_images, skip_broken=config.skip_broken,
        crops=crops,
    )  # fmt: skip
    dataset = f"{Builder.name}/{settings.name}"
    if workdir and not accept_changes:
        _check_unchanged(workdir, config, str(folder), dataset, crops)
    with _errors_only("absl"):
        # TFDS warns that the config is ours, and that its folder is new.
        builder = Builder(config=settings, data_dir=epath.Path(expand_utf8(config.data_dir)))
        _build_in_first_process(builder, folder)
    report = read_json(epath.Path(builder.data_dir) / REPORT_FILE)
    counts = ", ".join(f"{count} {split}" for split, count in report["splits"].items())
    log.info(
        "%s: %d images of %d characters, %s; %s lists the images that are left out",
        dataset, report["images"], report["classes"], counts, builder.data_path / REPORT_FILE,
    )  # fmt: skip
    config.folder, config.dataset = str(folder), dataset
    _choose_splits(config, report)


@contextlib.contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Drops a logger's messages below errors during the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)


def _load_crops(config: ml_collections.ConfigDict) -> HeadCrops | None:
    """Loads the detector and makes its path absolute in the config; returns None without a detector."""
    if not config.detector:
        return None
    detector = load_detector(config.detector, config.min_confidence or None)
    if not hub.is_address(config.detector):
        config.detector = os.path.abspath(expand_home(config.detector))
    return HeadCrops(detector, Margin(config.box_scale, config.box_shift, config.fit), config.min_confidence)


def _dataset_name(layout: FolderLayout, config: ml_collections.ConfigDict, crops: HeadCrops | None) -> str:
    """Returns NAME_KEY, where NAME is the folder's name with the characters that TFDS allows."""
    facts = [str(layout.folder), str(Builder.VERSION), config.min_images, config.skip_broken, *layout.characters]
    facts += [crops.describe()] if crops else []
    for image in layout.images:
        status = image.path.stat() if image.path.exists() else None
        facts += [image.name, *((status.st_size, status.st_mtime_ns) if status else ())]
    key = hashlib.sha256(repr(facts).encode(errors="backslashreplace")).hexdigest()[:12]
    return f"{re.sub('[^A-Za-z0-9]+', '_', layout.folder.name).strip('_') or 'images'}_{key}"


def _check_unchanged(
    workdir: str, config: ml_collections.ConfigDict, folder: str, dataset: str, crops: HeadCrops | None
) -> None:
    """Raises InputError if a workdir's run started with other images of the folder, before any image is read.

    With other `SETTINGS`, training compares the configs.
    """
    if not (epath.Path(expand_home(workdir)) / CONFIG_FILE).exists():
        return
    begun = run.read_config(workdir)
    same_settings = all(begun[name] == config[name] for name in SETTINGS)
    if same_settings and begun.folder == folder and begun.dataset != dataset:
        before = run.read_origin(workdir).get("crops")
        if crops and before and before["sha256"] != crops.detector.sha256:
            raise InputError(
                f"the detector {config.detector} has changed since {workdir} was started (SHA-256 "
                f"{before['sha256'][:8]}, now {crops.detector.sha256[:8]}); restore it, give another --workdir, or "
                "--accept_changes to continue with the new one"
            )
        raise InputError(
            f"the images in {folder} have changed since {workdir} was started (data set {begun.dataset}, now {dataset})"
            "; restore them, give another --workdir, or, if the characters are the same, --accept_changes"
        )


def _build_in_first_process(builder: Any, folder: Path) -> None:
    """Builds a data set that is not built, in the first process; every process raises if that fails."""
    failure = None
    if distributed.is_first() and not is_built(builder):
        log.info("building a data set of %s in %s, once", folder, builder.data_path)
        try:
            build(builder, folder)
        except InputError as error:
            failure = error
    if distributed.any_process(failure is not None):
        raise failure or InputError(f"{folder} cannot be trained on; see the message of the first process")


def _choose_splits(config: ml_collections.ConfigDict, report: dict[str, Any]) -> None:
    """Replaces the default validation and test splits that the data set lacks."""
    if config.validation_split == "validation" and not report["splits"]["validation"]:
        most = max(splits["train"] for splits in report["by_class"].values())
        if config.held_out or most >= MIN_IMAGES_TO_HOLD_OUT:
            config.held_out = config.held_out or HELD_OUT_PART
            config.validation_split = HELD_OUT
            log.info("no validation images: holding out %g of every character's train split", config.held_out)
        else:
            config.validation_split = ""
            log.info("no validation images, and too few images to hold some out: the best weights are the last ones")
    if config.test_split == "test" and not report["splits"]["test"]:
        config.test_split = ""
        log.info("no test images")
