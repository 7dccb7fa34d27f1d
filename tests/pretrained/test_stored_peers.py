"""Our logits against the stored ones of torchvision and timm for the same weights; needs no PyTorch.

`python tests/peers/write_stored_logits.py` writes the file, and tests/peers/test_stored_logits.py computes it again.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.published import google_arrays, random_images, relative_difference, save_google, torchvision_arrays

STORED = Path(__file__).parent / "peer_logits.json"
# Published widths, with few layers; the hybrid's stem is whole.
CASES = {"resnet18": {}, "vit_ti16": {"num_layers": 2}, "r26_vit_b32": {"num_layers": 1}}
CLASSES, IMAGE_SIZE = 7, 64


def case_arrays(name: str) -> dict[str, np.ndarray]:
    """Returns the weights of a case in the published layout."""
    if name == "resnet18":
        return torchvision_arrays(18, CLASSES)
    return google_arrays(name, CLASSES, IMAGE_SIZE, **CASES[name])


def case_images() -> np.ndarray:
    """Returns the images of every case."""
    return random_images(2, IMAGE_SIZE)


def fingerprint(name: str) -> float:
    """Returns a sum over a case's weights and images, to compare them with those of the stored logits."""
    arrays = [*case_arrays(name).values(), case_images()]
    return float(sum(np.abs(array, dtype=np.float64).sum() for array in arrays))


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_stored_ones_of_the_peer(name, tmp_path):
    stored = json.loads(STORED.read_text())[name]
    # NumPy may change its random numbers; then write the logits again.
    assert fingerprint(name) == pytest.approx(stored["fingerprint"], rel=1e-9)
    if name == "resnet18":
        file = tmp_path / "resnet18.safetensors"
        safetensors.numpy.save_file(case_arrays(name), file)
    else:
        file = save_google(tmp_path / "vit.npz", case_arrays(name))
    model = create_model(name, num_classes=CLASSES, image_size=IMAGE_SIZE, **CASES[name])
    variables = load_pretrained(str(file), model, abstract_variables(model, IMAGE_SIZE), keep_head=True)
    logits = jax.jit(model.apply)(variables, case_images())
    assert relative_difference(logits, np.array(stored["logits"])) <= 1e-4
