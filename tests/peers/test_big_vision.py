"""big_vision's archives, read by timm's own reader of them."""

import pytest

from tests.peer_cases import PEER_MEAN, TANH, Case
from tests.peers import our_models
from tests.published import big_vision_arrays, google_arrays, random_images, save_google

pytestmark = pytest.mark.peers

# big_vision's class token has no position.
TOKEN = {"no_embed_class": True, **TANH}
CASES = {
    "token": Case("vit_small_patch16_224", "vit_s16", {}, TOKEN, 224, 224),
    "mean": Case("vit_small_patch16_224", "vit_s16", {"pool": "mean"}, {**PEER_MEAN, **TANH}, 224, 224),
}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("prefix", ["params/", "params/img/"])
@pytest.mark.parametrize("name", CASES)
def test_features_and_logits_equal_timm(name, prefix, stacked, peers, tmp_path):
    case = CASES[name]
    arrays = google_arrays(case.model, case.classes, case.image_size, names="linen", token=name == "token")
    file = save_google(tmp_path / "big_vision.npz", big_vision_arrays(arrays, prefix=prefix, stacked=stacked))
    model = peers.timm_model(case, case.image_size)
    model.load_pretrained(file)
    images = random_images(1, case.image_size)
    our_models.check(case, file, images, peers.features_and_logits(model, images))
