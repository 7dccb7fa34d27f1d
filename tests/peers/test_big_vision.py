"""big_vision's archives, read by timm's own reader of them."""

import pytest

from tests.peer_cases import BIG_VISION_CASES
from tests.peers import our_models
from tests.published import big_vision_arrays, random_images, save_google

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("prefix", ["params/", "params/img/"])
@pytest.mark.parametrize("name", BIG_VISION_CASES)
def test_features_and_logits_equal_timm(name, prefix, stacked, peers, tmp_path):
    case = BIG_VISION_CASES[name]
    arrays = big_vision_arrays(case.google_arrays(), prefix=prefix, stacked=stacked)
    file = save_google(tmp_path / "big_vision.npz", arrays)
    model = peers.timm_model(case, case.image_size)
    model.load_pretrained(file)
    images = random_images(1, case.image_size)
    our_models.check(case, file, images, peers.features_and_logits(model, images))
