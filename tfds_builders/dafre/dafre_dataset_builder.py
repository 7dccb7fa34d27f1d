"""TFDS builder of DAF:re."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders.common import image_files, manual_data, released_labels, shuffle_memory, splits
from tfds_builders.common.faces_config import FacesConfig
from tfds_builders.dafre import label_files

# Released file by split.
SPLIT_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
RELEASED_SOURCE = (
    "expected: faces/ beside labels/ with train.csv, val.csv, test.csv and classid_classname.csv, from "
    "dafre_faces.tar.gz and labels.tar.gz, linked by github.com/arkel23/"
    "Danbooru2018AnimeCharacterRecognitionDataset_Revamped (copy: huggingface.co/datasets/xedwin23x/DAFB)"
)
RAW_SOURCE = (
    "expected: faces.tsv, tagIds.tsv and data/ with the images, from "
    "github.com/grapeot/Danbooru2018AnimeCharacterRecognitionDataset"
)


@dataclasses.dataclass(eq=False)
class DafreConfig(FacesConfig):
    """The files to build from.

    Attributes:
      threshold: fewest images of a class kept from raw DAF; None takes the released label files.
    """

    threshold: int | None = None

    def __post_init__(self):
        super().__post_init__()
        # In Python, a bool is an int.
        if self.threshold is not None and (type(self.threshold) is not int or self.threshold < 1):
            raise ValueError(
                f"threshold is {self.threshold!r}; allowed: a whole number from 1 for raw DAF, "
                "null for the released files"
            )


class Face(NamedTuple):
    """An image to be stored."""

    path: Path
    filename: str
    label: int
    box: label_files.Box | None


class Builder(tfds.core.GeneratorBasedBuilder):
    """DAF:re, 463,437 faces of 3,263 anime characters (arXiv:2101.08674)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "JPEG bytes as released; splits as released, or by the same rule from raw DAF."}
    BUILDER_CONFIGS = [
        DafreConfig(name="released", description="The released faces and label files."),
        *(
            DafreConfig(
                name=f"min{threshold}",
                description=f"From raw DAF: classes with at least {threshold} images.",
                threshold=threshold,
            )
            for threshold in (20, 10, 5)
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"released: {RELEASED_SOURCE}. min20, min10, min5: {RAW_SOURCE}."

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            # _split_generators sets the names from the label files.
            "label": tfds.features.ClassLabel(),
            "filename": tfds.features.Text(),
        }
        if self.builder_config.threshold is not None:
            features |= {"bbox": tfds.features.BBoxFeature(), "confidence": tfds.features.Scalar(np.float32)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://github.com/arkel23/animesion",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        folder = Path(dl_manager.manual_dir)
        read = self._released if self.builder_config.threshold is None else self._raw
        names, faces = read(folder)
        self.info.features["label"].names = names
        return {split: self._generate_examples(chosen) for split, chosen in faces.items()}

    def _released(self, folder: Path) -> tuple[list[str], dict[str, list[Face]]]:
        """Returns class names and faces by split, from the released label files."""
        labels = folder / "labels" if (folder / "labels").is_dir() else folder
        files = [*SPLIT_FILES.values(), released_labels.NAMES_FILE]
        prefix = "labels/" if labels != folder else ""
        manual_data.require(folder, ["faces", *(prefix + name for name in files)], RELEASED_SOURCE)
        names = released_labels.read_class_names(labels / released_labels.NAMES_FILE)
        images = image_files.ImageFolder(folder, "faces")
        seen: dict[str, str] = {}
        listed = {
            split: released_labels.read_released_split(
                labels / file, lambda class_id, _: released_labels.check_named(class_id, names), seen
            )
            for split, file in SPLIT_FILES.items()
        }
        by_split = {
            split: [Face(images.find(path), path, label, None) for label, path in rows]
            for split, rows in listed.items()
        }
        good = set(self._without_broken([face for faces in by_split.values() for face in faces]))
        by_split = {split: [face for face in faces if face in good] for split, faces in by_split.items()}
        splits.check_splits(by_split, f"{labels} without broken images")
        return names, by_split

    def _raw(self, folder: Path) -> tuple[list[str], dict[str, list[Face]]]:
        """Returns class names and faces by split, by the rule that made DAF:re from raw DAF."""
        manual_data.require(folder, ["faces.tsv", "tagIds.tsv", "data"], RAW_SOURCE)
        source, threshold = folder / "faces.tsv", self.builder_config.threshold
        rows = label_files.read_faces(source)
        # Reading the images takes long: check splits and class names first.
        tags, _ = splits.split_tags([row.tag for row in rows], threshold, str(source))
        tag_names = label_files.read_tag_names(folder / "tagIds.tsv", tags)
        # Dropping broken images only makes tags smaller: skip the images of tags that are too small already.
        rows = [row for row in rows if row.tag in tag_names]
        images = image_files.ImageFolder(folder, "data")
        faces = self._without_broken([Face(images.find(row.path), row.path, row.tag, row.box) for row in rows])
        tags, indices = splits.split_tags([face.label for face in faces], threshold, f"{source} without broken images")
        class_ids = {tag: class_id for class_id, tag in enumerate(tags)}
        by_split = {
            split: [faces[index]._replace(label=class_ids[faces[index].label]) for index in chosen]
            for split, chosen in indices.items()
        }
        return [tag_names[tag] for tag in tags], by_split

    def _without_broken(self, faces: Sequence[Face]) -> list[Face]:
        paths = [face.path for face in faces]
        faults = image_files.broken_images(paths)
        image_files.report_broken(paths, faults, skip=self.builder_config.skip_broken)
        return [face for index, face in enumerate(faces) if index not in faults]

    def _generate_examples(self, faces: Sequence[Face]) -> Iterator[tuple[str, dict[str, Any]]]:
        with shuffle_memory.limited():
            for face in faces:
                # Pass bytes: TFDS takes twice as long to read a path.
                example = {"image": face.path.read_bytes(), "label": face.label, "filename": face.filename}
                if face.box is not None:
                    left, top, right, bottom, confidence = face.box
                    example["bbox"] = tfds.features.BBox(ymin=top, xmin=left, ymax=bottom, xmax=right)
                    example["confidence"] = confidence
                yield face.filename, example
