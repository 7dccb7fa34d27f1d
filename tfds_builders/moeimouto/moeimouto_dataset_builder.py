"""TFDS builder of moeimouto."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from tfds_builders.common import image_files, shuffle_memory, splits
from tfds_builders.common.faces_config import FacesConfig
from tfds_builders.common.image_files import NOT_RGB, ImageFile
from tfds_builders.moeimouto import face_files, label_files

log = logging.getLogger(__name__)


class Face(NamedTuple):
    """An image to be stored."""

    image: ImageFile
    filename: str
    label: int


class Builder(tfds.core.GeneratorBasedBuilder):
    """moeimouto, 14,395 faces of 173 anime characters (Kaggle's tagged-anime-illustrations)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "PNG bytes as on Kaggle; splits as released, or by the same rule in order of the names."}
    BUILDER_CONFIGS = [FacesConfig(name="kaggle", description="The faces on Kaggle, the splits of the label files.")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{face_files.SOURCE}; and, for the paper's splits, {label_files.SOURCE}."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    # _split_generators sets the names from the label files.
                    "label": tfds.features.ClassLabel(),
                    "filename": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.kaggle.com/datasets/mylesoneill/tagged-anime-illustrations",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        manual = Path(dl_manager.manual_dir)
        labels = label_files.read_labels(manual)
        faces = face_files.find_faces(manual)
        images = self._good_images(faces, faces.paths if labels is None else labels.paths())
        if labels is None:
            log.warning("no label files in %s: each class is split 0.8 / 0.2 in order of its file names", manual)
            labels = label_files.label_by_name(images)
        self.info.features["label"].names = labels.names
        by_split = {
            split: [Face(images[path], path, label) for label, path in rows if path in images]
            for split, rows in labels.rows.items()
        }
        splits.check_splits(by_split, f"{manual} without the images left out")
        return {split: self._generate_examples(chosen) for split, chosen in by_split.items()}

    def _good_images(self, faces: face_files.Faces, listed: Sequence[str]) -> dict[str, ImageFile]:
        """Returns the listed images by path; drops and logs those that are not RGB, and broken ones with skip_broken.

        Raises:
          InputError: images are missing, broken or not PNG, and skip_broken is not set.
        """
        unlisted = sorted(set(faces.paths) - set(listed))
        images = [faces.find(path) for path in (*listed, *unlisted)]
        faults = image_files.broken_images(images, "PNG")
        not_rgb = {index: fault for index, fault in faults.items() if fault.startswith(NOT_RGB)}
        if not_rgb:
            named = image_files.name_faults(images, not_rgb)
            log.warning("dropped, as in the paper: %d images that are not RGB: %s", len(not_rgb), named)
        unused = [path for index, path in enumerate(unlisted, start=len(listed)) if index not in not_rgb]
        if unused:
            log.warning("left out: %d images in no label file, such as %s", len(unused), unused[0])
        broken = {index: fault for index, fault in faults.items() if index < len(listed) and index not in not_rgb}
        image_files.report_broken(images[: len(listed)], broken, self.builder_config.skip_broken, unfit="or not PNG")
        return {path: images[index] for index, path in enumerate(listed) if index not in faults}

    def _generate_examples(self, faces: Sequence[Face]) -> Iterator[tuple[str, dict[str, Any]]]:
        with shuffle_memory.limited():
            for face in faces:
                # Pass bytes: TFDS would encode an array again.
                yield face.filename, {"image": face.image.read_bytes(), "label": face.label, "filename": face.filename}
