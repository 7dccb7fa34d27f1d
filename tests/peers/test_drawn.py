"""With the weights of tests/drawn.py, every part of a model changes the logits."""

import pytest

from tests.drawn import draw_arrays
from tests.peer_cases import TIMM_CASES
from tests.peers.our_models import LIMIT
from tests.published import random_images, relative_difference

pytestmark = pytest.mark.peers

CASES = ("augreg", "wd_vit", "dinov2, registers", "beit", "eva02")


@pytest.mark.parametrize("name", CASES)
def test_every_array_and_epsilon_shows_in_the_logits(name, peers):
    case = TIMM_CASES[name].small()
    model = peers.timm_model(case, case.image_size)
    shapes = peers.shapes_of(model)
    arrays, others, images = draw_arrays(shapes), draw_arrays(shapes, seed=1), random_images(1, case.image_size)
    expected = peers.logits(peers.with_state(model, arrays), images)
    assert 0.3 < expected.std() < 3
    for array, parameter in model.state_dict().items():
        parameter.copy_(peers.torch.from_numpy(others[array]))
        assert relative_difference(peers.logits(model, images), expected) > 30 * LIMIT, array
        parameter.copy_(peers.torch.from_numpy(arrays[array]))

    norms = [module for module in model.modules() if isinstance(module, peers.torch.nn.LayerNorm)]
    for epsilon in (1e-12, 1e-5):
        for norm in norms:
            norm.eps = epsilon
        assert relative_difference(peers.logits(model, images), expected) > 10 * LIMIT, epsilon
    for place, norm in enumerate(norms):
        for each in norms:
            each.eps = 1e-5 if each is norm else 1e-6
        assert relative_difference(peers.logits(model, images), expected) > 10 * LIMIT, place


def test_a_name_and_a_shape_decide_the_values():
    shapes = {"norm.weight": (5,), "head.weight": (3, 5), "head.bias": (3,)}
    arrays, again = draw_arrays(shapes), draw_arrays(dict(reversed(shapes.items())))
    assert all((arrays[name] == again[name]).all() for name in shapes)
    assert (arrays["head.bias"] != draw_arrays({"other.bias": (3,)})["other.bias"]).all()
    assert (arrays["head.bias"] != draw_arrays({"head.bias": (3,)}, seed=1)["head.bias"]).all()
