"""TFDS builder of a folder of images per character."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from animesion_jax.files import write_json
from tfds_builders.common import shuffle_memory
from tfds_builders.common.faces_config import FacesConfig
from tfds_builders.folder.heads import HeadCrops
from tfds_builders.folder.layout import EXPECTED, CharacterImage, read_layout
from tfds_builders.folder.storage import encode_all
from tfds_builders.folder.survey import Inspection, survey

REPORT_FILE = "report.json"

log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class FolderConfig(FacesConfig):
    """The images to leave out, and the parts of them to store.

    Attributes:
      skip_broken: leave out images that cannot be read instead of failing.
      min_images: leave out characters with fewer images; 0 keeps all.
      crops: store crops of the whole pictures that have one head, and leave out the others; None stores whole images.
    """

    min_images: int = 0
    crops: HeadCrops | None = None

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.min_images, int) or self.min_images < 0:
            raise ValueError(f"min_images is {self.min_images!r}; allowed: a whole number, 0 or more")
        if not isinstance(self.crops, HeadCrops | None):
            raise ValueError(f"crops is {self.crops!r}; allowed: none; train with --config.detector, which crops")


class Builder(tfds.core.GeneratorBasedBuilder):
    """The images of a folder per character, in the splits of the folder or split by the rule of DAF:re."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The pixels that predict sees; splits as in the folder, or by the rule of DAF:re."}
    BUILDER_CONFIGS = [FolderConfig(name="images", description="The images of the manual folder.")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = EXPECTED

    def _info(self) -> tfds.core.DatasetInfo:
        crops = self.builder_config.crops
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    # JPEG or PNG.
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    # _split_generators sets the names, those of the folders.
                    "label": tfds.features.ClassLabel(),
                    "filename": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            # Readers of the data set find the crops there.
            metadata=tfds.core.MetadataDict(crops=crops.describe()) if crops else None,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        settings, layout = self.builder_config, read_layout(Path(dl_manager.manual_dir))
        found = survey(layout, settings.min_images, settings.skip_broken, settings.crops)
        for warning in found.warnings:
            log.warning("%s", warning)
        self.info.features["label"].names = found.characters
        # data_path is a temporary folder until the build is complete, so the report appears with the records.
        write_json(self.data_path / REPORT_FILE, found.report)
        return {split: self._generate_examples(chosen) for split, chosen in found.chosen.items()}

    def _generate_examples(
        self, chosen: Sequence[tuple[CharacterImage, Inspection]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        with shuffle_memory.limited():
            encoded = encode_all([(image.path, inspected.keep_bytes, inspected.box) for image, inspected in chosen])
            for (image, _), content in zip(chosen, encoded, strict=True):
                # Pass bytes: TFDS would encode an array again.
                yield image.name, {"image": content, "label": image.character, "filename": image.name}
