"""Our own bundles and runs as weights to start from."""

import flax.serialization
import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained, load_with_origin
from tests.pretrained.tiny import refused, tiny_vit


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_own_classifier_is_kept_for_equal_class_names(trained, bundle_path, kind, capsys):
    path = str(trained[0] if kind == "run" else bundle_path)
    tree = flax.serialization.msgpack_restore(bundle_path.read_bytes())
    names, stored = tree["classes"], traverse_util.flatten_dict(tree["variables"], sep="/")
    for classes, kept in ((names, True), (names[::-1], False), (names[:3], False)):
        model = create_model("shallownet", num_classes=len(classes), image_size=32)
        abstract = abstract_variables(model, 32)
        loaded = load_pretrained(path, model, abstract, keep_head=not kept, class_names=classes)
        for name, array in traverse_util.flatten_dict(loaded, sep="/").items():
            if "head" in name and not kept:
                assert not array.any() and array.shape[-1] == len(classes)
            else:
                np.testing.assert_array_equal(array, stored[name], name)
        assert ("re-initialised" in capsys.readouterr().err) != kept


def test_warning_of_published_weights_stays_with_what_is_trained_from_them(bundle_path, tmp_path, capsys):
    tree = flax.serialization.msgpack_restore(bundle_path.read_bytes())
    tree["training"]["pretrained"] = {"address": "wd_vit_b16", "note": "saw the test images"}
    file = tmp_path / "mine.msgpack"
    file.write_bytes(flax.serialization.msgpack_serialize(tree))
    model = create_model("shallownet", num_classes=3, image_size=32)
    _, origin = load_with_origin(str(file), model, abstract_variables(model, 32))
    assert origin["note"] == "saw the test images" and "note: saw the test images\n" in capsys.readouterr().err
    assert "note" not in load_with_origin(str(bundle_path), model, abstract_variables(model, 32))[1]


def test_own_files_of_another_size_or_model_are_refused(trained, bundle_path, tmp_path):
    model = create_model("shallownet", num_classes=20, image_size=64)
    refused(bundle_path, model, abstract_variables(model, 64), "does not fit this ShallowNet", "Dense_0/kernel")
    refused(bundle_path, *tiny_vit(), "holds shallownet, the model is")
    refused(tmp_path, *tiny_vit(), "not a training run")
    for name in ("config.json", "classes.json"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    refused(tmp_path, *tiny_vit(), "no checkpoint")


def test_bucket_folder_is_read_as_a_workdir(monkeypatch):
    """A stub replaces `read_workdir`, which would read the bucket with etils."""
    asked = []

    def read(workdir):
        asked.append(workdir)
        raise InputError("no run")

    monkeypatch.setattr("animesion_jax.pretrained.own.read_workdir", read)
    model, variables = tiny_vit()
    with pytest.raises(InputError, match="no run"):
        load_pretrained("gs://bucket/runs/b16", model, variables)
    assert asked == ["gs://bucket/runs/b16"]


def test_checkpoint_of_jax_cv_is_refused_with_the_file_to_give_instead(tmp_path):
    path = tmp_path / "model.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize({"model": {"params": {"head": {"bias": np.zeros(3)}}}}))
    refused(
        path,
        *tiny_vit(),
        "is no bundle but a checkpoint of JAX-CV",
        "give the model.safetensors of the same repository",
    )
