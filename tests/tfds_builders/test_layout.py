import pytest

from animesion_jax.errors import InputError
from tests.character_folders import draw_folder
from tfds_builders.folder.layout import read_layout


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], ["holds no folder", "a folder of images per character"]),
        (["train/a", "test/a", "extra/a"], ["'extra'", "train/, validation/ and test/"]),
        (["train/a", "val/a", "validation/a"], ["two folders of one split"]),
        (["train/a", "dev/a"], ["holds dev, train with nothing but folders", "a folder of images per character"]),
        (["Training/a", "miku"], ["holds Training with nothing but folders"]),
    ],
)
def test_ambiguous_or_empty_layouts_are_refused(tmp_path, folders, words):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        read_layout(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_layout(tmp_path / "absent")


def test_folders_named_like_splits_but_holding_images_are_characters(tmp_path):
    draw_folder(tmp_path, {"train": 2, "thomas": 2})
    layout = read_layout(tmp_path)
    assert layout.characters == ["thomas", "train"] and not layout.has_splits
    draw_folder(tmp_path / "more", {"test": 2, "val": 2})
    assert not read_layout(tmp_path / "more").has_splits
