import pytest

from animesion_jax.config import FIELDS, check, default_config, stage
from animesion_jax.errors import InputError

# A value outside the allowed ones, for every kind of field that has any.
BAD = {
    "image_size": 0, "crop_margin": -1, "mean": (0.5, 0.5), "std": (0.5, 0.0, 0.5), "held_out": 1.0, "min_images": -1,
    "data.cache": "disk", "data.read_groups": 0, "data.shuffle_buffer": 0, "augment.flip": 1.5, "augment.erasing": -0.1,
    "augment.brightness": -0.1, "augment.contrast": float("nan"), "augment.saturation": -1.0, "augment.hue": -0.1,
    "mixup": -1.0, "cutmix": float("inf"), "dropout_rate": 1.0, "trainable": "none", "batch_size": 0, "epochs": 0,
    "grad_accumulation": 0, "learning_rate": float("inf"), "optimizer": "adam", "momentum": 1.0, "weight_decay": -1.0,
    "schedule": "linear", "decay_epochs": 0, "decay_factor": 0.0, "warmup_epochs": -1.0, "class_weights": "all",
    "label_smoothing": 1.0, "logit_adjustment": -1.0, "ema_decay": 1.0, "stages": (), "eval_mode_after_epochs": -1,
    "seed": -1, "eval_batch_size": 0, "log_every_steps": 0, "checkpoint_every_steps": -1, "keep_last_checkpoints": 0,
    "default_weights": "first", "dataset": "", "data_dir": "", "train_split": "", "model": "", "dtype": "",
    "fit": "crop", "min_confidence": 1.5, "box_scale": 0.0, "box_shift": float("nan"),
}  # fmt: skip
# Fields that are checked where they are used, or by their type.
UNCHECKED = {"validation_split", "test_split", "folder", "detector", "pretrained", "skip_broken", "keep_head"} | {
    name for name in FIELDS if name.startswith(("vit.", "eva02.", "resnet.", "shallownet."))
}


def _with(name, value):
    config = default_config()
    section, _, leaf = name.rpartition(".")
    (config[section] if section else config)[leaf] = value
    return config


def test_check_accepts_the_default_config(family):
    check(default_config(), family)


def test_every_field_is_checked_or_listed():
    assert BAD.keys() | UNCHECKED == FIELDS.keys() and not BAD.keys() & UNCHECKED


@pytest.mark.parametrize("name", BAD)
def test_check_names_field_value_and_allowed_values(name, family):
    with pytest.raises(InputError) as caught:
        check(_with(name, BAD[name]), family)
    message = str(caught.value)
    assert message.startswith(f"config.{name} is ") and message.endswith(f"allowed: {FIELDS[name].allowed.description}")


@pytest.mark.parametrize("name", ["learning_rate", "augment.flip"])
def test_check_names_the_stage(name, family):
    config = default_config()
    section, _, leaf = name.rpartition(".")
    overrides = {section: {leaf: BAD[name]}} if section else {leaf: BAD[name]}
    config.stages = (stage(), stage(**overrides))
    with pytest.raises(InputError, match=rf"config\.stages\[1\]\.{name} is "):
        check(config, family)


def test_check_quotes_text(family):
    with pytest.raises(InputError, match=r"config\.optimizer is 'adam'; allowed: sgd, adamw"):
        check(_with("optimizer", "adam"), family)


def test_check_needs_a_stage_with_epochs(family):
    config = default_config()
    config.stages = (stage(epochs=0),)
    with pytest.raises(InputError, match=r"every stage of config\.stages has 0 epochs"):
        check(config, family)


@pytest.mark.parametrize(("warmup", "fits"), [(1.9, True), (2.0, False)])
def test_check_compares_warmup_with_the_epochs_of_its_stage(warmup, fits, family):
    config = default_config()
    config.stages = (stage(), stage(epochs=2, schedule="cosine", warmup_epochs=warmup))
    if fits:
        check(config, family)
    else:
        with pytest.raises(InputError, match=f"warmup_epochs {warmup:g} does not fit into epochs 2; allowed: 0 up to"):
            check(config, family)


def test_check_needs_a_folder_for_the_detector(family):
    with pytest.raises(InputError, match=r"config\.detector is 'd\.onnx' without config\.folder; needed: the folder"):
        check(_with("detector", "d.onnx"), family)


def test_check_needs_a_folder_for_the_folder_data_set(family):
    with pytest.raises(InputError, match=r"config\.folder is ''; needed: .*--config.folder=PATH"):
        check(_with("dataset", "folder"), family)
