"""The model card of a bundle: README.md of its repository on the Hugging Face Hub."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jax

from animesion_jax import hub
from animesion_jax.bundle import Bundle
from animesion_jax.detection import AUTO
from animesion_jax.errors import command
from animesion_jax.export.card_markdown import code, percent, plain, table
from animesion_jax.preprocessing import FITS, RESIZE

# Most characters that a card lists.
MAX_NAMES = 50
# Prefix of data sets of users' own folders.
FOLDER = "folder/"
CHOICES = {"best": "best by validation accuracy, ", "last": "last ones, "}
TITLES = {"top1_accuracy": "Top-1 accuracy", "top5_accuracy": "Top-5 accuracy"}
OPEN_ONNX = """import json

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("bundle.onnx", providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
classes, size = json.loads(metadata["classes"]), json.loads(metadata["preprocessing"])["size"]
image = Image.open("face.png").convert("RGB")"""
PAD = """side = max(image.size)
square = Image.new("RGB", (side, side), "white")
square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
image = square"""
RUN_ONNX = """image = image.resize((size, size), Image.Resampling.BILINEAR)
(probabilities,) = session.run(["probabilities"], {"images": np.asarray(image)[None]})
for class_id in np.argsort(-probabilities[0])[:5]:
    print(f"{classes[class_id]}  {probabilities[0, class_id]:.4f}")"""


def write_card(bundle: Bundle, address: str, licence: str) -> str:
    """Returns the card: YAML for the hub between lines of "---", then Markdown.

    Args:
      bundle: from `load_bundle`.
      address: hf://OWNER/REPO[@REVISION] of its repository, which the examples load.
      licence: an identifier of the hub, such as "apache-2.0".
    """
    parts = [
        f"---\n{_header(bundle, address, licence)}\n---",
        f"# {address.removeprefix('hf://').partition('@')[0].rpartition('/')[2]}",
        _summary(bundle),
        *_usage(bundle, address),
        *_metrics(bundle),
        *_unknown_characters(bundle),
        *_preparation(bundle),
        *_whole_pictures(bundle, address),
        *_training(bundle),
        *_characters(bundle),
        f"## Licence\n\n{plain(licence)}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(bundle: Bundle, address: str, licence: str) -> str:
    """Returns the metadata that the hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset, name = _dataset(bundle), address.removeprefix("hf://").partition("@")[0].rpartition("/")[2]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=dataset.partition("/")[0] or "unknown",
            dataset_name=dataset or "unknown",
            dataset_split=split,
            metric_type="accuracy",
            metric_name=title,
            metric_value=round(figures[key], 4),
        )
        for split, figures in _evaluations(bundle)
        for key, title in TITLES.items()
        if key in figures
    ]
    data = ModelCardData(
        license=licence,
        library_name="animesion_jax",
        pipeline_tag="image-classification",
        tags=["anime", "character-recognition", "jax", "flax", bundle.description["name"]],
        datasets=None if dataset.startswith(FOLDER) or not dataset else [dataset.partition("/")[0]],
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _summary(bundle: Bundle) -> str:
    parameters = sum(array.size for array in jax.tree.leaves(bundle.variables["params"]))
    answers = ", or answers that it is unknown" if bundle.calibration else ""
    rows = {
        "model": f"`{bundle.description['name']}`, {parameters:,} parameters",
        "input": f"{bundle.image_size} x {bundle.image_size} pixels, one face",
        "characters": f"{len(bundle.names):,}",
        "data set": plain(_dataset(bundle)) or "not recorded",
    }
    if bundle.origin:
        rows["made from"] = ", ".join(f"{key} {code(value)}" for key, value in bundle.origin.items())
    return f"Names the anime character on an image of a face{answers}.\n\n{table(('', ''), list(rows.items()))}"


def _usage(bundle: Bundle, address: str) -> Iterator[str]:
    python = (
        f'import animesion_jax\n\nrecognizer = animesion_jax.load("{address}")\n'
        '(ranked,) = recognizer.predict("face.png", top_k=5)\nfor each in ranked:\n'
        "    print(f\"{each['class']}  {each['probability']:.4f}\")"
    )
    if bundle.calibration:
        python += '\nprint("unknown" if recognizer.is_unknown(ranked) else "known")'
    version = bundle.training.get("animesion_jax", "")
    yield f"## Use it\n\nThe Python package `animesion_jax` reads the file (written by version {plain(version)})."
    yield f"```python\n{python}\n```"
    yield f"On the command line:\n\n```\n{command('predict', 'face.png', bundle=address)}\n```"
    convert = command("export", bundle=address, format="onnx", preprocessing="inside", output="bundle.onnx")
    yield f"In ONNX Runtime, after a conversion that needs the extra `[onnx]`:\n\n```\n{convert}\n```"
    program = "\n".join([OPEN_ONNX, *([PAD] if bundle.fit == "pad" else []), RUN_ONNX])
    yield f"```python\n{program}\n```"


def _metrics(bundle: Bundle) -> Iterator[str]:
    """Yields the metrics of the run with the number of images, training runs and the seed behind them."""
    evaluations = list(_evaluations(bundle))
    if not evaluations:
        return
    rows = [
        (
            f"{code(split)}", f"{figures.get('examples', 0):,}",
            *(percent(figures[key]) if key in figures else "" for key in TITLES),
            f"{figures['loss']:.3f}" if "loss" in figures else "",
        )
        for split, figures in evaluations
    ]  # fmt: skip
    seed = _config(bundle).get("seed")
    of = "" if seed is None else f", of one training run with seed {seed}"
    yield f"## Metrics\n\nOn {code(_dataset(bundle))}{of}:"
    yield table(("split", "images", *TITLES.values(), "loss"), rows)
    if bundle.enrolled:
        yield "The enrolled characters were added after these measurements."


def _unknown_characters(bundle: Bundle) -> Iterator[str]:
    calibration = bundle.calibration
    if calibration is None:
        yield "## Unknown characters\n\nThe bundle is not calibrated: it names every image."
        return
    source = {key: value for key, value in calibration.source.items() if isinstance(value, int | float | str)}
    rows = [("temperature", f"{calibration.temperature:.3f}"), ("threshold", f"{calibration.threshold:.4f}")]
    if isinstance(source.get("false_reject_rate"), float):
        rows.append(("false reject rate", f"{percent(source['false_reject_rate'])} of images of known characters"))
    rows.append(("false accept rate", f"{percent(calibration.false_accept_rate)} of images of unknown characters"))
    on = f"{source.get('images', 'unrecorded')} images of {code(str(source.get('split', 'no split')))}"
    unknown = source.get("unknown_images") or 0
    impostors = (
        f"{unknown} images of unknown characters" if unknown else "the same images, each without its own character"
    )
    yield "## Unknown characters\n\nBelow the threshold, the answer is that the character is unknown."
    yield table(("", ""), rows)
    yield f"Measured on {on}; the unknown characters were {impostors}."


def _preparation(bundle: Bundle) -> Iterator[str]:
    rows = [
        ("channels", "RGB, transparent parts on white"),
        ("size", f"{bundle.image_size} x {bundle.image_size} pixels; {FITS[bundle.fit]}; {RESIZE}"),
        ("values", "(pixel / 255 - mean) / std"),
        ("mean", ", ".join(f"{value:g}" for value in bundle.mean)),
        ("std", ", ".join(f"{value:g}" for value in bundle.std)),
    ]
    yield f"## Preprocessing\n\nThe Python package does this.\n\n{table(('', ''), rows)}"
    yield "The ONNX example resizes with Pillow, which rounds twice: some pixels differ by 1 of 255 levels."


def _whole_pictures(bundle: Bundle, address: str) -> Iterator[str]:
    crops = bundle.crops
    if crops is None:
        return
    # The name of a local file is all that a bundle knows of it.
    detector = AUTO if hub.is_address(crops.detector) else "DETECTOR"
    rows = [
        ("detector", code(crops.detector)),
        ("its SHA-256", code(crops.sha256)),
        ("scale", f"{crops.margin.scale:g} times the sides of the detector's box"),
        ("shift", f"{crops.margin.shift:g} heights of the box, upwards"),
        ("fit", FITS[crops.margin.fit]),
    ]
    yield "## Whole pictures\n\nA detector finds the heads on a picture; this model names the crop around each."
    yield f"```\n{command('predict', 'picture.jpg', bundle=address, detector=detector)}\n```"
    yield table(("", ""), rows)


def _training(bundle: Bundle) -> Iterator[str]:
    training, config = bundle.training, _config(bundle)
    images = [f"{count:,} of {code(split)}" for split, count in training.get("images", {}).items()]
    start = dict(training.get("pretrained", {}))
    # A warning is a sentence, longer than the names that a card shows.
    warning = re.sub(r"[^\w .,:;%'/-]", "_", str(start.pop("note", "")))
    start = ", ".join([*(f"{plain(key)} {code(str(value))}" for key, value in start.items()), *filter(None, [warning])])
    rows = [
        ("data set", plain(_dataset(bundle))),
        ("images", ", ".join(images)),
        ("started from", start or ("random weights" if config else "")),
        ("weights", f"{CHOICES.get(training.get('weights'), '')}after {training.get('step', 0):,} updates"),
        ("seed", str(config.get("seed", ""))),
        ("JAX", plain(training.get("jax", ""))),
    ]
    yield f"## Training\n\n{table(('', ''), [row for row in rows if row[1]])}"
    if config:
        recipe = json.dumps(config, indent=2).replace("`", "\\u0060")
        yield f"<details><summary>Every field of the recipe</summary>\n\n```json\n{recipe}\n```\n\n</details>"


def _characters(bundle: Bundle) -> Iterator[str]:
    shown = ", ".join(map(plain, bundle.names[:MAX_NAMES]))
    more = len(bundle.names) - MAX_NAMES
    yield f"## Characters\n\n{shown}{f' and {more:,} more, which the bundle lists' if more > 0 else ''}."
    if bundle.enrolled:
        counted = zip(bundle.enrolled.names[:MAX_NAMES], bundle.enrolled.counts, strict=False)
        enrolled = ", ".join(f"{plain(name)} ({count})" for name, count in counted)
        yield f"Enrolled after training, with their number of images: {enrolled}."


def _evaluations(bundle: Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (split, metrics) of the run's test and validation splits, as far as the bundle has them."""
    training, config = bundle.training, _config(bundle)
    splits = {"metrics": "test", "validation": str(config.get("validation_split", "validation"))}
    for key, default in splits.items():
        figures = training.get(key, {})
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        if numbers:
            yield str(figures.get("split", default)), numbers


def _config(bundle: Bundle) -> dict[str, Any]:
    return bundle.training.get("config", {})


def _dataset(bundle: Bundle) -> str:
    return bundle.training.get("dataset", "")
