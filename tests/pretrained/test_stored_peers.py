"""Our logits against the stored ones of torchvision, timm and transformers for the same weights; needs no PyTorch.

`python tests/peers/write_stored_logits.py` writes the file, and tests/peers/test_stored_logits.py computes it again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.drawn import draw_arrays
from tests.peer_cases import BIG_VISION_CASES, TIMM_CASES, TRANSFORMERS_CASES
from tests.published import (
    Arrays,
    big_vision_arrays,
    google_arrays,
    random_images,
    relative_difference,
    save_google,
    torchvision_arrays,
)

STORED = Path(__file__).parent / "peer_logits.json"
CLASSES, IMAGE_SIZE = 7, 64
# Rounding makes 1e-6 to 1e-5; the two GELUs differ by 5e-5.
LIMIT = 3e-5
# Weights by the names of files that the peers' own code wrote: their names and shapes are stored with the logits.
TIMM = ("wd_vit", "dinov2", "dinov2, registers", "fc_norm", "beit", "eva02", "wd_eva02")
DRAWN = {f"timm: {name}": TIMM_CASES[name].small() for name in TIMM} | {
    f"transformers {generation}.x: {name}": case.small()
    for generation in (4, 5)
    for name, case in TRANSFORMERS_CASES.items()
}
# timm reads the same files for another size too.
RESAMPLED = ("timm: wd_vit", "timm: dinov2, registers", "timm: beit", "timm: eva02")
BIG_VISION = {f"big_vision: {name}": case.small() for name, case in BIG_VISION_CASES.items()}
# Published widths, with few layers; the hybrid's stem is whole.
PUBLISHED = {"resnet18": {}, "vit_ti16": {"num_layers": 2}, "r26_vit_b32": {"num_layers": 1}}
CASES = (*PUBLISHED, *BIG_VISION, *DRAWN)


def case_arrays(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Returns the weights of a case by the names of its file; `shapes` are those of a case in `DRAWN`."""
    if name in DRAWN:
        return draw_arrays(shapes)
    if name in BIG_VISION:
        return big_vision_arrays(BIG_VISION[name].google_arrays(), stacked=name.endswith("mean"))
    if name == "resnet18":
        return torchvision_arrays(18, CLASSES)
    return google_arrays(name, CLASSES, IMAGE_SIZE, **PUBLISHED[name])


def case_model(name: str) -> tuple[str, int, dict[str, Any]]:
    """Returns the name, the image size and the options of our model."""
    if name in PUBLISHED:
        return name, IMAGE_SIZE, PUBLISHED[name]
    case = (DRAWN | BIG_VISION)[name]
    return case.model, case.image_size, {"num_layers": case.peer_layers, **case.options}


def case_images(name: str) -> np.ndarray:
    """Returns the images of a case."""
    return random_images(2, case_model(name)[1])


def new_classifier(width: int) -> np.ndarray:
    """Returns the (classes, width) weights of a classifier for a file without one."""
    return draw_arrays({"head.weight": (CLASSES, width)})["head.weight"]


def fingerprint(arrays: Arrays, images: np.ndarray) -> float:
    """Returns a sum over weights and images, to compare them with those of the stored logits."""
    return float(sum(np.abs(array, dtype=np.float64).sum() for array in (*arrays.values(), images)))


def _write_file(name: str, stored: Mapping[str, Any], folder: Path) -> str:
    """Writes a case's weights as the peer does, and returns the path."""
    arrays, images = case_arrays(name, stored.get("shapes", {})), case_images(name)
    # NumPy may change its random numbers; then write the logits again.
    assert fingerprint(arrays, images) == pytest.approx(stored["fingerprint"], rel=1e-9)
    if name in DRAWN or name == "resnet18":
        safetensors.numpy.save_file(arrays, file := folder / "model.safetensors")
        return str(file)
    return save_google(folder / "vit.npz", arrays)


def _our_logits(name: str, file: str, images: np.ndarray) -> np.ndarray:
    model_name, _, options = case_model(name)
    image_size = images.shape[1]
    model = create_model(model_name, num_classes=CLASSES, image_size=image_size, **options)
    variables = load_pretrained(file, model, abstract_variables(model, image_size), keep_head=True)
    if name in DRAWN and not DRAWN[name].classes:
        variables["params"]["head"]["kernel"] = new_classifier(model.hidden_size).T
    return jax.jit(model.apply)(variables, images)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_stored_ones_of_the_peer(name, tmp_path):
    stored = json.loads(STORED.read_text())[name]
    logits = _our_logits(name, _write_file(name, stored, tmp_path), case_images(name))
    assert relative_difference(logits, np.array(stored["logits"])) <= LIMIT


@pytest.mark.parametrize("name", RESAMPLED)
def test_logits_at_another_size_equal_those_with_positions_of_timm(name, tmp_path):
    stored = json.loads(STORED.read_text())[name]
    images = random_images(2, DRAWN[name].other_size)
    logits = _our_logits(name, _write_file(name, stored, tmp_path), images)
    assert relative_difference(logits, np.array(stored["resampled"])) <= LIMIT
