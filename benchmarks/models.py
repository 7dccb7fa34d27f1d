"""Prints docs/models.md's table: parameters, GFLOPs of a forward pass, pretrained weights and their licence.

python benchmarks/models.py

A multiply-add counts as two FLOPs; some papers count it as one. XLA's cost analysis counts them in the traced program
before optimisation; nothing runs.
"""

import argparse

import jax
import jax.numpy as jnp

from animesion_jax.models import MODELS, abstract_variables, create_model, family_of

IMAGE_SIZES = (128, 224)
NUM_CLASSES = 1000


def nearest_size(name: str, image_size: int) -> int:
    """Returns the largest image size up to `image_size` that the model accepts."""
    multiple = create_model(name, num_classes=1, image_size=224).image_multiple
    return image_size // multiple * multiple


def count_parameters(name: str, image_size: int = 224, num_classes: int = NUM_CLASSES) -> int:
    """Returns the number of parameters."""
    model = create_model(name, num_classes=num_classes, image_size=image_size)
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_variables(model, image_size)["params"]))


def count_gflops(name: str, image_size: int, num_classes: int = NUM_CLASSES) -> float:
    """Returns the GFLOPs of one image's forward pass."""
    model = create_model(name, num_classes=num_classes, image_size=image_size)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    lowered = jax.jit(model.apply).lower(abstract_variables(model, image_size), images)
    return lowered.cost_analysis()["flops"] / 1e9


def main() -> None:
    """Runs the command line."""
    from animesion_jax.pretrained.sources import NAMED

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| model | parameters | GFLOPs at 128 | at 224 | `pretrained` starts from | licence |")
    print("|---|---:|---:|---:|---|---|")
    for name in MODELS:
        flops = []
        for image_size in IMAGE_SIZES:
            size = nearest_size(name, image_size)
            flops.append(f"{count_gflops(name, size):.2f}" + (f" ({size} px)" if size != image_size else ""))
        weights = family_of(name).weights.get(name)
        source = f"`{weights}`" if weights else "—"
        licence = NAMED[weights].licence if weights else "—"
        print(f"| `{name}` | {count_parameters(name):,} | {flops[0]} | {flops[1]} | {source} | {licence} |")


if __name__ == "__main__":
    main()
