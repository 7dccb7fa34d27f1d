"""A file of EVA02's authors, read by timm and by us."""

import pytest
import safetensors.numpy

from tests.peer_cases import EVA02S
from tests.peers import our_models
from tests.pretrained.test_eva02 import authors_file
from tests.published import random_images

pytestmark = pytest.mark.peers


def test_authors_file_of_masked_pre_training_equals_timm(peers, tmp_path):
    case = EVA02S["eva02"].small()._replace(classes=0)
    model = peers.drawn(peers.timm_model(case, case.image_size))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    file = str(tmp_path / "authors.safetensors")
    safetensors.numpy.save_file(authors_file(arrays), file)
    images = random_images(2, case.image_size)
    expected = peers.features_and_logits(peers.load_timm(case, file, case.image_size), images)
    our_models.check(case, file, images, expected)
