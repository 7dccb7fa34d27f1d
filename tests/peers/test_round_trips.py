"""Ours -> `export --format=safetensors` -> timm -> its file -> ours: the same variables."""

import json

import jax
import numpy as np
import pytest
import safetensors

from animesion_jax.bundle import Bundle
from animesion_jax.export.safetensors import write_safetensors
from tests.peer_cases import EVA02S, TIMM_CASES, TIMM_VITS
from tests.peers import our_models
from tests.published import random_images, relative_difference

pytestmark = pytest.mark.peers

CASES = [*TIMM_VITS, "beit", *EVA02S]
HALF = (0.5,) * 3


@pytest.mark.parametrize("name", CASES)
def test_variables_return_from_timm(name, peers, tmp_path):
    case = TIMM_CASES[name].small()
    # A file of timm gives our model random weights of every kind.
    file = peers.save_timm(peers.drawn(peers.timm_model(case, case.image_size)), tmp_path / "first")
    model, variables = our_models.load(case, file, case.image_size)
    rng = np.random.default_rng(0)
    variables["params"]["head"] = jax.tree.map(
        lambda array: rng.standard_normal(array.shape, np.float32), variables["params"]["head"]
    )
    described = {"name": case.model, "num_classes": 7, "image_size": case.image_size, **case.options}
    bundle = Bundle(model, variables, tuple("abcdefg"), case.image_size, HALF, HALF, {}, described)
    (exported,) = write_safetensors(bundle, str(tmp_path / "exported.safetensors"))

    with safetensors.safe_open(exported, "pt") as opened:
        created = json.loads(opened.metadata()["create"])
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
    assert created["call"] == "timm.create_model"
    # The arguments of the metadata make the published depth.
    peer = peers.timm.create_model(**created["arguments"], **{case.depth: case.peer_layers}).eval()
    peer.load_state_dict(state, strict=True)
    images = random_images(2, case.image_size)
    features, logits = peers.features_and_logits(peer, images)
    actual = our_models.features_and_logits(model, variables, images)
    assert relative_difference(actual[0], features) <= our_models.LIMIT
    assert relative_difference(actual[1], logits) <= our_models.LIMIT

    _, returned = our_models.load(case._replace(classes=7), peers.save_timm(peer, tmp_path / "second"), case.image_size)
    assert jax.tree.structure(returned) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, returned, variables)
