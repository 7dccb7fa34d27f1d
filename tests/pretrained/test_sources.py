"""The published weights by name: what configs set for them, how they are found, and how they are loaded."""

import dataclasses
import re

import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.config import check, resolve
from animesion_jax.configs import dafre_128
from animesion_jax.errors import InputError
from animesion_jax.models import MODELS, abstract_variables, create_model, family_of
from animesion_jax.pretrained import load_pretrained, load_with_origin, sources
from animesion_jax.pretrained.sources import NAMED, Source
from animesion_jax.workdir.run import build_model
from tests.pretrained.tiny import flatten, tiny_arrays, tiny_vit
from tests.published import random_images, save_google

# The paper's models start from the files that the paper started from.
PAPERS = {
    "resnet18": "timm/resnet18.tv_in1k", "resnet152": "timm/resnet152.tv_in1k",
    "vit_b16": "google/imagenet21k/ViT-B_16", "vit_b32": "google/imagenet21k/ViT-B_32",
    "vit_l16": "google/imagenet21k/ViT-L_16", "vit_l32": "google/imagenet21k/ViT-L_32",
}  # fmt: skip
# Rows of the published position tables: grid * grid, and 1 of those with a class token.
ROWS = {
    "wd_vit_b16": 28 * 28,
    "wd_vit_l16": 28 * 28,
    "wd_eva02_l14": 32 * 32 + 1,
    "google/imagenet21k/ViT-B_16": 14 * 14 + 1,
    "google/imagenet21k/ViT-H_14": 16 * 16 + 1,
    "google/imagenet21k/R50+ViT-L_32": 7 * 7 + 1,
    "google/imagenet21k+imagenet2012/ViT-L_32": 12 * 12 + 1,
    "google/gsam/ViT-B_32": 7 * 7,
    "timm/vit_small_patch32_224.augreg_in21k": 7 * 7 + 1,
    "timm/vit_base_patch14_dinov2.lvd142m": 37 * 37 + 1,
    "timm/vit_base_patch16_siglip_gap_224.v2_webli": 14 * 14,
    "timm/vit_so400m_patch14_siglip_gap_224.v2_webli": 16 * 16,
    "timm/eva02_base_patch14_224.mim_in22k": 16 * 16 + 1,
    "transformers/vit-base-patch16-224-in21k": 14 * 14 + 1,
}
IMAGENET, CLIP = (0.485, 0.456, 0.406), (0.48145466, 0.4578275, 0.40821073)
HALF = (0.5, 0.5, 0.5)


def _config(name):
    return dafre_128.get_config(f"{NAMED[name].model},pretrained={name}")


@pytest.mark.parametrize("model", MODELS)
def test_pretrained_without_a_name_takes_the_models_own_weights(model):
    if model in ("shallownet", "resnet10"):
        assert model not in family_of(model).weights
        with pytest.raises(ValueError, match=f"no published weights of '{model}'; allowed: resnet18"):
            dafre_128.get_config(f"{model},pretrained")
        return
    config = dafre_128.get_config(f"{model},pretrained")
    assert NAMED[config.pretrained].model == model and PAPERS.get(model, config.pretrained) == config.pretrained
    assert config.trainable == ("head" if model.startswith("resnet") else "all")
    assert config == _config(config.pretrained)
    assert not dafre_128.get_config(model).pretrained
    # 128 px, or the largest multiple of 14 below.
    assert config.image_size == (126 if "14" in model else 128)


@pytest.mark.parametrize("name", NAMED)
def test_every_name_sets_options_of_a_model_that_can_be_built(name):
    source, config = NAMED[name], _config(name)
    assert config.pretrained == name and source.url.startswith(("hf://", "https://")) and not config.keep_head
    check(config, family_of(source.model))
    build_model(config, 3263)
    plain = dafre_128.get_config(source.model)
    changed = {option for option in source.options if config[option] != plain[option]}
    assert changed == set(source.options)  # an option that is our default is not listed
    assert source.image_size % create_model(source.model, num_classes=1, image_size=224).image_multiple == 0


@pytest.mark.parametrize("name", ROWS)
def test_model_of_a_name_has_as_many_positions_as_the_published_file(name):
    config = _config(name)
    config.image_size = NAMED[name].image_size
    shapes = traverse_util.flatten_dict(abstract_variables(build_model(config, 2), config.image_size), sep="/")
    (table,) = (shape for path, shape in shapes.items() if "pos_embed" in path)
    assert table.shape[1] == ROWS[name]


@pytest.mark.parametrize(
    ("name", "mean", "fit", "channels"),
    [
        ("wd_vit_b16", HALF, "pad", "BGR"),
        ("wd_vit_l16", HALF, "pad", "BGR"),
        ("wd_eva02_l14", HALF, "pad", "BGR"),
        ("google/imagenet21k/ViT-B_16", HALF, "squash", "RGB"),
        ("timm/resnet18.tv_in1k", IMAGENET, "squash", "RGB"),
        ("timm/vit_small_patch14_dinov2.lvd142m", IMAGENET, "squash", "RGB"),
        ("timm/vit_base_patch16_siglip_gap_224.v2_webli", HALF, "squash", "RGB"),
        ("timm/beit_base_patch16_224.in22k_ft_in22k", HALF, "squash", "RGB"),
        ("timm/beitv2_base_patch16_224.in1k_ft_in22k", IMAGENET, "squash", "RGB"),
        ("timm/eva02_large_patch14_224.mim_m38m", CLIP, "squash", "RGB"),
    ],
)
def test_config_preprocesses_as_the_weights_were_trained(name, mean, fit, channels):
    config = resolve(_config(name), family_of(NAMED[name].model))
    assert (config.mean, config.fit, NAMED[name].channels) == (mean, fit, channels)


def test_faithful_overrides_the_gelu_of_the_weights():
    for option, gelu in (("", "tanh"), (",faithful", "erf")):
        assert dafre_128.get_config(f"vit_b16,pretrained=wd_vit_b16{option}").vit.gelu == gelu
    assert dafre_128.get_config("vit_b14,pretrained").vit.gelu == "erf"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "vit_b16,pretrained=wd_vit_b61",
            "no published weights are named 'wd_vit_b61'; allowed for vit_b16: wd_vit_b16; ",
        ),
        (
            "vit_b16,pretrained=",
            "no published weights are named ''; allowed for vit_b16: wd_vit_b16, google/imagenet21k/ViT-B_16",
        ),
        (
            "vit_b16,pretrained=wd_vit_l16",
            "wd_vit_l16 are weights of vit_l16, not of vit_b16; allowed for vit_b16: ",
        ),
        ("shallownet,pretrained=wd_vit_l16", "not of shallownet; allowed for shallownet: no name; `animesion configs"),
        ("vit_b16,pretrained=x.npz", "for a path or an address, give --config.pretrained=x.npz"),
        ("vit_b16,pretrained=hf://a/b", "for a path or an address, give --config.pretrained=hf://a/b"),
    ],
)
def test_wrong_names_are_one_line_with_the_next_step(argument, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        dafre_128.get_config(argument)
    assert message in str(caught.value)


def test_sources_are_found_by_name_and_by_address():
    wd, google = NAMED["wd_vit_b16"], NAMED["google/imagenet21k/R50+ViT-B_16"]
    repository = "hf://SmilingWolf/wd-vit-tagger-v3"
    for path in ("wd_vit_b16", repository, f"{repository}@v2.0", f"{repository}@main/model.safetensors", wd.url):
        assert sources.find(path) is wd
    assert sources.find("https://storage.googleapis.com/vit_models/imagenet21k/R50%2BViT-B_16.npz") is google
    for path in (f"{repository}/model.msgpack", "hf://SmilingWolf/wd-swinv2-tagger-v3", "wd_vit_b16.npz", "runs/b16"):
        assert sources.find(path) is None


def _publish(monkeypatch, path, num_classes=7, **fields):
    """Enters a tiny ViT's file as "tiny"; returns its model and abstract variables."""
    token = num_classes != 10_861
    save_google(path, tiny_arrays(num_classes=num_classes, token=token))
    source = Source(str(path), "MIT", "vit_b16", 64, "nothing", **fields)
    monkeypatch.setitem(NAMED, "tiny", source)
    return tiny_vit(num_classes=num_classes, pool="token" if token else "mean")


@pytest.mark.parametrize("case", ["name", "copy of a tagger"])
def test_bgr_weights_see_rgb_images_as_they_saw_bgr_ones(case, tmp_path, monkeypatch, capsys):
    tags = 10_861 if case == "copy of a tagger" else 7
    model, variables = _publish(monkeypatch, tmp_path / "tiny.npz", tags, channels="BGR" if tags == 7 else "RGB")
    loaded = load_pretrained("tiny" if tags == 7 else str(tmp_path / "tiny.npz"), model, variables, keep_head=True)
    printed = capsys.readouterr().err
    assert re.search(r"embedding +1 +6,144 +loaded, channels reversed, because the file is for BGR", printed)
    # The copy is warned of like the tagger itself.
    assert ("note: trained on about 90 % of DAF:re's test images" in printed) == (case == "copy of a tagger")
    monkeypatch.setitem(NAMED, "rgb", dataclasses.replace(NAMED["tiny"], channels="RGB"))
    plain = load_pretrained("rgb", model, variables, keep_head=True)
    images = random_images(2, 64)
    reversed_, expected = model.apply(loaded, images), model.apply(plain, images[..., ::-1])
    np.testing.assert_allclose(reversed_, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(reversed_, model.apply(plain, images), atol=1e-3)
    same = {name for name, array in flatten(loaded).items() if np.array_equal(array, flatten(plain)[name])}
    assert set(flatten(plain)) - same == {"embedding/kernel"}


def test_notes_name_every_option_that_differs_from_the_weights(tmp_path, monkeypatch, capsys):
    trained = {"vit.gelu": "erf", "vit.epsilon": 1e-12, "mean": (0.1, 0.2, 0.3), "fit": "pad"}
    _, variables = _publish(monkeypatch, tmp_path / "tiny.npz", options=trained, note="Mind the gap")
    same, _ = tiny_vit(num_classes=7, gelu="erf", epsilon=1e-12)
    preprocessing = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "fit": "pad"}
    _, origin = load_with_origin("tiny", same, variables, preprocessing=preprocessing)
    assert origin["note"] == "Mind the gap"
    assert re.findall("note: .*", capsys.readouterr().err) == ["note: Mind the gap"]
    other, _ = tiny_vit(num_classes=7)
    load_with_origin("tiny", other, variables, preprocessing={"mean": HALF, "std": (0.2, 0.5, 0.5), "fit": "squash"})
    assert re.findall("note: the weights expect (.*)", capsys.readouterr().err) == [
        "vit.gelu=erf, this model has tanh",
        "vit.epsilon=1e-12, this model has 1e-06",
        "mean=(0.1, 0.2, 0.3), this model has (0.5, 0.5, 0.5)",
        "std=(0.5, 0.5, 0.5), this model has (0.2, 0.5, 0.5)",
        "fit=pad, this model has squash",
    ]
    # A file of the user's is not known.
    load_pretrained(str(tmp_path / "tiny.npz"), other, variables)
    assert "note:" not in capsys.readouterr().err


def test_published_weights_of_another_model_are_refused_before_they_are_downloaded():
    for path in ("wd_vit_b16", NAMED["wd_vit_b16"].url):
        with pytest.raises(
            InputError, match=f"^{path} are weights of vit_b16, not of vit_ti16; allowed for vit_ti16: "
        ):
            sources.check_model(path, "vit_ti16")
        sources.check_model(path, "vit_b16")
    sources.check_model("mine.safetensors", "vit_ti16")
