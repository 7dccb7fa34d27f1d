"""transformers' ViTs with random weights, in files that transformers wrote, with the names of 4.x and of 5.x."""

import pytest

from tests.peer_cases import TRANSFORMERS_CASES
from tests.peers import our_models
from tests.published import random_images

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("generation", [4, 5])
@pytest.mark.parametrize("name", TRANSFORMERS_CASES)
def test_features_and_logits_equal_transformers(name, generation, transformers_peers, tmp_path):
    case = TRANSFORMERS_CASES[name]
    model, file = transformers_peers.drawn(case, case.image_size, tmp_path, generation)
    images = random_images(1, case.image_size)
    our_models.check(case, file, images, transformers_peers.features_and_logits(model, images))


def test_the_two_generations_differ_in_names_alone(transformers_peers, tmp_path):
    case = TRANSFORMERS_CASES["classifier"].small()
    model = transformers_peers.untrained(case, case.image_size)
    names = [
        transformers_peers.shapes_in(transformers_peers.save(model, tmp_path / str(generation), generation))
        for generation in (4, 5)
    ]
    assert "vit.encoder.layer.0.attention.attention.query.weight" in names[0]
    assert "vit.layers.0.attention.q_proj.weight" in names[1]
    assert sorted(names[0].values()) == sorted(names[1].values())
