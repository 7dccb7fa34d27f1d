"""The config of builders that read images from a manual folder."""

import dataclasses
import re

import tensorflow_datasets as tfds


@dataclasses.dataclass(eq=False)
class FacesConfig(tfds.core.BuilderConfig):
    """Treatment of images that cannot be stored.

    Attributes:
      skip_broken: leave out images that are missing, broken or in another format than the data set's, instead of
        failing.

    Raises:
      ValueError: a field of another type, or a name that is not a folder name.
    """

    skip_broken: bool = False

    def __post_init__(self):
        # `tfds build --config='{...}'` does not check the JSON, and uses the name as a folder name.
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(
                f"name is {self.name!r}; allowed: letters, digits, '_', '-' and '.', such as released_skip"
            )
        if not isinstance(self.skip_broken, bool):
            raise ValueError(f"skip_broken is {self.skip_broken!r}; allowed: true or false")
