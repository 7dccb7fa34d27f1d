import io

import numpy as np
import pytest
from PIL import Image

from animesion_jax.data.datasets import load_dataset
from tests.tfds_builders.builds import encoded_examples
from tfds_builders.common.splits import SPLITS, split_sizes
from tfds_builders.toyfaces import draw
from tfds_builders.toyfaces.draw import write_new_faces
from tfds_builders.toyfaces.drawing.characters import CHARACTERS, IMAGES_PER_CHARACTER
from tfds_builders.toyfaces.drawing.faces import draw_image


@pytest.fixture(scope="module")
def records(toyfaces_dir):
    builder = load_dataset("toyfaces", str(toyfaces_dir)).builder
    return {split: encoded_examples(builder, split) for split in SPLITS}


def test_split_sizes_follow_the_rule_of_dafre(records):
    assert len(CHARACTERS) == len({character.name for character in CHARACTERS}) == 20
    assert 1900 < sum(IMAGES_PER_CHARACTER) < 2100
    counts = {split: np.bincount([r["label"] for r in records[split]], minlength=20) for split in SPLITS}
    for class_id, count in enumerate(IMAGES_PER_CHARACTER):
        assert tuple(counts[split][class_id] for split in SPLITS) == split_sizes(count)
        assert min(split_sizes(count)) > 0


def test_train_split_has_four_shards(toyfaces_dir):
    assert len(list(toyfaces_dir.rglob("toyfaces-train.tfrecord-*-of-00004"))) == 4


def test_draw_image_depends_on_class_and_index_only():
    one = np.asarray(draw_image(3, 5))
    assert one.shape == (128, 128, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, np.asarray(draw_image(3, 5)))
    assert (one != np.asarray(draw_image(3, 6))).mean() > 0.5
    assert (one != np.asarray(draw_image(4, 5))).mean() > 0.5


def _jpeg(image: Image.Image) -> bytes:
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


def test_stored_bytes_equal_drawn_images(records):
    stored = {r["filename"].decode(): r["image"] for split in SPLITS for r in records[split]}
    for class_id, (character, count) in enumerate(zip(CHARACTERS, IMAGES_PER_CHARACTER, strict=True)):
        for index in (0, count - 1):
            assert stored[f"{character.name}/{index:04d}.jpg"] == _jpeg(draw_image(class_id, index))


def test_new_faces_are_not_in_the_data_set(records, tmp_path):
    paths = write_new_faces(tmp_path, 2)
    assert [p.name for p in paths] == [f"{c.name}_{number:02d}.png" for c in CHARACTERS for number in range(2)]
    # Drawing a face of the data set again gives the stored bytes: see the test above.
    stored = {r["image"] for split in SPLITS for r in records[split]}
    assert len(stored) == sum(IMAGES_PER_CHARACTER)
    new = {_jpeg(Image.open(path)) for path in paths}
    assert len(new) == len(paths) and not new & stored


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "required: --output"),
        (["--output=new", "--per_class=0"], "--per_class is 0; allowed: a whole number from 1"),
        (["--output=file/new"], "cannot write file/new: Not a directory; give a path"),
    ],
)
def test_draw_refuses_bad_flags_in_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr("sys.argv", ["draw.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        draw.main()
    output, error = capsys.readouterr()
    assert stopped.value.code == 2 and output == ""
    assert error.startswith("draw.py: error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_draw_writes_new_faces(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["draw.py", f"--output={tmp_path / 'a' / 'b'}"])
    draw.main()
    assert len(list((tmp_path / "a" / "b").glob("*.png"))) == 20
    assert capsys.readouterr().out.startswith("wrote 20 new faces to ")


@pytest.mark.slow
def test_logistic_regression_on_pixels_stays_under_60_per_cent(toyfaces_dir):
    from sklearn.linear_model import LogisticRegression

    from animesion_jax.data.decode import decoded

    dataset = load_dataset("toyfaces", str(toyfaces_dir))
    arrays = {}
    for split in ("train", "test"):
        records = dataset.examples(split).records(0, dataset.num_examples(split))
        (batch,) = decoded(records, 32, "squash").batch(5000).as_numpy_iterator()
        arrays[split] = batch["image"].reshape(len(batch["label"]), -1) / 255 - 0.5, batch["label"]
    # C = 0.1 was the best of 0.01 to 1.
    model = LogisticRegression(C=0.1, max_iter=100).fit(*arrays["train"])
    assert 0.2 < model.score(*arrays["test"]) < 0.6
