"""Built TFDS data sets, and the undecoded examples of their splits."""

import dataclasses
import functools
import glob
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from animesion_jax.errors import InputError, command, join_some
from animesion_jax.files import expand_utf8

# Our builders, with the flags that `animesion build` needs besides --data_dir.
BUILDERS = {"dafre": {"manual_dir": "MANUAL"}, "moeimouto": {"manual_dir": "MANUAL"}, "toyfaces": {"num_shards": 4}}
# Ending of the config names that `animesion build --skip_broken` builds.
SKIP = "_skip"
# Disable tf.data's autotuning. Its thread sleeps for up to a minute, and the end of a data set waits for it: every
# fifth epoch of 17 s ended with a pause of 3 to 19 s.
READING = tf.data.Options()
READING.autotune.enabled = False
# TFDS interleaves the shards of a split by default. Read one after the other, they have the order in which the builder
# wrote them, for any number of shards.
INTERLEAVED = tfds.ReadConfig(options=READING)
IN_STORED_ORDER = tfds.ReadConfig(interleave_cycle_length=1, options=READING)


@dataclass(frozen=True)
class Dataset:
    """A built TFDS data set of labelled images.

    Attributes:
      name: as in the config, "name" or "name/config".
      builder: the TFDS builder that reads it.
      class_names: names by class id.
    """

    name: str
    builder: tfds.core.DatasetBuilder
    class_names: tuple[str, ...]

    @property
    def crops(self) -> dict[str, Any] | None:
        """How the images were cropped out of whole pictures; None if they were not.

        "detector", its public name; "sha256" of its file; "min_confidence"; "scale" and "shift", see
        `preprocessing.Margin`.
        """
        return (self.builder.info.metadata or {}).get("crops")

    def num_examples(self, split: str) -> int:
        """Returns the number of examples of a split."""
        return self.builder.info.splits[split].num_examples

    def examples(self, split: str) -> "Examples":
        """Returns all examples of a split."""
        return Examples(self, split, np.arange(self.num_examples(split)))


@dataclass(frozen=True, eq=False)
class Examples:
    """A split of a data set, or some of its examples.

    Attributes:
      dataset: the data set.
      split: name of the split.
      indices: (n,) ascending int64 indices into the stored order of the split.
    """

    dataset: Dataset
    split: str
    indices: np.ndarray

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.indices)

    @property
    def num_bytes(self) -> int:
        """The size of the encoded examples in bytes; for a part of a split, in proportion to its number of examples."""
        whole = self.dataset.builder.info.splits[self.split]
        return whole.num_bytes * self.num_examples // whole.num_examples

    def records(self, start: int, stop: int, *, named: bool = False) -> tf.data.Dataset:
        """Returns the examples of indices[start:stop] in a fixed order: {"image": encoded bytes, "label": int32}.

        The order is the stored one if the indices have gaps, else the one in which TFDS interleaves the shards.

        Args:
          start, stop: range within `indices`.
          named: add a "filename", or TFDS's id if the data set has no file names.
        """
        if start == stop:
            return self.records(0, 1, named=named).take(0)
        indices = self.indices[start:stop]
        first, last = int(indices[0]), int(indices[-1])
        kept = np.zeros(last + 1 - first, bool)
        kept[indices - first] = True
        name = "filename" if "filename" in self.dataset.builder.info.features else "tfds_id"
        records = self.dataset.builder.as_dataset(
            split=tfds.core.ReadInstruction(self.split, from_=first, to=last + 1, unit="abs"),
            shuffle_files=False,
            read_config=dataclasses.replace(
                INTERLEAVED if kept.all() else IN_STORED_ORDER, add_tfds_id=named and name == "tfds_id"
            ),
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        if not kept.all():
            kept = tf.constant(kept)
            records = records.enumerate().filter(lambda i, _: kept[i]).map(lambda _, record: record)

        def select_fields(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            fields = {"image": record["image"], "label": tf.cast(record["label"], tf.int32)}
            return fields | ({"filename": record[name]} if named else {})

        return records.map(select_fields)

    def count_labels(self, num_shards: int, shard_index: int) -> np.ndarray:
        """Returns the (classes,) numbers of examples in one of several shards; decodes no image.

        The shards divide the examples, but not as `TrainData` does: add the counts of all of them.
        """
        num_classes = len(self.dataset.class_names)
        if len(self.indices) < self.dataset.num_examples(self.split):
            # Selecting the held-out part has read all labels already.
            return np.bincount(self.labels()[shard_index::num_shards], minlength=num_classes)
        start, stop = (self.num_examples * part // num_shards for part in (shard_index, shard_index + 1))
        labels = _read_labels(self.dataset, self.split, f"[{start}:{stop}]", INTERLEAVED)
        return np.bincount(labels, minlength=num_classes)

    def labels(self) -> np.ndarray:
        """Returns the (n,) int32 class ids in the order of `indices`; decodes no image."""
        return _stored_labels(self.dataset, self.split)[self.indices]


class LabelsOnly(tfds.decode.PartialDecoding):
    """Reads labels without images; PartialDecoding itself would warn about a deprecated call."""

    def extract_features(self, features: tfds.features.FeaturesDict) -> tfds.features.FeaturesDict:
        """Returns the label feature."""
        return tfds.features.FeaturesDict({"label": features["label"]})


@functools.lru_cache(maxsize=4)
def _stored_labels(dataset: Dataset, split: str) -> np.ndarray:
    """Returns the int32 class ids of a split in stored order; shared, so do not modify them."""
    return _read_labels(dataset, split, "", IN_STORED_ORDER)


def _read_labels(dataset: Dataset, split: str, part: str, read_config: tfds.ReadConfig) -> np.ndarray:
    records = dataset.builder.as_dataset(
        split=split + part, shuffle_files=False, read_config=read_config, decoders=LabelsOnly({"label": True})
    )
    batches = [batch["label"].astype(np.int32) for batch in records.batch(8192).as_numpy_iterator()]
    labels = np.concatenate([np.zeros(0, np.int32), *batches])
    check_labels(labels, dataset, split)
    return labels


def check_labels(labels: np.ndarray, dataset: Dataset, split: str) -> None:
    """Raises InputError for the first label that is not a class id of the data set."""
    num_classes = len(dataset.class_names)
    odd = labels[(labels < 0) | (labels >= num_classes)]
    if len(odd):
        raise InputError(
            f"split '{split}' of {dataset.name} has the label {odd[0]}; allowed: 0 to {num_classes - 1} "
            "(public test splits often lack labels: take another split)"
        )


def load_dataset(name: str, data_dir: str) -> Dataset:
    """Returns the newest built version of a data set.

    Args:
      name: "name" or "name/config".
      data_dir: folder of built data sets; local or gs://.

    Raises:
      InputError: the data set is not built there, or lacks images or labels.
    """
    root = epath.Path(expand_utf8(data_dir))
    folder = root / name
    # A killed build leaves a folder "incomplete.SOMETHING", which may look complete but is not. Do not glob: brackets
    # in `root` would be a pattern.
    versions = [
        path
        for path in (folder.iterdir() if folder.exists() else ())
        if tfds.core.Version.is_valid(path.name) and (path / "dataset_info.json").exists()
    ]
    if not versions:
        searched = epath.Path(glob.escape(str(root)))
        infos = [*searched.glob("*/*/dataset_info.json"), *searched.glob("*/*/*/dataset_info.json")]
        built = sorted(str(path.parent.parent.relative_to(root)) for path in infos)
        raise InputError(
            f"data set '{name}' is not built in {root} (there: {join_some(built) or 'nothing'}); "
            f"{_how_to_build(name, root, built)}"
        )
    newest = max(versions, key=lambda path: tfds.core.Version(path.name))
    builder = tfds.builder_from_directory(newest)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"data set '{name}' has features {sorted(features)}; needed: image, label (a ClassLabel)")
    return Dataset(name, builder, tuple(features["label"].names))


def _how_to_build(name: str, root: epath.Path, built: list[str]) -> str:
    """Returns the allowed names, or the command that builds a data set."""
    base, _, config = name.partition("/")
    configs = [each for each in built if each.startswith(f"{name}/")]
    if configs:
        return f"allowed: {join_some(configs)}"
    if base == "folder":
        return "run the command that trained on it: it builds the data set again if the images have not changed"
    if base in BUILDERS:
        flags = BUILDERS[base] | {"data_dir": root.resolve()} | ({"skip_broken": True} if config.endswith(SKIP) else {})
        return f"build it: {command('build', name.removesuffix(SKIP), **flags)}"
    return f"allowed: a data set that is built there, or one of {', '.join(BUILDERS)}, which can be built"
