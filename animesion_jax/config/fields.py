"""Every field of a config: its default, its meaning and the values it allows.

The defaults are the recipe of the DAF:re paper's tables at 128 px. A field whose default or value is None is null: its
value depends on others and is worked out when it is used (`derived.py`). config.json keeps the null.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from animesion_jax.config.allowed import (
    ANY,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    BOOL,
    DEVIATIONS,
    MEANS,
    NAME,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    STAGES,
    Allowed,
    one_of,
)

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("piecewise", "cosine")
TRAINABLE = ("all", "head")
CLASS_WEIGHTS = ("none", "balanced")
WEIGHTS = ("best", "last")
CACHES = ("auto", "device", "decoded", "encoded", "none")

# Takes a flat config (values by dotted name) and the family of its model, None if unknown.
Rule = Callable[[dict[str, Any], Any], bool]


def pretrained(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether training starts from given weights."""
    return bool(flat["pretrained"])


def piecewise(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether the learning rate falls in steps."""
    return flat["schedule"] == "piecewise"


def cosine(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether the learning rate follows a cosine."""
    return flat["schedule"] == "cosine"


def vit(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether the model is, or may be, a ViT."""
    return family is None or family.name == "vit"


def resnet(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether the model is, or may be, a ResNet."""
    return family is None or family.name == "resnet"


def batch_norm(flat: dict[str, Any], family: Any) -> bool:
    """Returns whether the model has, or may have, batch statistics. Without them, parts add up to the whole batch."""
    return family is None or family.has_batch_norm


@dataclass(frozen=True)
class Field:
    """A field of a config.

    Attributes:
      default: its value in `default_config`; None is null.
      comment: its meaning and unit.
      allowed: the values it allows.
      changes_result: whether the trained weights or their test accuracies depend on it.
      kind: type of a field that may be null; None for one that may not.
      in_stage: whether an entry of config.stages may override it.
    """

    default: Any
    comment: str
    allowed: Allowed
    changes_result: bool | Rule = True
    kind: type | None = None
    in_stage: bool = False


def _stage(default: Any, comment: str, allowed: Allowed, changes_result: bool | Rule = True, kind: type | None = None):
    return Field(default, comment, allowed, changes_result, kind, in_stage=True)


FIELDS: dict[str, Field] = {
    # Data.
    "dataset": Field("toyfaces", "TFDS name, NAME or NAME/CONFIG; build it with `tfds build` first", NAME),
    "data_dir": Field("~/tensorflow_datasets", "folder of `tfds build --data_dir`; local or gs://", NAME, False),
    "train_split": Field("train", "split that is trained on", NAME),
    "validation_split": Field("validation", 'evaluated after every epoch; "held_out", or "" for none', ANY),
    "held_out": Field(0.0, "part of every class of train_split that is kept from training, such as 1/8", BELOW_1),
    "test_split": Field("test", 'evaluated once, at the end; "" for none', ANY),
    "folder": Field("", 'folder of images per character; train builds a data set of it first; "" for none', ANY),
    "min_images": Field(0, "leaves out the characters of config.folder with fewer images; 0 for none", AT_LEAST_0),
    "skip_broken": Field(False, "leaves out unreadable images of config.folder instead of stopping", BOOL),
    "data.cache": Field(
        "auto", '"device", "decoded", "encoded" or "none"; "auto" picks one of the last three by memory',
        one_of(*CACHES), False,
    ),
    "data.read_groups": Field(8, "groups that the records are dealt to; a host reads whole groups", AT_LEAST_1),
    "data.shuffle_buffer": Field(50_000, "records in the shuffle buffer where nothing is cached", AT_LEAST_1),

    # Input.
    "image_size": Field(128, "side of the model's square input, pixels", AT_LEAST_1),
    "crop_margin": Field(32, "training images are resized to image_size + crop_margin, then cropped", AT_LEAST_0),
    "mean": Field(None, "per channel, of pixels in [0, 1]; null: the model family's", MEANS, kind=tuple),
    "std": Field(None, "standard deviation per channel; null: the model family's", DEVIATIONS, kind=tuple),
    "augment.flip": _stage(0.5, "probability of a horizontal flip", PROBABILITY),
    "augment.brightness": _stage(0.1, "b: factor drawn from [1 - b, 1 + b]", NOT_NEGATIVE),
    "augment.contrast": _stage(0.1, "likewise", NOT_NEGATIVE),
    "augment.saturation": _stage(0.1, "likewise", NOT_NEGATIVE),
    "augment.hue": _stage(0.1, "h: shift drawn from [-h, h] turns of the colour circle", NOT_NEGATIVE),
    "augment.erasing": _stage(0.0, "probability that 2 to 33 % of the image, a rectangle, becomes noise", PROBABILITY),
    "mixup": _stage(0.0, "alpha of mixup's Beta(alpha, alpha), which blends two images; 0 for none", NOT_NEGATIVE),
    "cutmix": _stage(
        0.0, "alpha of CutMix, which exchanges a rectangle; with both, each takes half the pairs", NOT_NEGATIVE
    ),

    # Model.
    "model": Field("shallownet", "a name of animesion_jax.models.MODELS", NAME),
    "dropout_rate": Field(None, "dropout of the model; null: the model family's", BELOW_1, kind=float),
    "dtype": Field("float32", 'compute dtype, "float32" or "bfloat16"; parameters stay float32', NAME),
    "vit.pool": Field("token", '"token" classifies by a class token, "mean" by the mean of the patches', NAME, vit),
    "vit.pre_logits": Field(False, "puts a tanh layer before the classifier", BOOL, vit),
    "vit.gelu": Field("tanh", '"tanh", Google\'s approximation, or "erf", exact, as in the paper\'s runs', NAME, vit),
    "vit.dropout_places": Field(
        "google", 'or "animesion", as in the paper\'s runs; models/vit.py lists the places', NAME, vit
    ),
    "resnet.initializer": Field("he", '"he" as in torchvision, or "xavier" as in the paper\'s runs', NAME, resnet),

    # Weights to start from.
    "pretrained": Field(
        "", 'file, workdir, bundle, gs://, https:// or a name of pretrained/sources.py; "" for none', ANY, pretrained
    ),
    "keep_head": Field(
        False, "keeps the classifier of these weights where its shape fits; else it starts at zero", BOOL, pretrained
    ),
    "trainable": _stage(
        "all", '"all", or "head": the rest is frozen and runs in evaluation mode', one_of(*TRAINABLE)
    ),

    # Optimisation.
    "batch_size": Field(64, "global, over all devices and hosts", AT_LEAST_1),
    "grad_accumulation": Field(1, "parts into which a device cuts its share of a batch", AT_LEAST_1, batch_norm),
    "epochs": _stage(50, "passes over the training split; a stage of 0 is left out", AT_LEAST_1),
    "learning_rate": _stage(
        1e-3, "its peak; null: by optimizer, batch_size and pretrained, as derived.py says", POSITIVE, kind=float
    ),
    "optimizer": _stage("sgd", '"sgd" or "adamw"; null: the model family\'s', one_of(*OPTIMIZERS), kind=str),
    "momentum": _stage(0.9, "of SGD, or the first of AdamW's two decay rates", BELOW_1),
    "weight_decay": _stage(
        0.0, "of kernels; SGD adds it to the gradient, AdamW decouples it; null: by optimizer", NOT_NEGATIVE, kind=float
    ),
    "schedule": _stage("piecewise", '"piecewise" or "cosine"', one_of(*SCHEDULES)),
    "decay_epochs": _stage(20, "piecewise: epochs after which the learning rate is divided ...", AT_LEAST_1, piecewise),
    "decay_factor": Field(3.0, "... by this", POSITIVE, piecewise),
    "warmup_epochs": _stage(
        0.0, "cosine: epochs of linear warm-up; null: a tenth of the epochs, at most 5", NOT_NEGATIVE, cosine, float
    ),
    "class_weights": _stage(
        "none", '"none", or "balanced": every class has the same weight in the loss', one_of(*CLASS_WEIGHTS)
    ),
    "label_smoothing": _stage(0.0, "part of a label that is spread evenly over all classes", BELOW_1),
    "logit_adjustment": _stage(
        0.0, "times the classes' log frequencies, added to the logits in the loss; 1 balances them", NOT_NEGATIVE
    ),
    "ema_decay": _stage(
        0.0, "decay of the moving average of the weights, which is evaluated and exported; 0 for none", BELOW_1
    ),
    "stages": Field(
        ({},), "trained one after the other; each overrides fields, and its nulls are as in the config", STAGES
    ),

    # Reproduction aids: accidents of the paper's runs. Ordinary runs leave them alone.
    "eval_mode_after_epochs": Field(
        0, "epochs after which layers train in evaluation mode; 0 for never", AT_LEAST_0
    ),

    # Run.
    "seed": Field(0, "of parameters, order of the examples, augmentation and dropout", AT_LEAST_0),
    "eval_batch_size": Field(256, "global, over all devices and hosts", AT_LEAST_1, False),
    "log_every_steps": Field(50, "steps between two rows of training metrics", AT_LEAST_1, False),
    "checkpoint_every_steps": Field(
        1000, "steps between two checkpoints, besides one after every epoch; 0 for none", AT_LEAST_0, False
    ),
    "keep_last_checkpoints": Field(2, "besides the best by validation top-1", AT_LEAST_1, False),
    "default_weights": Field(
        "best", 'weights that evaluate and export take: "best" by validation top-1, or "last"', one_of(*WEIGHTS), False
    ),
}  # fmt: skip
