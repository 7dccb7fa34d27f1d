"""TFDS builders of the anime face data sets; each folder builds with `tfds build`."""
