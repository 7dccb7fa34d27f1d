"""Merging uses or reports every array of a file and every variable of a model."""

import numpy as np
import pytest

from animesion_jax.pretrained import load_pretrained
from animesion_jax.pretrained.merge import group_of
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_vit
from tests.published import save_google


def test_merge_summary_has_a_line_for_each_group(tmp_path, capsys):
    file = save_google(tmp_path / "w.npz", tiny_arrays(32, pre_logits=True))
    load_pretrained(file, *tiny_vit())
    assert capsys.readouterr().err.splitlines() == [
        f"weights from {file}:",
        "                              arrays       values",
        "  Transformer/encoder_norm         2           16  loaded",
        "  Transformer/encoderblock_*      32        1,064  loaded",
        "  Transformer/posembed_input       1          136  resampled, 5 to 17 tokens",
        "  cls                              1            8  loaded",
        "  embedding                        2        6,152  loaded",
        "  head                             2           45  re-initialised to zero",
        "  pre_logits                       2           72  left out: the model has no pre_logits",
        "  head                             2           63  left out: the file's classifier (8, 7)",
    ]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("params/Transformer/encoderblock_11/MlpBlock_0/Dense_1/kernel", "Transformer/encoderblock_*"),
        ("params/block1/unit2/conv3/kernel", "block1"),
        ("batch_stats/layer4_1/bn2/mean", "layer4_*"),
        ("params/cls", "cls"),
    ],
)
def test_group_of_cuts_a_name_at_its_first_number(name, group):
    assert group_of(name) == group


@pytest.mark.parametrize("classes", [5, 7])
@pytest.mark.parametrize("keep_head", [False, True])
def test_head_is_kept_with_keep_head_and_the_same_shape(tmp_path, classes, keep_head):
    arrays = tiny_arrays(num_classes=classes)
    loaded = flatten(load_pretrained(save_google(tmp_path / "w.npz", arrays), *tiny_vit(), keep_head))
    kept = keep_head and classes == 5
    for leaf, shape in (("kernel", (8, 5)), ("bias", (5,))):
        expected = arrays[f"head/{leaf}"] if kept else np.zeros(shape)
        np.testing.assert_array_equal(loaded[f"head/{leaf}"], expected)


def test_head_without_its_bias_is_refused_with_keep_head(tmp_path):
    arrays = tiny_arrays(num_classes=5)
    del arrays["head/bias"]
    file = save_google(tmp_path / "w.npz", arrays)
    refused(file, *tiny_vit(), "Not in the file: 'params/head/bias' (5,). ", keep_head=True)
    assert not flatten(load_pretrained(file, *tiny_vit()))["head/kernel"].any()


def test_merge_names_arrays_by_fault_with_their_shapes(tmp_path):
    arrays = tiny_arrays()
    del arrays["Transformer/encoder_norm/bias"]
    arrays["Transformer/encoder_norm/scale"] = np.zeros((), np.float32)
    arrays["embedding/bias"] = np.zeros((9,), np.float32)
    arrays["cls"] = np.zeros((1, 1, 8), np.int32)
    arrays["Transformer/encoderblock_0/LayerNorm_1/bias"] = np.zeros((8,), np.float32)
    arrays["surplus/kernel"] = np.zeros((2, 3), np.float32)
    message = refused(
        save_google(tmp_path / "w.npz", arrays), *tiny_vit(), "does not fit this VisionTransformer, in 6 arrays. ",
        "Not in the file: 'params/Transformer/encoder_norm/bias' (8,). ",
        "Not in the model: 'surplus/kernel' (2, 3). ",
        "Of another shape: 'Transformer/encoder_norm/scale' () for (8,); 'embedding/bias' (9,) for (8,). ",
        "'cls' (1, 1, 8) is int32, not float32, float64, float16, bfloat16",
        "'Transformer/encoderblock_0/LayerNorm_2/bias' and 'Transformer/encoderblock_0/LayerNorm_1/bias' (8,) both",
    )  # fmt: skip
    assert "head" not in message


def test_merge_counts_the_arrays_that_it_does_not_name(tmp_path):
    first = "Transformer/encoderblock_1/LayerNorm_0"
    arrays = {name: array for name, array in tiny_arrays().items() if name.startswith(first) or "block_1" not in name}
    arrays |= {f"block{number}/kernel": np.zeros((2, 3), np.float32) for number in range(1000)}
    refused(
        save_google(tmp_path / "w.npz", arrays), *tiny_vit(), "in 1,014 arrays. Not in the file: 'params/Transformer/",
        " and 11 more. Not in the model: 'block0/kernel' (2, 3); 'block1/kernel' (2, 3); 'block2/kernel' (2, 3) and "
        "997 more. Give weights of the same model",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["embedding/kernel", "query/kernel", "MlpBlock_3/Dense_0/kernel", "pos_embedding"])
def test_arrays_without_dimensions_are_offenders(tmp_path, name):
    arrays = tiny_arrays()
    wrong = [key for key in arrays if key.endswith(name)]
    arrays |= {key: np.zeros((), np.float32) for key in wrong}
    refused(save_google(tmp_path / "w.npz", arrays), *tiny_vit(), *(f"'{key}' () for (" for key in wrong))
