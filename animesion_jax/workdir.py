"""The JSON files of a workdir: their names, and reading and writing them without JAX or TensorFlow."""

import json
from typing import Any

from etils import epath

from animesion_jax.errors import InputError, first_line

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
RESULTS_FILE = "results.json"
ROWS_FILE = "metrics.jsonl"
NONFINITE_FILE = "nonfinite_batch.json"

# Fields that configs of earlier versions lack, by dotted name, with the value that stands for what those versions did.
ADDED = {
    "held_out": 0.0, "vit.gelu": "tanh", "vit.dropout_places": "google", "grad_accumulation": 1,
    "eval_mode_after_epochs": 0, "default_weights": "best", "checkpoint_every_steps": 0,
}  # fmt: skip


def read_json(path: epath.Path) -> Any:
    """Returns the content of a JSON file; InputError if it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({first_line(error)}); restore it or train into another workdir"
        ) from error


def write_json(path: epath.Path, value: Any) -> None:
    """Writes indented JSON; the file appears whole or not at all."""
    fresh = path.parent / f"{path.name}.tmp"
    fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    fresh.replace(path)


def read_rows(workdir: str) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl in order; empty when there is none. A torn last line is left out."""
    path = epath.Path(workdir).expanduser() / ROWS_FILE
    rows = []
    if path.exists():
        for line in path.read_bytes().decode(errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
