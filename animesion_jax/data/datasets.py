"""Built TFDS data sets: what is built where, and the examples of a split, or of a held-out part of one, undecoded."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from animesion_jax.errors import InputError

# Our builders, with what their `tfds build` needs besides --config and --data_dir.
BUILDERS = {"dafre": "--manual_dir=MANUAL ", "moeimouto": "--manual_dir=MANUAL ", "toyfaces": "--num_shards=4 "}
# Without tf.data's autotuning, whose thread sleeps for up to a minute between its rounds, at times through the end of a
# data set, which then waits for it: about every fifth epoch of 17 s ended with a pause of 3 to 19 s.
READING = tf.data.Options()
READING.autotune.enabled = False
# TFDS interleaves the shards of a split unless told to read one after the other. Their sequence is the order that the
# builder wrote, whatever the number of shards.
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

    def num_examples(self, split: str) -> int:
        """Returns the number of examples of a split that the data set has."""
        return self.builder.info.splits[split].num_examples

    def examples(self, split: str) -> "Examples":
        """Returns every example of a split that the data set has."""
        return Examples(self, split, np.arange(self.num_examples(split)))


@dataclass(frozen=True, eq=False)
class Examples:
    """A split of a data set, or some of its examples.

    Attributes:
      dataset: the data set.
      split: name of the split.
      places: (n,) ascending int64 places of the examples in the stored order of the split.
    """

    dataset: Dataset
    split: str
    places: np.ndarray

    @property
    def num_examples(self) -> int:
        """The number of examples."""
        return len(self.places)

    @property
    def num_bytes(self) -> int:
        """The size of the encoded examples; of a part of a split its share by number."""
        whole = self.dataset.builder.info.splits[self.split]
        return whole.num_bytes * self.num_examples // whole.num_examples

    def records(self, start: int, stop: int, *, named: bool = False) -> tf.data.Dataset:
        """Returns the examples of places[start:stop]: {"image": encoded bytes, "label": int32}, in a fixed order.

        The order is the stored one where the range has gaps, else the one in which TFDS interleaves the shards. With
        `named` each has a "filename" too, which is TFDS's id where the data set has no file names.
        """
        if start == stop:
            return self.records(0, 1, named=named).take(0)
        places = self.places[start:stop]
        first, last = int(places[0]), int(places[-1])
        kept = np.zeros(last + 1 - first, bool)
        kept[places - first] = True
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

        def wanted(record: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            chosen = {"image": record["image"], "label": tf.cast(record["label"], tf.int32)}
            return chosen | ({"filename": record[name]} if named else {})

        return records.map(wanted)

    def count_labels(self, num_hosts: int, host: int) -> np.ndarray:
        """Returns the (classes,) numbers of examples in a host's share; no image is decoded, and no more is read."""
        num_classes = len(self.dataset.class_names)
        if len(self.places) < self.dataset.num_examples(self.split):
            # What is held out was chosen by the labels, so they have been read.
            return np.bincount(self.labels()[host::num_hosts], minlength=num_classes)
        start, stop = (self.num_examples * part // num_hosts for part in (host, host + 1))
        labels = _read_labels(self.dataset, f"{self.split}[{start}:{stop}]", INTERLEAVED)
        check_labels(labels, self.dataset, self.split)
        return np.bincount(labels, minlength=num_classes)

    def labels(self) -> np.ndarray:
        """Returns the (n,) int32 class ids in the order of `places`; no image is decoded or copied."""
        return _stored_labels(self.dataset, self.split)[self.places]


class LabelsOnly(tfds.decode.PartialDecoding):
    """Leaves the images unread; PartialDecoding itself does so with a warning about its own use of TFDS."""

    def extract_features(self, features: tfds.features.FeaturesDict) -> tfds.features.FeaturesDict:
        """Returns the features without all but the label."""
        return tfds.features.FeaturesDict({"label": features["label"]})


@functools.lru_cache(maxsize=4)
def _stored_labels(dataset: Dataset, split: str) -> np.ndarray:
    """Returns the int32 class ids of a whole split in stored order; shared, so not to be written to."""
    labels = _read_labels(dataset, split, IN_STORED_ORDER)
    check_labels(labels, dataset, split)
    return labels


def _read_labels(dataset: Dataset, split: str, read_config: tfds.ReadConfig) -> np.ndarray:
    records = dataset.builder.as_dataset(
        split=split, shuffle_files=False, read_config=read_config, decoders=LabelsOnly({"label": True})
    )
    batches = [batch["label"].astype(np.int32) for batch in records.batch(8192).as_numpy_iterator()]
    return np.concatenate([np.zeros(0, np.int32), *batches])


def check_labels(labels: np.ndarray, dataset: Dataset, split: str) -> None:
    """Raises InputError naming the first label that is no class id of the data set."""
    num_classes = len(dataset.class_names)
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        odd = next(label for label in labels if not 0 <= label < num_classes)
        raise InputError(
            f"split '{split}' of {dataset.name} has the label {odd}; allowed: 0 to {num_classes - 1} "
            "(public test splits often come without labels: take another split)"
        )


def load_dataset(name: str, data_dir: str) -> Dataset:
    """Returns the newest built version of a data set below `data_dir`.

    Raises:
      InputError: not built there, or not a data set of images and labels.
    """
    root = epath.Path(data_dir).expanduser()
    folder = root / name
    versions = []
    if folder.exists():
        # A build that was killed leaves a folder "incomplete.SOMETHING", which may hold all but its last files.
        versions = [
            path
            for path in folder.iterdir()
            if tfds.core.Version.is_valid(path.name) and (path / "dataset_info.json").exists()
        ]
    if not versions:
        built = sorted(str(path.parent.parent.relative_to(root)) for path in _find_dataset_infos(root))
        base, _, config = name.partition("/")
        mend = f"allowed: a data set that is built there, or one to build first: {', '.join(BUILDERS)}"
        configs = [each for each in built if each.startswith(f"{name}/")]
        if configs:
            mend = f"allowed: {', '.join(configs)}"
        elif base == "folder":
            mend = "the command that trained on it builds it again, if its pictures are as they were"
        elif base in BUILDERS:
            flags = f"{f'--config={config} ' if config else ''}{BUILDERS[base]}--data_dir={root.resolve()}"
            mend = f"build it: (cd tfds_builders/{base} && tfds build {flags})"
        raise InputError(f"data set '{name}' is not built in {root} (there: {', '.join(built) or 'nothing'}); {mend}")
    newest = max(versions, key=lambda path: tfds.core.Version(path.name))
    builder = tfds.builder_from_directory(newest)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"data set '{name}' has features {sorted(features)}; needed: image, label (a ClassLabel)")
    return Dataset(name, builder, tuple(features["label"].names))


def _find_dataset_infos(root: epath.Path) -> list[epath.Path]:
    if not root.exists():
        return []
    return [*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]
