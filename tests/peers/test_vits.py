"""Every ViT and hybrid at its full depth and width, from a Google file, against timm reading the same file."""

import gc

import pytest

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.published import VIT_SIZES, google_arrays, random_images, relative_difference, save_google

pytestmark = pytest.mark.peers


def _ours(file, name, image_size, images, **options):
    model = create_model(name, num_classes=7, image_size=image_size, **options)
    variables = load_pretrained(file, model, abstract_variables(model, image_size), keep_head=True)
    return model.apply(variables, images)


@pytest.mark.parametrize("name", VIT_SIZES)
def test_vit_agrees_with_timm(name, peers, tmp_path):
    image_size = 56 if name == "vit_h14" else 64
    images = random_images(2, image_size)
    file = tmp_path / "published.npz"
    try:
        save_google(file, google_arrays(name, 7, image_size, groupnorm_4d=True))
        gc.collect()  # ViT-H is 2.5 GB: one copy at a time
        expected = peers.logits(peers.timm_vit(name, str(file), 7, image_size), images)
        gc.collect()
        actual = _ours(str(file), name, image_size, images)
    finally:
        file.unlink(missing_ok=True)
        gc.collect()
    assert relative_difference(actual, expected) <= 1e-4


def test_mean_pooling_agrees_with_timm(peers, tmp_path):
    file = save_google(tmp_path / "gsam.npz", google_arrays("vit_s32", 7, 64, token=False))
    images = random_images(2, 64)
    # Google normalises every token before the mean; timm's default for "avg" is the other order.
    options = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    expected = peers.logits(peers.timm_vit("vit_s32", file, 7, 64, **options), images)
    assert relative_difference(_ours(file, "vit_s32", 64, images, pool="mean"), expected) <= 1e-4
