"""WD taggers: heads of 10,861 tags, and BGR input, which we reverse in the patch kernel."""

import numpy as np
import pytest

from tests.peer_cases import EVA02S, TIMM_VITS
from tests.peers import our_models
from tests.published import random_images

pytestmark = pytest.mark.peers

TAGS = 10_861
CASES = {"wd_vit": TIMM_VITS["wd_vit"], "wd_eva02": EVA02S["wd_eva02"]}


@pytest.mark.parametrize("name", CASES)
def test_our_logits_of_rgb_equal_those_of_bgr(name, peers, tmp_path):
    case = CASES[name]._replace(classes=TAGS, peer_layers=2)
    model = peers.drawn(peers.timm_model(case, case.image_size))
    file = peers.save_timm(model, tmp_path)
    images = random_images(1, case.image_size)
    expected = peers.features_and_logits(model, np.ascontiguousarray(images[..., ::-1]))
    our_models.check(case, file, images, expected)
