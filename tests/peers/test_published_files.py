"""ViT-B/16 and B/32 from files like ImageNet-21k's (224 px, 21,843 classes, pre_logits) against float64 numpy."""

import numpy as np
import pytest

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests import float64_vit
from tests.published import google_arrays, random_images, relative_difference, save_google

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", params=["vit_b16", "vit_b32"])
def published(request, tmp_path_factory):
    """(name, file, arrays) of a published size; 400 MB."""
    arrays = google_arrays(request.param, 21_843, 224, pre_logits=True)
    file = tmp_path_factory.mktemp("published") / "imagenet21k.npz"
    save_google(file, arrays)
    yield request.param, str(file), arrays
    file.unlink()


@pytest.mark.parametrize("image_size", [128, 224])
def test_features_of_a_fine_tuning_start_equal_the_paper(published, image_size):
    name, file, arrays = published
    model = create_model(name, num_classes=7, image_size=image_size)
    variables = load_pretrained(file, model, abstract_variables(model, image_size))
    assert not np.any(variables["params"]["head"]["kernel"]) and "pre_logits" not in variables["params"]
    # A classifier of zeros would hide the features, so both sides get the same random one.
    rng = np.random.default_rng(1)
    head = {"kernel": rng.normal(0, 768**-0.5, (768, 7)).astype(np.float32), "bias": np.zeros(7, np.float32)}
    variables["params"]["head"] = head
    kept = {key: array for key, array in arrays.items() if not key.startswith(("pre_logits", "head"))}
    kept |= {f"head/{leaf}": array for leaf, array in head.items()}
    images = random_images(1, image_size)
    actual, expected = model.apply(variables, images), float64_vit.forward(kept, images)
    assert relative_difference(actual, expected) <= 1e-4


def test_imagenet21k_logits_equal_the_paper(published):
    name, file, arrays = published
    model = create_model(name, num_classes=21_843, image_size=224, pre_logits=True)
    variables = load_pretrained(file, model, abstract_variables(model, 224), keep_head=True)
    images = random_images(1, 224)
    assert relative_difference(model.apply(variables, images), float64_vit.forward(arrays, images)) <= 1e-4
