"""Prints the README's table of models: parameters, GFLOPs of a forward pass, weights to start from, their licence.

python benchmarks/models.py

A multiply-add counts as two FLOPs; papers that count it as one print half of these figures. They are those of XLA's
cost analysis of the traced, not yet optimised program; nothing runs.
"""

import argparse
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections

from animesion_jax.distributed import AXIS
from animesion_jax.models import MODELS, abstract_variables, create_model
from animesion_jax.pretrained.sources import DEFAULTS, NAMED
from animesion_jax.training import optim
from animesion_jax.training.state import create_state
from animesion_jax.training.steps import make_train_step
from animesion_jax.workdir import run

IMAGE_SIZES = (128, 224)
NUM_CLASSES = 1000


def nearest_size(name: str, image_size: int) -> int:
    """Returns the largest image size up to `image_size` that the model takes."""
    multiple = create_model(name, num_classes=1, image_size=224).image_multiple
    return image_size // multiple * multiple


def count_parameters(name: str, image_size: int = 224, num_classes: int = NUM_CLASSES) -> int:
    """Returns the number of parameters."""
    model = create_model(name, num_classes=num_classes, image_size=image_size)
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(model, image_size)["params"]))


def count_gflops(name: str, image_size: int, num_classes: int = NUM_CLASSES) -> float:
    """Returns the 10^9 floating-point operations of one image's forward pass."""
    model = create_model(name, num_classes=num_classes, image_size=image_size)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    lowered = jax.jit(model.apply).lower(abstract_variables(model, image_size), images)
    return lowered.cost_analysis()["flops"] / 1e9


def lower_step(
    config: ml_collections.ConfigDict, num_classes: int, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """Returns the training step of a config, lowered for some devices, without any weights or images."""
    model = run.build_model(config, num_classes, AXIS)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 1000))
    variables = abstract_variables(model, config.image_size)
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), variables)
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    batch = {
        "image": jax.ShapeDtypeStruct((len(devices), local, side, side, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((len(devices), local), jnp.int32),
        "mask": jax.ShapeDtypeStruct((len(devices), local), jnp.float32),
    }
    return make_train_step(model, optimizer, config, devices).lower(state, batch)


def main() -> None:
    """The command line: prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=tuple(MODELS), choices=tuple(MODELS), help="default: all")
    models = parser.parse_args().models
    print("| model | parameters | GFLOPs at 128 | at 224 | `pretrained` starts from | licence |")
    print("|---|---:|---:|---:|---|---|")
    for name in models:
        flops = []
        for image_size in IMAGE_SIZES:
            size = nearest_size(name, image_size)
            flops.append(f"{count_gflops(name, size):.2f}" + (f" ({size} px)" if size != image_size else ""))
        source = f"`{DEFAULTS[name]}`" if name in DEFAULTS else "—"
        licence = NAMED[DEFAULTS[name]].licence if name in DEFAULTS else "—"
        print(f"| `{name}` | {count_parameters(name):,} | {flops[0]} | {flops[1]} | {source} | {licence} |")


if __name__ == "__main__":
    main()
