import pytest
from tensorflow_datasets.core import shuffle

from animesion_jax.data.datasets import IN_STORED_ORDER
from tests.conftest import ROOT
from tests.tfds_builders.builds import build, encoded_examples
from tfds_builders.common import shuffle_memory
from tfds_builders.dafre.dafre_dataset_builder import Builder as Dafre
from tfds_builders.moeimouto.moeimouto_dataset_builder import Builder as Moeimouto


def _stored_names(builder_class, data_dir):
    """Builds from the dummy data and returns the file names of the training images in stored order."""
    manual = ROOT / "tfds_builders" / builder_class.name / "dummy_data"
    builder = build(builder_class, manual, data_dir)
    stored = encoded_examples(builder, "train", shuffle_files=False, read_config=IN_STORED_ORDER)
    return [example["filename"].decode() for example in stored]


@pytest.mark.parametrize("builder_class", [Dafre, Moeimouto])
def test_shuffling_through_files_keeps_the_order_of_shuffling_in_memory(builder_class, tmp_path, monkeypatch):
    through_files = []
    add = shuffle.Shuffler._add_to_bucket
    monkeypatch.setattr(
        shuffle.Shuffler, "_add_to_bucket", lambda self, key, data: (through_files.append(key), add(self, key, data))
    )
    usual = shuffle.MAX_MEM_BUFFER_SIZE
    in_memory = _stored_names(builder_class, tmp_path / "in_memory")
    assert not through_files
    monkeypatch.setattr(shuffle_memory, "MAX_BYTES", 0)
    assert _stored_names(builder_class, tmp_path / "through_files") == in_memory
    assert len(through_files) >= len(in_memory)
    assert usual == shuffle.MAX_MEM_BUFFER_SIZE
    assert in_memory != sorted(in_memory)


def test_limit_is_restored_after_a_failed_build():
    usual = shuffle.MAX_MEM_BUFFER_SIZE
    with pytest.raises(OSError), shuffle_memory.limited():
        assert shuffle.MAX_MEM_BUFFER_SIZE == 64 * 2**20 < usual
        raise OSError
    assert usual == shuffle.MAX_MEM_BUFFER_SIZE
