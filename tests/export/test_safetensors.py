"""Our weights under the names of torchvision and timm; tests/peers/test_exports.py loads them into both."""

import dataclasses
import json

import flax.serialization
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from animesion_jax.bundle import Bundle
from animesion_jax.errors import InputError
from animesion_jax.export.safetensors import write_safetensors
from animesion_jax.main import main
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from animesion_jax.pretrained.timm_vit import to_timm
from tests.float64_beit import beit_arrays
from tests.hostile_seeds import bundle_tree
from tests.published import torchvision_arrays

TINY = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 12}
CLASSES = ("yui", "あかり", "mio")


def _bundle(name, image_size, variables=None, options=None, **sizes):
    """Returns a bundle, with random weights if none are given."""
    model = create_model(name, num_classes=len(CLASSES), image_size=image_size, **sizes, **(options or {}))
    draw = np.random.default_rng(5)
    abstract = abstract_variables(model, image_size)
    variables = variables or jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), abstract)
    described = {"name": name, "num_classes": len(CLASSES), "image_size": image_size, **(options or {})}
    return Bundle(model, variables, CLASSES, image_size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), {}, described)


def _read(file):
    with safetensors.safe_open(file, "numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_round_trip_keeps_torchvisions_state_dict(depth, tmp_path):
    published = torchvision_arrays(depth, len(CLASSES), stage_sizes=(1, 2))
    safetensors.numpy.save_file(published, tmp_path / "published.safetensors")
    name = f"resnet{depth}"
    model = create_model(name, num_classes=len(CLASSES), image_size=32, stage_sizes=(1, 2))
    abstract = abstract_variables(model, 32)
    loaded = load_pretrained(str(tmp_path / "published.safetensors"), model, abstract, keep_head=True)
    (file,) = write_safetensors(_bundle(name, 32, loaded), str(tmp_path / "out.safetensors"))
    arrays, said = _read(file)
    assert arrays.keys() == published.keys()
    for key, array in arrays.items():
        assert array.dtype == published[key].dtype
        expected = 0 if key.endswith("num_batches_tracked") else published[key]
        np.testing.assert_array_equal(array, expected, key)
    again = load_pretrained(str(file), model, abstract, keep_head=True)
    jax.tree.map(np.testing.assert_array_equal, again, loaded)
    assert said["format"] == "pt" and tuple(json.loads(said["classes"])) == CLASSES
    preprocessing = json.loads(said["preprocessing"])
    assert (preprocessing["mean"], preprocessing["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25])
    assert json.loads(said["create"]) == {"call": f"torchvision.models.{name}", "arguments": {"num_classes": 3}}


def test_beit_round_trip_keeps_timms_state_dict(tmp_path):
    published = beit_arrays(len(CLASSES), 32, **TINY)
    safetensors.numpy.save_file(published, tmp_path / "published.safetensors")
    model = create_model("beit_b16", num_classes=len(CLASSES), image_size=32, **TINY)
    abstract = abstract_variables(model, 32)
    loaded = load_pretrained(str(tmp_path / "published.safetensors"), model, abstract, keep_head=True)
    (file,) = write_safetensors(_bundle("beit_b16", 32, loaded, **TINY), str(tmp_path / "out.safetensors"))
    arrays, said = _read(file)
    assert arrays.keys() == published.keys()
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, published[key], key)
    arguments = {"model_name": "beit_base_patch16_224", "num_classes": 3, "img_size": 32}
    assert json.loads(said["create"]) == {"call": "timm.create_model", "arguments": arguments}


@pytest.mark.parametrize("name", ["vit_b16", "r50_vit_b16"])
def test_own_export_is_read_back_with_its_class_names_and_as_rgb(name, tmp_path):
    """A WD tagger has as many classes, and takes BGR."""
    sizes = TINY | ({"stem_sizes": (1, 2)} if name.startswith("r50") else {})
    classes = tuple(f"character {number}" for number in range(10_861))
    bundle = dataclasses.replace(_bundle(name, 32, **sizes), classes=classes)
    bundle.description["num_classes"] = len(classes)
    draw = np.random.default_rng(6)
    bundle.variables["params"]["head"] = {
        "kernel": draw.standard_normal((8, len(classes)), np.float32), "bias": np.ones(len(classes), np.float32),
    }  # fmt: skip
    (file,) = write_safetensors(bundle, str(tmp_path / "out.safetensors"))
    model = create_model(name, num_classes=len(classes), image_size=32, **sizes)
    abstract = abstract_variables(model, 32)
    again = load_pretrained(str(file), model, abstract, class_names=classes)
    jax.tree.map(np.testing.assert_array_equal, again, bundle.variables)
    assert not load_pretrained(str(file), model, abstract, class_names=classes[::-1])["params"]["head"]["kernel"].any()


def test_to_timm_joins_heads_and_puts_outputs_first():
    variables = _bundle("vit_b16", 32, **TINY).variables
    arrays, params = to_timm(variables), variables["params"]
    block = params["Transformer"]["encoderblock_1"]
    attention = block["MultiHeadDotProductAttention_0"]
    # Row r of query is output r % 4 of head r // 4. The rows of key and value follow.
    for part, name in enumerate(("query", "key", "value")):
        for row in range(8):
            np.testing.assert_array_equal(
                arrays["blocks.1.attn.qkv.weight"][8 * part + row], attention[name]["kernel"][:, row // 4, row % 4]
            )
            assert arrays["blocks.1.attn.qkv.bias"][8 * part + row] == attention[name]["bias"][row // 4, row % 4]
    for column in range(8):
        out = attention["out"]["kernel"][column // 4, column % 4]
        np.testing.assert_array_equal(arrays["blocks.1.attn.proj.weight"][:, column], out)
    np.testing.assert_array_equal(arrays["blocks.1.mlp.fc1.weight"], block["MlpBlock_0"]["Dense_0"]["kernel"].T)
    np.testing.assert_array_equal(arrays["blocks.1.norm2.weight"], block["LayerNorm_1"]["scale"])
    patch = params["embedding"]["kernel"]
    np.testing.assert_array_equal(arrays["patch_embed.proj.weight"][3, 1], patch[:, :, 1, 3])
    assert len(arrays) == 4 + 2 + 2 + 2 * 12 and arrays["cls_token"].shape == (1, 1, 8)
    assert arrays["pos_embed"].shape == (1, 5, 8)


def test_to_timm_counts_a_hybrids_stages_and_units_from_0():
    arrays = to_timm(_bundle("r50_vit_b16", 32, stem_sizes=(1, 2, 1), **TINY).variables)
    stem = "patch_embed.backbone."
    assert arrays[f"{stem}stem.conv.weight"].shape == (64, 3, 7, 7)
    assert arrays[f"{stem}stages.1.blocks.1.conv2.weight"].shape == (128, 128, 3, 3)
    assert arrays[f"{stem}stages.2.blocks.0.downsample.norm.bias"].shape == (1024,)
    assert f"{stem}stages.1.blocks.1.downsample.conv.weight" not in arrays


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (
            {"pool": "token", "gelu": "tanh"},
            {"class_token": True, "global_pool": "token", "fc_norm": False, "act_layer": "gelu_tanh"},
        ),
        ({"pool": "mean", "gelu": "erf"}, {"class_token": False, "global_pool": "avg", "fc_norm": False}),
        (
            {"pool": "mean", "class_token": True, "fc_norm": True, "registers": 4, "gelu": "erf"},
            {"class_token": True, "global_pool": "avg", "fc_norm": True, "reg_tokens": 4, "no_embed_class": True},
        ),
    ],
)
def test_safetensors_metadata_has_the_arguments_of_timm(options, arguments, tmp_path):
    (file,) = write_safetensors(_bundle("vit_b16", 32, options=options, **TINY), str(tmp_path / "v.safetensors"))
    created = json.loads(_read(file)[1]["create"])
    expected = {"model_name": "vit_base_patch16_224", "num_classes": 3, "img_size": 32, **arguments}
    assert created == {"call": "timm.create_model", "arguments": expected}


def test_safetensors_metadata_has_an_epsilon_that_timm_cannot_be_given(tmp_path, caplog):
    """The metadata also has the patch size, because timm's model has patches of 16 px."""
    bundle = _bundle("vit_s14", 28, options={"epsilon": 1e-12}, **TINY)
    (file,) = write_safetensors(bundle, str(tmp_path / "v.safetensors"))
    created = json.loads(_read(file)[1]["create"])
    assert created["layer_norm_eps"] == 1e-12 and created["arguments"]["patch_size"] == 14
    assert created["arguments"]["model_name"] == "vit_small_patch16_224"
    assert caplog.messages == ["this model's epsilon is 1e-12, timm's 1e-06; docs/export.md says how to set it"]


def test_model_that_neither_library_has_is_refused(tmp_path, capsys):
    (tmp_path / "b.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    arguments = [f"--bundle={tmp_path / 'b.msgpack'}", f"--output={tmp_path / 'x'}", "--format=safetensors"]
    assert main(["animesion", "export", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert all(word in message for word in ("shallownet", "resnet18", "r50_vit_b16", "--format=onnx")), message
    assert len(message.splitlines()) == 1 and not (tmp_path / "x").exists()
    bundle = _bundle("vit_b16", 32, options={"pre_logits": True}, **TINY)
    with pytest.raises(InputError, match=r"pre_logits.*--format=onnx"):
        write_safetensors(bundle, str(tmp_path / "x"))
