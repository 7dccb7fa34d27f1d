"""Every field of a config: its default, its meaning and the values it allows.

The defaults are the recipe of the DAF:re paper's tables at 128 px. A field whose default or value is None is null: its
value is derived from others when it is used (`derived.py`). config.json keeps the null.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Allowed:
    """The values that a field allows: in words, for error messages, and as a predicate."""

    description: str
    holds: Callable[[Any], bool]


def _one_of(*names: str) -> Allowed:
    return Allowed(", ".join(names), lambda value: value in names)


def _three_numbers(values: Sequence[Any], above: float) -> bool:
    return len(values) == 3 and all(
        isinstance(value, int | float) and math.isfinite(value) and value > above for value in values
    )


# Check names where they are used: only that module knows the data sets, splits, models or weights.
ANY = Allowed("any", lambda value: True)
NAME = Allowed("a name", bool)
AT_LEAST_0 = Allowed("0 or more", lambda value: value >= 0)
AT_LEAST_1 = Allowed("1 or more", lambda value: value >= 1)
POSITIVE = Allowed("a finite number, more than 0", lambda value: math.isfinite(value) and value > 0)
NOT_NEGATIVE = Allowed("a finite number, 0 or more", lambda value: math.isfinite(value) and value >= 0)
BELOW_1 = Allowed("0 up to less than 1", lambda value: 0 <= value < 1)
PROBABILITY = Allowed("a probability, 0 to 1", lambda value: 0 <= value <= 1)
MEANS = Allowed("three numbers", lambda value: _three_numbers(value, -math.inf))
BOX_SCALE = Allowed("0.01 to 100", lambda value: 0.01 <= value <= 100)
BOX_SHIFT = Allowed("-100 to 100", lambda value: -100 <= value <= 100)
DEVIATIONS = Allowed("three numbers above 0", lambda value: _three_numbers(value, 0.0))
STAGES = Allowed("one stage or more, made by animesion_jax.config.stage", bool)

# Takes a flat config (values by dotted name) and the family of its model, None if unknown.
Rule = Callable[[dict[str, Any], Any], bool]


def _pretrained(flat: dict[str, Any], family: Any) -> bool:
    return bool(flat["pretrained"])


def _detector(flat: dict[str, Any], family: Any) -> bool:
    return bool(flat["detector"])


def _schedule(name: str) -> Rule:
    return lambda flat, family: flat["schedule"] == name


def _family(name: str) -> Rule:
    return lambda flat, family: family is None or family.name == name


def _batch_norm(flat: dict[str, Any], family: Any) -> bool:
    # Without batch statistics, the parts' gradients add up to the whole batch's.
    return family is None or family.has_batch_norm


PIECEWISE, COSINE = _schedule("piecewise"), _schedule("cosine")
VIT, EVA02, RESNET, SHALLOWNET = (_family(name) for name in ("vit", "eva02", "resnet", "shallownet"))


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
    "held_out": Field(0.0, "share of every class of train_split that is held out of training, such as 1/8", BELOW_1),
    "test_split": Field("test", 'evaluated once, at the end; "" for none', ANY),
    "folder": Field("", 'folder of images per character; train builds a data set of it first; "" for none', ANY),
    "min_images": Field(0, "leaves out the characters of config.folder with fewer images; 0 for none", AT_LEAST_0),
    "skip_broken": Field(False, "leaves out unreadable images of config.folder instead of stopping", ANY),
    "detector": Field(
        "", "file or address of a detector; config.folder has whole pictures, cropped to their one head; \"\" for none",
        ANY,
    ),
    "min_confidence": Field(
        0.0, "leaves out the detector's boxes of a lower confidence; 0 for its own threshold", PROBABILITY, _detector
    ),
    "box_scale": Field(1.0, "sides of the crop around a head, in sides of the detector's box", BOX_SCALE, _detector),
    "box_shift": Field(0.0, "how far that crop is moved up, in heights of the box", BOX_SHIFT, _detector),
    "data.cache": Field(
        "auto", '"device", "decoded", "encoded" or "none"; "auto" picks one of the last three by memory',
        _one_of("auto", "device", "decoded", "encoded", "none"), False,
    ),
    "data.read_groups": Field(8, "groups of records; a host reads whole groups", AT_LEAST_1),
    "data.shuffle_buffer": Field(50_000, "records in the shuffle buffer where nothing is cached", AT_LEAST_1),

    # Input.
    "image_size": Field(128, "side of the model's square input, pixels", AT_LEAST_1),
    "crop_margin": Field(
        32, "training images are resized to image_size + crop_margin, then cropped at random", AT_LEAST_0
    ),
    "fit": Field("squash", '"squash" does not keep the aspect, "pad" pads to a white square', _one_of("squash", "pad")),
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
    "dropout_rate": Field(None, "dropout, or stochastic depth (BEiT, EVA02); null: the family's", BELOW_1, kind=float),
    "dtype": Field("float32", 'compute dtype, "float32" or "bfloat16"; parameters stay float32', NAME),
    "vit.pool": Field("token", '"token" classifies by a class token, "mean" by the mean of the patches', NAME, VIT),
    "vit.class_token": Field(None, 'whether there is a class token; null: with pool "token"', ANY, VIT, kind=bool),
    "vit.fc_norm": Field(False, "normalises the mean of the patches instead of each token", ANY, VIT),
    "vit.registers": Field(0, "tokens that only the encoder sees, 0 or 4", AT_LEAST_0, VIT),
    "vit.epsilon": Field(1e-6, "of layer norms: 1e-6, 1e-5 or 1e-12", POSITIVE, VIT),
    "vit.pre_logits": Field(False, "puts a tanh layer before the classifier", ANY, VIT),
    "vit.gelu": Field("tanh", '"tanh", Google\'s approximation, or "erf", exact, as in the paper\'s runs', NAME, VIT),
    "vit.dropout_places": Field(
        "google", 'or "animesion", as in the paper\'s runs; models/vit.py lists the places', NAME, VIT
    ),
    "vit.embedding_initializer": Field(
        "lecun", '"lecun", or "pytorch" as in the paper\'s runs: of the patch embedding', NAME, VIT
    ),
    "eva02.rotary_grid": Field(16, "patches along a side that rotary positions count, 16 or 32", AT_LEAST_1, EVA02),
    "resnet.initializer": Field("he", '"he" as in torchvision, or "xavier" as in the paper\'s runs', NAME, RESNET),
    "shallownet.initializer": Field("xavier", '"xavier", or "pytorch" as in the paper\'s runs', NAME, SHALLOWNET),

    # Weights to start from.
    "pretrained": Field(
        "", 'file, workdir, bundle, address or name of `animesion configs --weights`; "" for none', ANY, _pretrained
    ),
    "keep_head": Field(
        False, "keeps the classifier of these weights if its shape fits, else re-initialises it", ANY, _pretrained
    ),
    "trainable": _stage(
        "all", '"all", or "head": all but the classifier is frozen and runs in evaluation mode', _one_of("all", "head")
    ),

    # Optimisation.
    "batch_size": Field(64, "global, over all devices and hosts", AT_LEAST_1),
    "grad_accumulation": Field(1, "parts into which a device cuts its share of a batch", AT_LEAST_1, _batch_norm),
    "epochs": _stage(50, "passes over the training split; a stage of 0 epochs is skipped", AT_LEAST_1),
    "learning_rate": _stage(
        1e-3, "its peak; null: by optimizer, batch_size and pretrained, see derived.py", POSITIVE, kind=float
    ),
    "optimizer": _stage("sgd", '"sgd" or "adamw"; null: the model family\'s', _one_of("sgd", "adamw"), kind=str),
    "momentum": _stage(0.9, "of SGD, or the first of AdamW's two decay rates", BELOW_1),
    "weight_decay": _stage(
        0.0, "of kernels; SGD adds it to the gradient, AdamW decouples it; null: by optimizer", NOT_NEGATIVE, kind=float
    ),
    "schedule": _stage("piecewise", '"piecewise" or "cosine"', _one_of("piecewise", "cosine")),
    "decay_epochs": _stage(20, "piecewise: epochs after which the learning rate is divided ...", AT_LEAST_1, PIECEWISE),
    "decay_factor": Field(3.0, "... by this", POSITIVE, PIECEWISE),
    "warmup_epochs": _stage(
        0.0, "cosine: epochs of linear warm-up; null: a tenth of the epochs, at most 5", NOT_NEGATIVE, COSINE, float
    ),
    "class_weights": _stage(
        "none", '"none", or "balanced": every class has the same weight in the loss', _one_of("none", "balanced")
    ),
    "label_smoothing": _stage(0.0, "share of a label that is spread evenly over all classes", BELOW_1),
    "logit_adjustment": _stage(
        0.0, "times the classes' log frequencies, which the loss adds to the logits; 1 balances classes", NOT_NEGATIVE
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
        "best", 'weights that evaluate and export take: "best" by validation top-1, or "last"',
        _one_of("best", "last"), False,
    ),
}  # fmt: skip
