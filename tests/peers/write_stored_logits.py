"""Writes tests/pretrained/peer_logits.json: python tests/peers/write_stored_logits.py, after `make test-peers`."""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import numpy as np

from tests.peers import torch_models
from tests.pretrained.test_stored_peers import CASES, CLASSES, IMAGE_SIZE, STORED, case_arrays, case_images, fingerprint
from tests.published import save_google


def peer_logits(name: str) -> np.ndarray:
    """Returns the logits of torchvision or timm for a case."""
    if name == "resnet18":
        return torch_models.logits(torch_models.torchvision_resnet(18, case_arrays(name), CLASSES), case_images())
    with tempfile.TemporaryDirectory() as folder:
        file = save_google(Path(folder, "vit.npz"), case_arrays(name))
        model = torch_models.timm_vit(name, file, CLASSES, IMAGE_SIZE, depth=CASES[name]["num_layers"])
    return torch_models.logits(model, case_images())


if __name__ == "__main__":
    cases = {name: {"fingerprint": fingerprint(name), "logits": peer_logits(name).tolist()} for name in CASES}
    STORED.write_text(json.dumps(cases, indent=1) + "\n")
