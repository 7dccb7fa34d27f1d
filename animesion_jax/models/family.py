"""The record of a model family: everything that the rest of the program knows about it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn

# Name of the classifier, the last layer of every model: a Dense module directly under the model.
HEAD = "head"

# Arrays or abstract arrays by "collection/module/.../leaf".
Shapes = Mapping[str, Any]


class Rollout(NamedTuple):
    """Explain a model by attention rollout (Abnar and Zuidema, 2020, arXiv:2005.00928)."""

    # Paths of a model's `kernels.attention.DotProduct` modules, from the first to the last.
    layers: Callable[[Any], Sequence[str]]
    # Number of a model's tokens before those of the patches.
    num_prefix_tokens: Callable[[Any], int]
    # Whether its classifier sees the first token instead of the mean of the patches.
    sees_class_token: Callable[[Any], bool]


class GradCam(NamedTuple):
    """Explain a model by Grad-CAM (Selvaraju et al., 2017, arXiv:1610.02391)."""

    # Path of a model's last module with a (batch, height, width, channels) output.
    features: Callable[[Any], str]


class Positions(NamedTuple):
    """The variables of a (1, tokens, width) table of position embeddings and of the class token, its first row."""

    table: str
    class_token: str


class RelativePositions(NamedTuple):
    """Tables of relative position biases: a regular expression of their variables.

    A table is ((2 g - 1)**2 + 3, heads) for a grid of g x g patches; its last three rows belong to the class token.
    """

    tables: str


class Timm(NamedTuple):
    r"""timm's counterpart of a family: `pretrained` reads its files, `export` writes them.

    Attributes:
      models: timm's names by our models'.
      names: pairs of a regular expression of our modules or parameters, such as r"blocks_(\d+)/norm1", and timm's name
        of it, such as "blocks.{0}.norm1". The first match counts.
      arguments: further arguments of `timm.create_model` for a bundle's description, besides the model's name, the
        number of classes and the image size.
      buffers: a regular expression of timm's names of arrays that are not weights: our model computes them from its
        sizes.
    """

    models: Mapping[str, str]
    names: Sequence[tuple[str, str]]
    arguments: Callable[[Mapping[str, Any]], dict[str, Any]]
    buffers: str = r"(?!)"


@dataclass(frozen=True)
class Family:
    """A family of models.

    Its modules take `num_classes`, `dtype`, `dropout_rate` and `axis_name` (the pmap axis of BatchNorm), have
    `image_multiple` and `min_image_size` in pixels, end with a Dense layer named `HEAD`, and are called as
    `model(images, train=False, positions=None)`.

    Attributes:
      name: also the name of the config section with the family's options.
      models: constructors by model name.
      options: allowed values by option of the constructors.
      dropout_rate: default, in [0, 1).
      mean, std: default normalisation per channel, of pixels in [0, 1].
      optimizer: default, "sgd" or "adamw".
      has_batch_norm: whether training normalises by statistics of the batch.
      explain: the method of `explain`, and the modules that it reads.
      weights: published weights that `pretrained` starts from (a name in pretrained/published.py), by model name.
      paper_trainable: part of pretrained models that the paper trains, "all" or "head".
      has_torchvision_names: whether `export` writes its weights under torchvision's names.
      timm: its counterpart in timm; None for none.
      identify: returns the model's name, or a description, for arrays of this family; None for other arrays.
      read_options: returns the options that the shapes of some arrays reveal; empty for arrays of another family.
      optional: options that add a module of the same name, which a file may have and a model may lack.
      positions: absolute or relative position embeddings; None for none.
    """

    name: str
    models: Mapping[str, Callable[..., nn.Module]]
    options: Mapping[str, tuple[Any, ...]]
    dropout_rate: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    optimizer: str
    has_batch_norm: bool
    explain: Rollout | GradCam
    weights: Mapping[str, str] = field(default_factory=dict)
    paper_trainable: str = "all"
    has_torchvision_names: bool = False
    timm: Timm | None = None
    identify: Callable[[Shapes], str | None] = lambda shapes: None
    read_options: Callable[[Shapes], dict[str, Any]] = lambda shapes: {}
    optional: tuple[str, ...] = ()
    positions: Positions | RelativePositions | None = None


def count_units(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """Returns the number of units of each stage; the two groups of the pattern are the stage and the unit."""
    units = {match.groups() for name in shapes if (match := re.match(pattern, name))}
    return tuple(count for _, count in sorted(Counter(stage for stage, _ in units).items()))
