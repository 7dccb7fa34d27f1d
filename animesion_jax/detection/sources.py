"""Detectors at addresses: their usual files, the files beside them, and their licences."""

import logging

from animesion_jax import hub

# The usual file of repositories that have several.
USUAL = {
    "deepghs/anime_head_detection": "head_detect_v2.0_s/model.onnx",
    "deepghs/anime_face_detection": "face_detect_v1.4_s/model.onnx",
}
OWNER_OF_YOLO = "deepghs/"
ULTRALYTICS = "; trained with Ultralytics' code, whose vendor claims AGPL-3.0 for such models"
ENDINGS = (".onnx", ".xml")
# Files that set a detector's threshold and layout; imgutils reads them too.
BESIDE = ("threshold.json", "model_type.json")

log = logging.getLogger("animesion_jax")


def fetch(address: str) -> hub.Fetched:
    """Returns the file of a detector's address, and logs its source and licence.

    Args:
      address: of a file, or of a repository that is one of `USUAL` or has one file that ends in one of `ENDINGS`.

    Raises:
      InputError: see `hub.fetch`.
    """
    address = hub.usual_file(address, USUAL)
    fetched = hub.fetch(address, ENDINGS)
    hub.fetch_beside(fetched, BESIDE)
    origin = fetched.origin
    file = "" if address.endswith(origin.get("file", "")) else f", file {origin['file']}"
    revision = f", revision {origin['revision'][:8]}" if "revision" in origin else ""
    claim = ULTRALYTICS if address.startswith(f"hf://{OWNER_OF_YOLO}") else ""
    licence = hub.licence(address) or "unknown"
    log.info("detector %s%s%s; licence: %s%s", origin["address"], file, revision, licence, claim)
    return fetched
