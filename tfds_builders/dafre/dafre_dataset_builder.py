"""TFDS builder of DAF:re."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import manual_data, splits
from tfds_builders.dafre import label_files

log = logging.getLogger(__name__)

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
class DafreConfig(tfds.core.BuilderConfig):
    """Which files to build from.

    Attributes:
      threshold: fewest images of a class that is kept, for raw DAF; None takes the released label files.
      skip_broken: leave out images that are missing, broken or not RGB instead of failing.
    """

    threshold: int | None = None
    skip_broken: bool = False


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
            # The names are in the data; _split_generators sets them.
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
        """Returns the class names and the faces by split, from the released label files."""
        labels = folder / "labels" if (folder / "labels").is_dir() else folder
        files = [*label_files.SPLIT_FILES.values(), label_files.NAMES_FILE]
        prefix = "labels/" if labels != folder else ""
        manual_data.require(folder, ["faces", *(prefix + name for name in files)], RELEASED_SOURCE)
        names = label_files.read_class_names(labels / label_files.NAMES_FILE)
        by_split: dict[str, list[Face]] = {}
        seen: dict[str, str] = {}
        for split, file in label_files.SPLIT_FILES.items():
            by_split[split] = []
            for label, path in label_files.read_released_split(labels / file, len(names)):
                if path in seen:
                    raise ValueError(f"{labels / file}: {path} is listed twice, before in split {seen[path]}")
                seen[path] = split
                image = manual_data.find_image(folder / "faces", path)
                by_split[split].append(Face(image, path, label, None))
        good = set(self._without_broken([face for faces in by_split.values() for face in faces]))
        return names, {split: [face for face in faces if face in good] for split, faces in by_split.items()}

    def _raw(self, folder: Path) -> tuple[list[str], dict[str, list[Face]]]:
        """Returns the class names and the faces by split, by the rule that made DAF:re from raw DAF."""
        manual_data.require(folder, ["faces.tsv", "tagIds.tsv", "data"], RAW_SOURCE)
        rows = label_files.read_faces(folder / "faces.tsv")
        faces = self._without_broken(
            [Face(manual_data.find_image(folder / "data", row.path), row.path, row.tag, row.box) for row in rows]
        )
        tags = splits.keep_frequent([face.label for face in faces], self.builder_config.threshold)
        if not tags:
            raise ValueError(f"no class of {folder} has {self.builder_config.threshold} images or more")
        names = label_files.read_tag_names(folder / "tagIds.tsv", tags)
        class_ids = {tag: class_id for class_id, tag in enumerate(tags)}
        kept = [face._replace(label=class_ids[face.label]) for face in faces if face.label in class_ids]
        by_split: dict[str, list[Face]] = {split: [] for split in splits.SPLITS}
        for face, split in zip(kept, splits.assign_splits([face.label for face in kept]), strict=True):
            by_split[split].append(face)
        return names, by_split

    def _without_broken(self, faces: Sequence[Face]) -> list[Face]:
        paths = [face.path for face in faces]
        faults = manual_data.broken_images(paths)
        manual_data.report_broken(paths, faults, skip=self.builder_config.skip_broken)
        return [face for place, face in enumerate(faces) if place not in faults]

    def _generate_examples(self, faces: Sequence[Face]) -> Iterator[tuple[str, dict[str, Any]]]:
        for face in faces:
            # A path, not pixels: TFDS then stores the file's bytes.
            example = {"image": str(face.path), "label": face.label, "filename": face.filename}
            if face.box is not None:
                left, top, right, bottom, confidence = face.box
                example["bbox"] = tfds.features.BBox(ymin=top, xmin=left, ymax=bottom, xmax=right)
                example["confidence"] = confidence
            yield face.filename, example
