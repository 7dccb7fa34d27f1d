"""The config that the builders of other people's faces share."""

import dataclasses
import re

import tensorflow_datasets as tfds


@dataclasses.dataclass(eq=False)
class FacesConfig(tfds.core.BuilderConfig):
    """What to do with images that cannot be stored.

    Attributes:
      skip_broken: leave out images that are missing, broken or of another kind than the data set's instead of failing.
    """

    skip_broken: bool = False

    def __post_init__(self):
        # `tfds build --config='{...}'` passes whatever the JSON holds, and makes the name a folder's.
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(
                f"name is {self.name!r}; allowed: letters, digits, '_', '-' and '.', such as released_skip"
            )
        if not isinstance(self.skip_broken, bool):
            raise ValueError(f"skip_broken is {self.skip_broken!r}; allowed: true or false")
