"""Finds the heads on whole pictures, with detectors that the user names; the package contains none.

detect = load_detector("lbpcascade_animeface.xml")
detect(image)  # [Detection(box=(left, top, right, bottom), confidence=0.9), ...]
"""

from pathlib import Path

from animesion_jax import hub
from animesion_jax.detection.detector import Detection, Detector
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home

__all__ = ["DEFAULT", "Detection", "Detector", "load_detector"]

DEFAULT = "hf://deepghs/anime_head_detection"
ENDINGS = (".onnx", ".xml")


def load_detector(name: str = DEFAULT, min_confidence: float | None = None) -> Detector:
    """Returns a detector.

    Args:
      name: a local file or an address: *.onnx in a layout of YOLO, or *.xml for a cascade of OpenCV.
      min_confidence: boxes of a lower confidence are left out, 0 to 1; None for the detector's own threshold.

    Raises:
      InputError: no such file, not a detector, or a confidence beyond 0 to 1.
      ModuleNotFoundError: the extra [detect] is missing.
    """
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence is {min_confidence:g}; allowed: 0 to 1")
    hub.check_scheme(name)
    local, public = name, Path(name).name
    if hub.is_address(name):
        local, origin = hub.fetch(name, ENDINGS)
        public = origin["address"]
    path = Path(expand_home(str(local)))
    if not path.is_file():
        raise InputError(f"no detector at {path}; allowed: a file or an address of *.onnx or *.xml")
    if path.suffix.lower() == ".xml":
        from animesion_jax.detection.cascade import Cascade

        return Cascade(path, public, hub.sha256(path), min_confidence)
    if path.suffix.lower() == ".onnx":
        from animesion_jax.detection.onnx_yolo import OnnxYolo

        return OnnxYolo(path, public, hub.sha256(path), min_confidence)
    raise InputError(f"{name} is not a detector; allowed: *.onnx, *.xml")
