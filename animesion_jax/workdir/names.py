"""The JSON files of a workdir: their names, and reading and writing them without JAX or TensorFlow."""

import logging

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
