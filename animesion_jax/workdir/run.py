"""The files of a training run in its workdir: train writes them, the other commands read them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import ml_collections
from etils import epath

from animesion_jax import distributed
from animesion_jax.config import check, flatten, from_tree, may_change, resolve, stage_configs, to_tree
from animesion_jax.errors import InputError, join_some
from animesion_jax.files import expand_home, read_json, write_json
from animesion_jax.models import abstract_variables, create_model, family_of
from animesion_jax.workdir.checkpoints import Checkpoints
from animesion_jax.workdir.faults import writing
from animesion_jax.workdir.names import CLASSES_FILE, CONFIG_FILE, ORIGIN_FILE, RESULTS_FILE, WEIGHTS
from animesion_jax.workdir.rows import read_rows

# The command that messages recommend.
START = "animesion --config=CONFIG"


@dataclass(frozen=True)
class Run:
    """A training run and one of its checkpoints.

    Attributes:
      config: the config it was trained with; no field is null.
      class_names: names by class id.
      model: the linen module.
      variables: its float32 variables.
      weights: which of its weights these are, "best" or "last".
      step: number of updates behind the variables.
      metrics: results.json of the run, empty before the run has ended.
      origin: see `read_origin`.
      validation: the metrics of these weights on the validation split; empty without such a split.
    """

    config: ml_collections.ConfigDict
    class_names: tuple[str, ...]
    model: nn.Module
    variables: dict[str, Any]
    weights: str
    step: int
    metrics: dict[str, Any]
    origin: dict[str, Any]
    validation: dict[str, Any]


def read_config(workdir: str) -> ml_collections.ConfigDict:
    """Returns the config in a workdir; InputError if it is damaged."""
    path = epath.Path(expand_home(workdir)) / CONFIG_FILE
    tree = read_json(path)
    try:
        config = from_tree(tree)
        check(config, family_of(config.model))
        return config
    except InputError as error:
        raise InputError(f"{path}: {error}; restore it or take another --workdir") from error


def read_classes(workdir: str) -> tuple[str, ...]:
    """Returns the class names in a workdir, by class id."""
    return tuple(read_json(_existing(workdir, CLASSES_FILE), list))


def read_origin(workdir: str) -> dict[str, Any]:
    """Returns the content of origin.json; empty for a run of an older version.

    "images" is the number of images by split. "pretrained" is the origin of the weights that the run started from, see
    `pretrained.load_with_origin`. "crops" is, if the images were cropped out of whole pictures, the part "crops" of a
    bundle (see `bundle.Crops`) without its source, and the "min_confidence" of the boxes.
    """
    path = epath.Path(expand_home(workdir)) / ORIGIN_FILE
    return read_json(path) if path.exists() else {}


def _existing(workdir: str, name: str) -> epath.Path:
    path = epath.Path(expand_home(workdir)) / name
    if not path.exists():
        raise InputError(f"{path} is missing, and it describes the run; restore it or take another --workdir")
    return path


def changed_fields(workdir: str, config: ml_collections.ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns (old, new) of every field in which a config differs from the workdir's."""
    if not (epath.Path(expand_home(workdir)) / CONFIG_FILE).exists():
        return {}
    old, new = (flatten(to_tree(each)) for each in (read_config(workdir), config))
    names = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    return {name: (old.get(name), new.get(name)) for name in names}


def changes_of_the_run(workdir: str, config: ml_collections.ConfigDict) -> str:
    """Returns, in words, the changed fields that a resumed run may not change; "" for none."""
    flat, family = flatten(to_tree(config)), family_of(config.model)
    changed = changed_fields(workdir, config).items()
    differing = {name: pair for name, pair in changed if not may_change(name, flat, family)}
    return "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in differing.items())


def check_same_run(workdir: str, config: ml_collections.ConfigDict) -> None:
    """Raises InputError naming every field of `changes_of_the_run`, or that config.json is missing."""
    _existing(workdir, CONFIG_FILE)
    if changes := changes_of_the_run(workdir, config):
        raise InputError(
            f"{workdir} was started with another config: {changes}; give the same values, another --workdir, or "
            "--accept_changes to continue with the new ones"
        )


def results_of(
    workdir: str, config: ml_collections.ConfigDict, *, accept_changes: bool = False
) -> dict[str, Any] | None:
    """Returns results.json of a run that has ended with this config; None if something is left to train or test.

    Raises:
      InputError: the workdir was started with another config, and changes are not accepted.
    """
    results = epath.Path(expand_home(workdir)) / RESULTS_FILE
    if not results.exists():
        return None
    if not accept_changes:
        check_same_run(workdir, config)
    elif changes_of_the_run(workdir, config):
        return None
    changed = changed_fields(workdir, config)
    return None if {"epochs", "stages[0].epochs", "test_split"} & set(changed) else read_json(results)


def save_description(workdir: str, config: ml_collections.ConfigDict, class_names: Sequence[str]) -> None:
    """Writes config.json and classes.json at the first process, and drops old results.

    The other commands rebuild the model from these files.

    Raises:
      InputError: the workdir cannot be written to.
    """
    if not distributed.is_first():
        return
    folder = epath.Path(expand_home(workdir))
    described = json.loads(config.to_json())
    if "://" not in config.data_dir:
        # An absolute path, for `evaluate` may start in another current folder.
        described["data_dir"] = str(epath.Path(expand_home(config.data_dir)).resolve())
    with writing(workdir):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS_FILE).unlink(missing_ok=True)
        write_json(folder / CONFIG_FILE, described)
        write_json(folder / CLASSES_FILE, list(class_names))


def save_origin(
    workdir: str, images: dict[str, int], pretrained: dict[str, Any] | None, crops: dict[str, Any] | None
) -> None:
    """Writes origin.json at the first process.

    Args:
      workdir: of the run.
      images, pretrained, crops: see `read_origin`; `pretrained` is None in a resumed run, which keeps that of the file,
        `crops` is None if the images are whole.

    Raises:
      InputError: the workdir cannot be written to.
    """
    if not distributed.is_first():
        return
    if pretrained is None:
        pretrained = read_origin(workdir).get("pretrained", {})
    with writing(workdir):
        origin = {"images": images, "pretrained": pretrained} | ({"crops": crops} if crops else {})
        write_json(epath.Path(expand_home(workdir)) / ORIGIN_FILE, origin)


def build_model(config: ml_collections.ConfigDict, num_classes: int, axis_name: str | None = None) -> nn.Module:
    """Returns the model of a config."""
    config = resolve(config, family_of(config.model))
    return create_model(
        config.model,
        num_classes=num_classes,
        image_size=config.image_size,
        dtype=config.dtype,
        dropout_rate=config.dropout_rate,
        axis_name=axis_name,
        **model_options(config),
    )


def model_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the options of the model's family, which a config holds under the family's name."""
    family = family_of(config.model)
    return config[family.name].to_dict() if family.options else {}


def check_classes(trained: Sequence[str], given: Sequence[str], dataset: str) -> None:
    """Raises InputError unless the data set has the classes that the model was trained on, in their order."""
    if list(trained) != list(given):
        first = next((i for i, pair in enumerate(zip(trained, given, strict=False)) if pair[0] != pair[1]), None)
        detail = "" if first is None else f"; class {first} is '{given[first]}', trained as '{trained[first]}'"
        raise InputError(
            f"{dataset} has {len(given)} classes, the run has {len(trained)}{detail}; allowed: the data set it was "
            "trained on"
        )


def load(workdir: str, weights: str | None = None) -> Run:
    """Returns a run with its "best" or "last" weights, None for its config's default.

    Raises:
      InputError: the folder holds no run, or one without a checkpoint.
    """
    folder = epath.Path(expand_home(workdir))
    missing = [name for name in (CONFIG_FILE, CLASSES_FILE) if not (folder / name).exists()]
    if missing:
        below = sorted(str(path.parent) for path in folder.glob(f"*/{CONFIG_FILE}"))
        advice = f"allowed: {join_some(below)}" if below else f"start one: {START} --workdir={folder}"
        raise InputError(f"{folder} is not a training run ({missing[0]} is missing); {advice}")
    config = read_config(workdir)
    family = family_of(config.model)
    *before, _ = stage_configs(config, family)
    config = resolve(config, family)
    weights = weights or config.default_weights
    class_names = read_classes(workdir)
    model = build_model(config, len(class_names))
    checkpoints = Checkpoints(workdir, read_only=True, last_stage_epoch=sum(stage.epochs for stage in before))
    step = checkpoints.step_of(weights)
    if step is None:
        raise InputError(f"{folder} holds no finished checkpoint yet; train for at least one epoch")
    like = {WEIGHTS: abstract_variables(model, config.image_size)}
    variables = checkpoints.restore(step, like)[WEIGHTS]
    checkpoints.close()
    results = folder / RESULTS_FILE
    metrics = read_json(results) if results.exists() else {}
    rows = [row for row in read_rows(workdir) if row["step"] == step and row["split"] == "validation"]
    validation = {name: rows[-1][name] for name in rows[-1] if name not in ("step", "epoch", "split")} if rows else {}
    return Run(config, class_names, model, variables, weights, step, metrics, read_origin(workdir), validation)
