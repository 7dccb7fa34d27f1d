"""A folder of pictures as a data set: the one place where the package reaches for a builder."""

import ml_collections


def build_folder(config: ml_collections.ConfigDict, workdir: str | None = None, accept_changes: bool = False) -> None:
    """Has a config with a folder train on the data set of its pictures, which is built if need be.

    Args:
      config: its data set and splits are set; left as it is where `config.folder` is "".
      workdir: of the run, which may have been begun with the folder as it was; None for none.
      accept_changes: go on with such a run although the folder has changed.
    """
    if config.folder:
        # Not before: whoever trains on other data needs no builder.
        from tfds_builders.folder.prepare import prepare

        prepare(config, workdir, accept_changes=accept_changes)
