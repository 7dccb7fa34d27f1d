"""Finds the heads on whole pictures.

    detect = load_detector("lbpcascade_animeface.xml")
    detect(image)  # [Detection(box=(left, top, right, bottom), confidence=0.9), ...]

The user names a detector's file; the package contains none.
"""

import importlib
import shlex
from pathlib import Path

from animesion_jax import hub
from animesion_jax.detection import sources
from animesion_jax.detection.detector import Detection, Detector
from animesion_jax.errors import InputError, install
from animesion_jax.files import expand_home

__all__ = ["AUTO", "DEFAULT", "Detection", "Detector", "load_detector"]

DEFAULT = "hf://deepghs/anime_head_detection"
# The value of --detector that takes the bundle's detector.
AUTO = "auto"
# Modules and classes by the ending of the file. They are imported on first use, since they need the extra [detect].
KINDS = {".onnx": ("onnx_yolo", "OnnxYolo"), ".xml": ("cascade", "Cascade")}
PACKAGES = ("cv2", "onnxruntime")
# Endings of the files that detectors are trained as.
CHECKPOINTS = (".pt", ".pth")


def load_detector(name: str = DEFAULT, min_confidence: float | None = None) -> Detector:
    """Returns a detector.

    Args:
      name: a local file or an address: *.onnx in a layout of YOLO, or *.xml for a cascade of OpenCV.
      min_confidence: boxes of a lower confidence are left out, 0 to 1; None for the detector's own threshold.

    Raises:
      InputError: no such file, not a detector, a confidence beyond 0 to 1, or the extra [detect] is missing.
    """
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence is {min_confidence:g}; allowed: 0 to 1")
    hub.check_scheme(name)
    local, public = name, Path(name).name
    if hub.is_address(name):
        local, origin = sources.fetch(name)
        public = origin["address"]
    path = Path(expand_home(str(local)))
    kind = KINDS.get(path.suffix.lower())
    if path.suffix.lower() in CHECKPOINTS:
        raise InputError(
            f"{name} needs PyTorch; export it to ONNX first: yolo export model={shlex.quote(path.name)} format=onnx"
        )
    if kind is None or not path.is_file():
        why = "no detector at" if kind else "not a detector:"
        raise InputError(f"{why} {path}; allowed: *.onnx or *.xml, a file or an address, such as {DEFAULT}")
    try:
        module = importlib.import_module(f"animesion_jax.detection.{kind[0]}")
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise InputError(f"{name} needs the package {error.name}; install it: {install('detect')}") from error
    return getattr(module, kind[1])(path, public, hub.sha256(path), min_confidence)
