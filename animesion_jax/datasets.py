"""Built TFDS data sets: what is built where, and the examples of a split, or of a held-out part of one, undecoded."""

import dataclasses
import functools
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import ml_collections
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from animesion_jax.errors import InputError

# Our builders, with what their `tfds build` needs besides --config and --data_dir.
BUILDERS = {"dafre": "--manual_dir=MANUAL ", "moeimouto": "--manual_dir=MANUAL ", "toyfaces": "--num_shards=4 "}
# The split that is the part of config.train_split which is kept from training.
HELD_OUT = "held_out"
# Not config.seed: all seeds of a config are to be compared on the same images.
HELD_OUT_SEED = 0x0DAF
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


def check_every_class(counts: np.ndarray, dataset: Dataset, split: str) -> None:
    """Raises InputError naming the classes of which there is no example to train on; `counts` are those by class id."""
    names = dataset.class_names
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        named = ", ".join(f"'{names[class_id]}'" for class_id in absent[:5])
        raise InputError(
            f"split '{split}' of {dataset.name} has no image of {len(absent)} of its {len(names)} classes: {named}"
            f"{', ...' if len(absent) > 5 else ''}; allowed: at least one of every class: build the data set anew with "
            "such images, or without these classes"
        )


def select_examples(config: ml_collections.ConfigDict, dataset: Dataset, split: str) -> Examples:
    """Returns the examples that a config means by the name of a split.

    `config.train_split` is that split without its held-out part, "held_out" is this part, any other name is the whole
    split.

    Raises:
      InputError: a split that is unknown or empty, `config.held_out` out of range, or a held-out part without examples.
    """
    if not 0 <= config.held_out < 1:
        raise InputError(f"config.held_out is {config.held_out}; allowed: 0 up to less than 1")
    if split == HELD_OUT and not config.held_out:
        raise InputError(
            f"nothing is held out of '{config.train_split}' (config.held_out is 0); allowed: "
            f"{', '.join(dataset.builder.info.splits)}, or a run with --config.held_out=0.125 for example"
        )
    if split not in (HELD_OUT, config.train_split) or not config.held_out:
        return _whole_split(config, dataset, split)
    whole = _whole_split(config, dataset, config.train_split)
    mask = hold_out(whole.labels(), config.held_out)
    if not mask.any():
        raise InputError(
            f"config.held_out {config.held_out} holds out no image of {dataset.name} '{config.train_split}', whose "
            f"largest class has {np.bincount(whole.labels()).max()} images; allowed: 0 or a larger part"
        )
    return Examples(dataset, config.train_split, np.flatnonzero(mask if split == HELD_OUT else ~mask))


def _whole_split(config: ml_collections.ConfigDict, dataset: Dataset, split: str) -> Examples:
    splits = dataset.builder.info.splits
    if split not in splits:
        mend = f"allowed: {', '.join([*splits, *([HELD_OUT] if config.held_out else [])])}"
        if split == "validation" and not config.held_out:
            mend += ", or a part of train: --config.held_out=0.125 --config.validation_split=held_out"
        raise InputError(f"{dataset.name} has no split '{split}'; {mend}")
    if not splits[split].num_examples:
        raise InputError(f"split '{split}' of {dataset.name} is empty; allowed: a split with examples")
    return dataset.examples(split)


def hold_out(labels: np.ndarray, part: float) -> np.ndarray:
    """Returns the (n,) bool mask of the examples to keep from training.

    Of a class with m images these are m * part, halves rounded up, but never all m; which ones is drawn by a fixed
    seed and the class id.

    Args:
      labels: (n,) class ids in stored order.
      part: 0 up to less than 1.
    """
    mask = np.zeros(len(labels), bool)
    # Decimals, since 50 * 0.29 is 14.499999999999998.
    part = Decimal(str(float(part)))
    # One stable sort instead of a search per class: there may be thousands.
    places = np.argsort(labels, kind="stable")
    class_ids, starts = np.unique(labels[places], return_index=True)
    for class_id, members in zip(class_ids, np.split(places, starts[1:]), strict=True):
        size = int((len(members) * part).to_integral_value(ROUND_HALF_UP))
        order = np.random.default_rng((HELD_OUT_SEED, class_id)).permutation(len(members))
        mask[members[order[: min(size, len(members) - 1)]]] = True
    return mask


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
