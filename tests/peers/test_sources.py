"""What a name of timm's weights sets in a config, against timm's own configuration of them."""

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax import hub
from animesion_jax.config import resolve
from animesion_jax.configs import dafre_128
from animesion_jax.models import abstract_variables, family_of
from animesion_jax.pretrained import load_pretrained
from animesion_jax.pretrained.sources import NAMED
from animesion_jax.workdir.run import build_model

pytestmark = pytest.mark.peers

NAMES = [name for name in NAMED if name.startswith("timm/")]
# timm's models and arguments of SmilingWolf's taggers, which have 10,861 tags.
VIT_TAGGER = {"class_token": False, "global_pool": "avg", "fc_norm": False}
TAGGERS = {
    "wd_vit_b16": ("vit_base_patch16_224", VIT_TAGGER),
    "wd_vit_l16": ("vit_large_patch16_224", VIT_TAGGER),
    "wd_eva02_l14": ("eva02_large_patch14_224", {}),
}


@pytest.mark.parametrize("name", NAMES)
def test_source_has_timms_address_licence_input_and_normalisation(name, peers):
    published, source = peers.timm.get_pretrained_cfg(name.removeprefix("timm/")), NAMED[name]
    config = dafre_128.get_config(f"{source.model},pretrained={name}")
    config = resolve(config, family_of(config.model))
    assert source.url == f"hf://{published.hf_hub_id}/model.safetensors"
    assert source.licence.lower() == published.license
    assert (3, source.image_size, source.image_size) == published.input_size
    assert (config.mean, config.std) == (published.mean, published.std)


@pytest.mark.parametrize("name", [name for name in NAMES if NAMED[name].model.startswith("vit_")])
def test_config_of_a_vits_name_has_the_options_of_timms_model(name, peers):
    config = dafre_128.get_config(f"{NAMED[name].model},pretrained={name}").vit
    with peers.torch.device("meta"):
        model = peers.timm.create_model(name.removeprefix("timm/"), pretrained=False)
    assert config.pool == {"token": "token", "avg": "mean"}[model.global_pool]
    assert model.num_prefix_tokens == config.registers + (config.pool == "token")
    assert {layer.eps for layer in model.modules() if isinstance(layer, peers.torch.nn.LayerNorm)} == {config.epsilon}
    gelu = {"GELU": "erf", "GELUTanh": "tanh"}[type(model.blocks[0].mlp.act).__name__]
    # timm runs Google's with the exact GELU; they were trained with the tanh approximation.
    assert config.gelu == ("tanh" if "augreg" in name or "siglip" in name else gelu)


def test_names_of_transformers_set_its_default_epsilon_and_gelu():
    default = pytest.importorskip("transformers").ViTConfig()
    names = [name for name in NAMED if name.startswith("transformers/")]
    assert len(names) == 3 and default.hidden_act == "gelu"  # the exact one; "gelu_new" approximates it
    for name in names:
        config = dafre_128.get_config(f"{NAMED[name].model},pretrained={name}").vit
        assert (config.epsilon, config.gelu) == (default.layer_norm_eps, "erf")


def test_wd_eva02_differs_from_timms_eva02_in_the_grid_of_its_rotary_positions(peers):
    name = "timm/eva02_large_patch14_224.mim_m38m"
    with peers.torch.device("meta"):
        model = peers.timm.create_model(name.removeprefix("timm/"), pretrained=False)
    grid = dafre_128.get_config(f"eva02_l14,pretrained={name}").eva02.rotary_grid
    assert [grid, grid] == list(model.rope.ref_feat_shape)
    assert dafre_128.get_config("eva02_l14,pretrained=wd_eva02_l14").eva02.rotary_grid == 448 // 14


@pytest.mark.parametrize("name", [*NAMES, *TAGGERS])
def test_file_with_timms_names_and_shapes_fits_the_config_of_its_name(name, peers, tmp_path, monkeypatch, capsys):
    """At the paper's 128 px, so that positions are resampled."""
    timms, arguments = name.removeprefix("timm/"), {}
    if name in TAGGERS:
        timms, arguments = TAGGERS[name]
        arguments = {**arguments, "img_size": 448, "num_classes": 10_861}
    with peers.torch.device("meta"):
        state = peers.timm.create_model(timms, pretrained=False, **arguments).state_dict()
    arrays = {key: np.broadcast_to(np.float32(0.5), each.shape) for key, each in state.items()}
    config = dafre_128.get_config(f"{NAMED[name].model},pretrained={name}")
    file = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({}, file)  # its metadata is read too
    monkeypatch.setattr(hub, "fetch", lambda address, endings: hub.Fetched(file, {"address": address}))
    monkeypatch.setattr(safetensors.numpy, "load_file", lambda path: arrays)
    model = build_model(config, 3263)
    load_pretrained(name, model, abstract_variables(model, config.image_size))
    summary = capsys.readouterr().err
    assert ("resampled" in summary) == (not name.startswith("timm/resnet"))
    assert ("channels reversed" in summary) == ("note: trained on about 90 %" in summary) == (name in TAGGERS)
    assert "the weights expect" not in summary
