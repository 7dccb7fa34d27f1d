"""timm's models with random weights, in files that timm wrote, at the published size and at another one."""

import pytest

from tests.peer_cases import BEITS, EVA02S, TIMM_CASES, TIMM_VITS
from tests.peers import our_models
from tests.published import random_images

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", TIMM_CASES)
def test_features_and_logits_equal_timm(name, peers, tmp_path):
    case = TIMM_CASES[name]
    model = peers.drawn(peers.timm_model(case, case.image_size))
    file = peers.save_timm(model, tmp_path)
    images = random_images(1, case.image_size)
    our_models.check(case, file, images, peers.features_and_logits(model, images))

    images = random_images(1, case.other_size)
    model = peers.load_timm(case, file, case.other_size)
    our_models.check(case, file, images, peers.features_and_logits(model, images))


@pytest.mark.parametrize("name", [next(iter(cases)) for cases in (TIMM_VITS, BEITS, EVA02S)])
def test_pth_file_of_a_compiled_model(name, peers, tmp_path):
    """torch.compile adds a prefix to the names."""
    case = TIMM_CASES[name].small()
    model = peers.drawn(peers.timm_model(case, case.image_size))
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    peers.torch.save(state, file := tmp_path / "last.pth")
    images = random_images(2, case.image_size)
    our_models.check(case, str(file), images, peers.features_and_logits(model, images))
