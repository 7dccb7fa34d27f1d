"""Prints docs/models.md's tables: the models, and the published weights to start from.

python benchmarks/models.py --measure       # measures what docs/models.jsonl lacks: three minutes on two cores
python benchmarks/models.py --measure=vit_b16 --measure=beit_b16       # these models, again
python benchmarks/models.py                 # prints the tables

A multiply-add counts as two FLOPs; some papers count it as one. XLA's cost analysis counts them in the traced program
before optimisation; nothing runs.

Each model is measured in a process of its own, with constant weights in float32: the largest resident set of the
process, compilation included, and the rate of the fastest batch.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from animesion_jax.models import MODELS, abstract_variables, create_model, family_of
from animesion_jax.pretrained.sources import NAMED, Source

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "models.jsonl"
IMAGE_SIZES = (128, 224)
NUM_CLASSES = 1000
BATCH_SIZE = 8
# Runs batches for this long after the first, at least three of them.
SECONDS = 4.0
MEBIBYTE = 2**20


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


def measure(name: str) -> dict[str, Any]:
    """Returns the memory and the rate of predictions in this process, which must not have predicted before."""
    image_size = nearest_size(name, IMAGE_SIZES[0])
    model = create_model(name, num_classes=NUM_CLASSES, image_size=image_size)
    # Small and not 0, so that no activation overflows or is denormal.
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), abstract_variables(model, image_size))
    images = jnp.ones((BATCH_SIZE, image_size, image_size, 3), jnp.float32)
    predict = jax.jit(model.apply)
    predict(variables, images).block_until_ready()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        predict(variables, images).block_until_ready()
        times.append(time.perf_counter() - before)
    # Linux counts in KiB.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBIBYTE
    rate = BATCH_SIZE / min(times)
    return {"model": name, "image_size": image_size, "memory_mib": round(memory), "images_per_second": round(rate, 1)}


def read_results() -> dict[str, dict[str, Any]]:
    """Returns the latest row of docs/models.jsonl by model."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {row["model"]: row for row in map(json.loads, lines)}


def measure_all(models: list[str]) -> None:
    """Measures models one after the other, each in its own process; adds a row as soon as one is done."""
    for name in models:
        command = [sys.executable, __file__, f"--here={name}"]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        results = read_results() | {name: row}
        ordered = [results[model] for model in MODELS if model in results]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in ordered), encoding="utf-8")
        print(row, file=sys.stderr)


def print_models() -> None:
    """Prints a row per model: size and work."""
    print("| model | parameters | GFLOPs at 128 | at 224 |")
    print("|---|---:|---:|---:|")
    for name in MODELS:
        flops = []
        for image_size in IMAGE_SIZES:
            size = nearest_size(name, image_size)
            flops.append(f"{count_gflops(name, size):.2f}" + (f" ({size} px)" if size != image_size else ""))
        print(f"| `{name}` | {count_parameters(name):,} | {flops[0]} | {flops[1]} |")


def print_sources(results: Mapping[str, dict[str, Any]]) -> None:
    """Prints a row per name of published weights, by model, with the model's memory and rate."""
    print("| model | `pretrained=` | licence | input | trained on | sets | memory, MiB | images/s |")
    print("|---|---|---|---:|---|---|---:|---:|")
    for model in MODELS:
        default = family_of(model).weights.get(model)
        for name, source in sorted(NAMED.items(), key=lambda item: item[0] != default):
            if source.model == model:
                shown = f"**`{name}`**" if name == default else f"`{name}`"
                print(
                    f"| `{model}` | {shown} | {source.licence} | {source.image_size} px | {source.trained_on} | "
                    f"{_options(source)} | {_measured(results, model)} |"
                )


def _measured(results: Mapping[str, dict[str, Any]], model: str) -> str:
    row = results.get(model)
    return f"{row['memory_mib']:,} | {row['images_per_second']:,}" if row else "— | —"


def _options(source: Source) -> str:
    """Returns the options that a name sets, such as "`vit.pool=mean` `fit=pad`"; without the digits of mean and std."""
    shown = [name if isinstance(value, tuple) else f"{name}={value}" for name, value in source.options.items()]
    return " ".join(f"`{each}`" for each in shown) or "—"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="?", const="", action="append", choices=["", *MODELS], metavar="MODEL")
    parser.add_argument(
        "--here", choices=MODELS, metavar="MODEL", help="measure one in this process, and print its row"
    )
    flags = parser.parse_args()
    if flags.here:
        print(json.dumps(measure(flags.here)))
        return
    results = read_results()
    if flags.measure:
        again = [name for name in flags.measure if name]
        measure_all(again or [name for name in MODELS if name not in results])
        return
    print_models()
    print()
    print_sources(results)


if __name__ == "__main__":
    main()
