"""The published weights that configs start from."""

import re

import pytest

from animesion_jax.configs import dafre_128
from animesion_jax.models import MODELS, create_model, family_of
from animesion_jax.pretrained import sources


@pytest.mark.parametrize("name", MODELS)
def test_pretrained_config_names_the_published_weights_of_its_model(name):
    if name in ("shallownet", "resnet10"):
        assert name not in family_of(name).weights
        with pytest.raises(ValueError, match=f"no published weights of '{name}'; allowed: resnet18"):
            dafre_128.get_config(f"{name},pretrained")
        return
    config = dafre_128.get_config(f"{name},pretrained")
    url, licence = sources.NAMED[config.pretrained]
    assert config.pretrained == family_of(name).weights[name] and url.startswith(("https://", "hf://")) and licence
    assert (config.model, config.keep_head, config.vit.pool, config.vit.pre_logits) == (name, False, "token", False)
    family = family_of(name)
    resnet = family.name == "resnet"
    assert config.trainable == ("head" if resnet else "all")
    assert family.mean == ((0.485, 0.456, 0.406) if resnet else (0.5, 0.5, 0.5))
    assert not dafre_128.get_config(name).pretrained
    create_model(name, num_classes=3263, image_size=config.image_size)  # a size that the model takes
    assert config.image_size == (126 if name == "vit_h14" else 128)
    file = name if resnet else re.sub(r"(\d\d)$", r"_\1", name.removeprefix("vit_").replace("_vit_", "+vit-"))
    assert file in config.pretrained.lower()  # resnet18, ti_16, vit-b_16, r50+vit-b_16
