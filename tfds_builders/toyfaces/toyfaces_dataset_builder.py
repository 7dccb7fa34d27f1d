"""TFDS builder of toyfaces."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.common import splits
from tfds_builders.toyfaces.drawing.characters import CHARACTERS, IMAGES_PER_CHARACTER
from tfds_builders.toyfaces.drawing.faces import draw_image

JPEG_QUALITY = 90


class Builder(tfds.core.GeneratorBasedBuilder):
    """Twenty drawn anime characters: long-tailed like DAF:re, without a download."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Twenty characters, split by the rule of DAF:re."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(128, 128, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=[character.name for character in CHARACTERS]),
                    "filename": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        faces = [(class_id, index) for class_id, count in enumerate(IMAGES_PER_CHARACTER) for index in range(count)]
        by_split: dict[str, list[tuple[int, int]]] = {split: [] for split in splits.SPLITS}
        for face, split in zip(faces, splits.assign_splits([class_id for class_id, _ in faces]), strict=True):
            by_split[split].append(face)
        return {split: self._generate_examples(chosen) for split, chosen in by_split.items()}

    def _generate_examples(self, faces: Sequence[tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for class_id, index in faces:
            filename = f"{CHARACTERS[class_id].name}/{index:04d}.jpg"
            jpeg = io.BytesIO()
            draw_image(class_id, index).save(jpeg, "JPEG", quality=JPEG_QUALITY)
            # Pass bytes: TFDS would encode an array again.
            yield filename, {"image": jpeg.getvalue(), "label": class_id, "filename": filename}
