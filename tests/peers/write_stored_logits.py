"""Writes tests/pretrained/peer_logits.json: python tests/peers/write_stored_logits.py, after `make test-peers`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import numpy as np

from tests.drawn import draw_arrays
from tests.peers import torch_models, transformers_models
from tests.pretrained import test_stored_peers as stored_peers
from tests.published import Arrays, random_images, save_google


def peer_case(name: str) -> dict[str, Any]:
    """Returns what is stored of a case.

    These are the fingerprint and the logits, the shapes by name in a drawn file, and logits at another size.
    """
    images = stored_peers.case_images(name)
    with tempfile.TemporaryDirectory() as folder:
        if name in stored_peers.DRAWN:
            arrays, outputs = _drawn(name, Path(folder), images)
            shapes = {"shapes": {key: array.shape for key, array in arrays.items()}}
        else:
            arrays, shapes = stored_peers.case_arrays(name, {}), {}
            outputs = {"logits": _published(name, arrays, Path(folder), images)}
    outputs = {key: array.tolist() for key, array in outputs.items()}
    return {"fingerprint": stored_peers.fingerprint(arrays, images), **outputs, **shapes}


def _drawn(name: str, folder: Path, images: np.ndarray) -> tuple[Arrays, Arrays]:
    """Returns the arrays of the file that timm or transformers writes, and the logits."""
    case, outputs = stored_peers.DRAWN[name], {}
    if name.startswith("timm"):
        model = torch_models.drawn(torch_models.timm_model(case, case.image_size))
        file = torch_models.save_timm(model, folder)
        features, logits = torch_models.features_and_logits(model, images)
    else:
        generation = int(name.split()[1][0])
        model, file = transformers_models.drawn(case, case.image_size, folder, generation)
        features, logits = transformers_models.features_and_logits(model, images)
    outputs["logits"] = features @ stored_peers.new_classifier(features.shape[1]).T if logits is None else logits
    if name in stored_peers.RESAMPLED:
        model = torch_models.load_timm(case, file, case.other_size)
        outputs["resampled"] = torch_models.logits(model, random_images(2, case.other_size))
    return draw_arrays(transformers_models.shapes_in(file)), outputs


def _published(name: str, arrays: Arrays, folder: Path, images: np.ndarray) -> np.ndarray:
    """Returns the logits of torchvision, or of timm that reads an archive."""
    if name == "resnet18":
        return torch_models.logits(torch_models.torchvision_resnet(18, arrays, stored_peers.CLASSES), images)
    file = save_google(folder / "vit.npz", arrays)
    if name in stored_peers.BIG_VISION:
        case = stored_peers.BIG_VISION[name]
        model = torch_models.timm_model(case, case.image_size)
        model.load_pretrained(file)
    else:
        depth = stored_peers.PUBLISHED[name]["num_layers"]
        model = torch_models.timm_vit(name, file, stored_peers.CLASSES, stored_peers.IMAGE_SIZE, depth=depth)
    return torch_models.logits(model, images)


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(peer_case(name))}" for name in stored_peers.CASES)
    stored_peers.STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
