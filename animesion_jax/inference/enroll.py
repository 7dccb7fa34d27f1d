"""Adds a character to a bundle from a few images, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from animesion_jax.bundle import extend_bundle, load_bundle
from animesion_jax.errors import InputError, command, escape
from animesion_jax.inference.embeddings import embed
from animesion_jax.inference.heads import HeadFinder, head_finder
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.inference.rows import UNKNOWN

BATCH_SIZE = 8


def enroll(
    bundle: str,
    name: str,
    files: Sequence[Path],
    output: str,
    detector: str | None = None,
    min_confidence: float | None = None,
) -> tuple[epath.Path, dict[str, Any]]:
    """Writes a copy of a bundle with another character.

    The character's logit grows with the cosine similarity of an image's embedding to the mean embedding of the
    character's images; the calibration has the scale. New images replace those of a character enrolled before.

    Args:
      bundle: file of a calibrated bundle.
      name: the character's name; not one of the classes that the model was trained on.
      files: images of the character, 1 or more.
      output: file to write, local or gs://.
      detector, min_confidence: as in `head_finder`, for whole pictures with one head each; None for images of faces.

    Returns:
      The path of the new bundle, and {"name", "images", "replaced", "enrolled"}: the character's name and number of
      images, whether it was enrolled before, and the number of enrolled characters.

    Raises:
      InputError: a bundle without calibration, a name that is not allowed, an unreadable image, or a picture without
        exactly one head.
    """
    known = load_bundle(bundle)
    recognizer = Recognizer(known, BATCH_SIZE)
    if known.calibration is None or known.calibration.scale is None:
        raise InputError(
            f"{bundle} has no calibration for enrolled characters; calibrate it on two or more images of a character: "
            + command("calibrate", bundle=bundle, workdir="RUN")
        )
    if name.strip().lower() in ("", UNKNOWN) or name in known.classes:
        raise InputError(
            f"--name={name}; allowed: a character that the model was not trained on, and not '{UNKNOWN}', which "
            "predict prints for unknown characters"
        )
    if escape(name) != name:
        raise InputError(f"--name={name}; allowed: one line of text, in the encoding of this locale")
    finder = head_finder(known, detector, min_confidence) if detector else None
    embeddings = _embed(recognizer, files, finder)
    mean = np.sum(embeddings, axis=0, dtype=np.float64)
    norm = np.linalg.norm(mean)
    if not norm > 0:
        raise InputError(f"all features of these images of {name} are 0; allowed: other images")
    characters = {}
    if before := known.enrolled:
        characters = dict(zip(before.names, zip(before.embeddings, before.counts, strict=True), strict=True))
    replaced = name in characters
    characters[name] = (np.float32(mean / norm), len(embeddings))
    means, counts = zip(*characters.values(), strict=True)
    enrolled = {"names": list(characters), "embeddings": np.stack(means), "counts": list(counts)}
    path = extend_bundle(bundle, output, enrolled=enrolled)
    return path, {"name": name, "images": len(embeddings), "replaced": replaced, "enrolled": len(characters)}


def _embed(recognizer: Recognizer, files: Sequence[Path], finder: HeadFinder | None) -> list[np.ndarray]:
    """Returns the (features,) embedding of each image, or of the one head on each picture; InputError for others."""
    embeddings = []
    for file, about, outputs in embed(recognizer, files, finder):
        if isinstance(about, InputError):
            raise InputError(f"{file}: {about}; or leave it out")
        if len(outputs) != 1:
            raise InputError(
                f"{file} has {len(outputs) or 'no'} heads; allowed: exactly one; leave it out, set another "
                "--min_confidence, or give the image of the face without --detector"
            )
        embeddings += outputs
    return embeddings
