"""Pictures with heads, a detector that finds them, and a bundle that knows some of them."""

from pathlib import Path

import flax.serialization
import jax
import numpy as np
from PIL import Image

from animesion_jax.bundle import load_bundle
from animesion_jax.hub import sha256
from animesion_jax.inference.heads import head_finder
from animesion_jax.inference.recognizer import load
from animesion_jax.models import create_model
from tests.detection.onnx_files import BLOB, GROUND, write_blob_detector
from tests.hostile_seeds import CALIBRATION, bundle_tree
from tests.serve.running import NAME

# The picture is 2.5 times as wide and 1.5 times as high as the detector's input, whose blobs are on a grid of BLOB.
SIZE = (160, 96)
# The boxes with their red, the most confident first; the second and third are at an edge of the picture.
BOXES = {(40, 0, 80, 24): 255, (120, 48, 160, 72): 240, (0, 72, 40, 96): 225}
# The crops are this much larger than the boxes.
SCALE = 1.5


def write_scene(path: Path) -> Path:
    """Writes a picture with a red head at each of `BOXES`; returns `path`."""
    picture = Image.new("RGB", SIZE, GROUND)
    for box, red in BOXES.items():
        picture.paste((red, 0, 0), box)
    picture.save(path)
    return path


def write_crowd(path: Path, heads: int) -> Path:
    """Writes a picture of 320 x 128 with up to 40 heads, none beside another; returns `path`."""
    pixels = np.empty((8 * BLOB, 20 * BLOB, 3), np.uint8)
    pixels[:] = GROUND
    for number in range(heads):
        top, left = 2 * BLOB * (number // 10), 2 * BLOB * (number % 10)
        pixels[top : top + BLOB, left : left + BLOB] = (255 - number, 0, 0)
    Image.fromarray(pixels).save(path)
    return path


def write_detector(path: Path, size: tuple[int, int] = (4 * BLOB, 4 * BLOB)) -> Path:
    """Writes a detector whose boxes do not overlap; returns `path`."""
    return write_blob_detector(path, size=size, stride=BLOB)


def write_knowing_bundle(path: Path, detector: Path, scene: Path) -> Path:
    """Writes a bundle with random weights that calls one of the scene's heads unknown; returns `path`."""
    model = create_model("shallownet", num_classes=2, image_size=16)
    variables = model.init(jax.random.key(3), np.zeros((1, 16, 16, 3), np.float32))
    crops = {
        "detector": detector.name, "sha256": sha256(detector), "scale": SCALE, "shift": 0.0, "fit": "squash",
        "source": {"images": 3, "top1_accuracy": 1.0},
    }  # fmt: skip
    tree = bundle_tree() | {
        "classes": ["あかり", NAME],
        "variables": jax.tree.map(np.asarray, variables),
        "crops": crops,
        "calibration": CALIBRATION,
    }
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    certain = sorted(face["predictions"][0]["probability"] for face in expected_faces(path, detector, scene))
    tree["calibration"] = CALIBRATION | {"threshold": (certain[0] + certain[1]) / 2}
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def expected_faces(bundle: Path, detector: Path, picture: Path, top_k: int = 5) -> list[dict]:
    """Returns the faces that `predict` finds on a picture."""
    finder = head_finder(load_bundle(str(bundle)), str(detector))
    (row,) = load(str(bundle)).predict_pictures([picture], finder, top_k)
    return row["faces"]
