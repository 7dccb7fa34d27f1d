"""The JSON files of a workdir: their names, and reading and writing them without JAX or TensorFlow."""

import json
import logging
from typing import Any

from etils import epath

from animesion_jax.atomic import replacing
from animesion_jax.errors import InputError, first_line

log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
RESULTS_FILE = "results.json"
ROWS_FILE = "metrics.jsonl"
NONFINITE_FILE = "nonfinite_batch.json"

# Fields that configs of earlier versions lack, by dotted name, with the value that stands for what those versions did.
ADDED = {
    "held_out": 0.0, "vit.gelu": "tanh", "vit.dropout_places": "google", "grad_accumulation": 1,
    "eval_mode_after_epochs": 0, "default_weights": "best", "checkpoint_every_steps": 0,
    "augment.erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "optimizer": "sgd", "weight_decay": 0.0,
    "label_smoothing": 0.0, "logit_adjustment": 0.0, "ema_decay": 0.0, "rebalance_epochs": 0,
    "rebalance_learning_rate": 0.01,
    "folder": "", "min_images": 0, "skip_broken": False,
}  # fmt: skip


def read_json(path: epath.Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file, a dict unless another `kind` is said; InputError if it is damaged."""
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, kind):
            raise ValueError(f"it holds no {kind.__name__}")
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({first_line(error)}); restore it or train into another workdir"
        ) from error
    return value


def write_json(path: epath.Path, value: Any) -> None:
    """Writes indented JSON; the file appears whole or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_rows(workdir: str) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl in order; empty when there is none.

    A torn last line, which a kill leaves, is left out; another damaged one is too, and logged.
    """
    path = epath.Path(workdir).expanduser() / ROWS_FILE
    lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int) or "split" not in row:
                raise ValueError("not a row")
            rows.append(row)
        except ValueError:
            if number < len(lines):
                log.warning("%s line %d is damaged and left out: %.80r", path, number, line)
    return rows
