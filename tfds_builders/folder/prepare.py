"""From config.folder to a built data set, and to a config that trains on it like on any other."""

import contextlib
import hashlib
import io
import logging
import re
import sys
from pathlib import Path

import ml_collections
import tensorflow_datasets as tfds
from etils import epath

from animesion_jax import distributed
from animesion_jax.data.splits import HELD_OUT
from animesion_jax.errors import InputError
from animesion_jax.files import read_json
from animesion_jax.workdir import run
from animesion_jax.workdir.names import CONFIG_FILE
from tfds_builders.folder.folder_dataset_builder import REPORT_FILE, Builder, FolderConfig
from tfds_builders.folder.layout import FolderLayout, read_layout

# What is held out of train where nothing else is there to validate on, and how many pictures of a character it takes
# for this to be one.
HELD_OUT_PART = 1 / 8
FEWEST_FOR_HELD_OUT = 4

log = logging.getLogger(__name__)


def prepare(config: ml_collections.ConfigDict, workdir: str | None = None, *, accept_changes: bool = False) -> None:
    """Builds the data set of `config.folder`, unless that was done, and sets the fields that say to train on it.

    The data set is `folder/NAME_KEY` below config.data_dir. The key stands for the path of the folder, its pictures'
    names, sizes and times, and what is to be left out: what has changed is built anew, and what has not is used again.
    Of several processes, which all see the same folder, the first builds.

    Args:
      config: its `folder` becomes an absolute path, its `dataset` the name; `validation_split`, `held_out` and
        `test_split` change where the data set lacks these splits.
      workdir: of a run that must not have been begun with other pictures of the folder; None for no run.
      accept_changes: go on with other pictures.

    Raises:
      InputError: the folder cannot be trained on, or differs from what the workdir was begun with.
    """
    run.check_config(config)
    folder = Path(config.folder).expanduser().resolve()
    settings = FolderConfig(
        name=_name_of(read_layout(folder), config), min_images=config.min_images, skip_broken=config.skip_broken
    )
    dataset = f"{Builder.name}/{settings.name}"
    if workdir and not accept_changes:
        _check_unchanged(workdir, config, str(folder), dataset)
    builder = Builder(config=settings, data_dir=epath.Path(config.data_dir).expanduser())
    _build(builder, folder)
    report = read_json(epath.Path(builder.data_dir) / REPORT_FILE)
    log.info(
        "%s: %d pictures of %d characters, %s; %s says what was left out",
        dataset, report["images"], report["classes"],
        ", ".join(f"{count} {split}" for split, count in report["splits"].items()), builder.data_path / REPORT_FILE,
    )  # fmt: skip
    config.folder, config.dataset = str(folder), dataset
    _choose_splits(config, report)


def _name_of(layout: FolderLayout, config: ml_collections.ConfigDict) -> str:
    """Returns NAME_KEY, with the folder's name as far as it is fit for one of TFDS."""
    told = hashlib.sha256()
    facts = [str(layout.folder), str(Builder.VERSION), config.min_images, config.skip_broken, *layout.characters]
    for picture in layout.images:
        status = picture.path.stat() if picture.path.exists() else None
        facts += [picture.name, *((status.st_size, status.st_mtime_ns) if status else ())]
    told.update(repr(facts).encode(errors="backslashreplace"))
    return f"{re.sub('[^A-Za-z0-9]+', '_', layout.folder.name).strip('_') or 'images'}_{told.hexdigest()[:12]}"


def _check_unchanged(workdir: str, config: ml_collections.ConfigDict, folder: str, dataset: str) -> None:
    """Raises InputError if a workdir was begun with other pictures of the folder; the first to tell, before reading."""
    if not (epath.Path(workdir).expanduser() / CONFIG_FILE).exists():
        return
    begun = run.read_config(workdir)
    same = all(begun[name] == config[name] for name in ("min_images", "skip_broken"))
    if same and begun.folder == folder and begun.dataset != dataset:
        raise InputError(
            f"the pictures in {folder} have changed since {workdir} was begun (data set {begun.dataset}, now "
            f"{dataset}); put them back as they were, give another --workdir, or, where the characters are "
            "the same, --accept_changes to go on with them"
        )


def _build(builder: Builder, folder: Path) -> None:
    """Has the first process build what is not built; every process raises if that fails."""
    refused = None
    if distributed.is_first() and not builder.is_prepared():
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        log.info("building a data set of %s in %s, once", folder, builder.data_path)
        try:
            # TFDS prints what it does; our stdout is JSON.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
        except InputError as error:
            refused = error
        except OSError:
            # Another start may have built the same in the meantime; which of the two is kept makes no difference.
            if not builder.is_prepared():
                raise
    if distributed.any_process(refused is not None):
        raise refused or InputError(f"{folder} cannot be trained on; the first process says why")


def _choose_splits(config: ml_collections.ConfigDict, report: dict) -> None:
    """Sets what to validate and test on where the config names splits that the data set lacks."""
    if config.validation_split == "validation" and not report["splits"]["validation"]:
        most = max(splits["train"] for splits in report["by_class"].values())
        if config.held_out or most >= FEWEST_FOR_HELD_OUT:
            config.held_out = config.held_out or HELD_OUT_PART
            config.validation_split = HELD_OUT
            log.info("no picture to validate on: %g of every character's train are held out", config.held_out)
        else:
            config.validation_split = ""
            log.info("no picture to validate on, and too few in train to hold some out: best will mean last")
    if config.test_split == "test" and not report["splits"]["test"]:
        config.test_split = ""
        log.info("no picture to test on")
