"""Prints how the cost of a training step grows with devices (estimated) and with the batch (as compiled).

python benchmarks/scaling.py communication     # bytes of a step's all-reduces, and their cost on three machines
python benchmarks/scaling.py devices           # images/s of 1 to 8 chips, by the same estimate
python benchmarks/scaling.py memory            # bytes of a step's buffers by batch size; compiles, runs nothing

The bytes are counted in the lowered step of eight simulated CPU devices. A ring all-reduce over n devices sends
2 (n - 1) / n of them over each device's links. Computing takes 3 x the forward FLOPs at an assumed share of the peak.
Nothing is measured on these machines: `MACHINES` and `UTILISATION` are assumptions.
"""

import argparse
import dataclasses
import math
import os
import re
import statistics
import sys
from pathlib import Path
from typing import Any

DEVICES = 8
os.environ["JAX_PLATFORMS"] = "cpu"
# For the other benchmarks, which are not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", DEVICES)

from animesion_jax.config import default_config  # noqa: E402
from animesion_jax.models import DTYPES, MODELS, family_of  # noqa: E402
from benchmarks.models import count_gflops, count_parameters, nearest_size  # noqa: E402
from benchmarks.step import lower_step  # noqa: E402

NUM_CLASSES = 3263  # DAF:re's
# MFU by family, as benchmarks/train_step.py measures it.
UTILISATION = {"vit": 0.4, "resnet": 0.2, "shallownet": 0.1}
ALL_REDUCE = re.compile(r'"stablehlo\.all_reduce"\(.*?\}\) : \(tensor<([0-9x]*)x?(f32|i32)>\)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Chips and their rates.

    Attributes:
      chips: number of chips.
      flops: peak bfloat16 FLOP/s of a chip.
      bandwidth: bytes per second that a chip sends in an all-reduce.
      source: source of these figures.
    """

    chips: int
    flops: float
    bandwidth: float
    source: str


MACHINES = {
    "v3-8": Machine(4, 123e12, 166e9, "cloud.google.com/tpu/docs/v3: 340 TB/s for 1,024 chips; 2 of 4 links are used"),
    "v4-32": Machine(
        16, 275e12, 134e9, "cloud.google.com/tpu/docs/v4: 1.1 PB/s for 4,096 chips; 3 of 6 links are used"
    ),
    "8 x H200": Machine(8, 790e12, 450e9, "measured matrix product; NVLink 900 GB/s, half in each direction"),
}


def lowered_step(name: str, image_size: int, batch_size: int, dtype: str, devices: int) -> jax.stages.Lowered:
    """Returns the training step of a model, lowered from shapes alone for some devices."""
    config = default_config()
    config.model, config.image_size, config.dtype, config.batch_size = name, image_size, dtype, batch_size
    return lower_step(config, NUM_CLASSES, jax.local_devices()[:devices])


def all_reduced(lowered: jax.stages.Lowered) -> list[int]:
    """Returns the bytes of each all-reduce in a lowered step."""
    found = ALL_REDUCE.findall(lowered.as_text())
    return [4 * math.prod(int(side) for side in shape.split("x") if side) for shape, _ in found]


def step_seconds(name: str, machine: Machine, chips: int, sent: float, flops: float) -> tuple[float, float]:
    """Returns the seconds of a step's all-reduces, and of its computation, on some chips."""
    sending = 2 * (chips - 1) / chips * sent / machine.bandwidth
    return sending, flops / (chips * machine.flops * UTILISATION[family_of(name).name])


def step_flops(name: str, flags: argparse.Namespace) -> float:
    """Returns the FLOPs of a step on all devices: three times the forward pass's."""
    return 3e9 * count_gflops(name, flags.image_size, NUM_CLASSES) * flags.batch_size


def print_devices(flags: argparse.Namespace) -> None:
    """Prints the images per second of 1 to 8 chips that share one batch."""
    counts = (1, 2, 4, 8)
    shown = " | ".join(str(count) for count in counts)
    print(f"| model | chip | {shown} | scaling efficiency |\n|---|---|{'---:|' * len(counts)}---:|")
    for name in flags.models:
        sizes = all_reduced(lowered_step(name, flags.image_size, flags.batch_size, "bfloat16", DEVICES))
        flops = step_flops(name, flags)
        for kind, machine in MACHINES.items():
            rates = [flags.batch_size / sum(step_seconds(name, machine, count, sum(sizes), flops)) for count in counts]
            cells = [name, kind, *(f"{rate:,.0f}" for rate in rates), f"{rates[-1] / rates[0] / counts[-1]:.0%}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def print_communication(flags: argparse.Namespace) -> None:
    """Prints the cost of the all-reduces for each model and machine."""
    for name, machine in MACHINES.items():
        print(f"{name}: {machine.source}")
    columns = (
        "model", "all-reduces", "MB", "parameters x 4, MB", "machine", "all-reduce ms", "computing ms",
        "all-reduce's share", "images/s",
    )  # fmt: skip
    print(f"\n| {' | '.join(columns)} |\n|---|---:|---:|---:|---|---:|---:|---:|---:|")
    for name in flags.models:
        parameters = count_parameters(name, flags.image_size, NUM_CLASSES)
        sizes = all_reduced(lowered_step(name, flags.image_size, flags.batch_size, "bfloat16", DEVICES))
        flops = step_flops(name, flags)
        for kind, machine in MACHINES.items():
            sending, computing = step_seconds(name, machine, machine.chips, sum(sizes), flops)
            # The all-reduces do not overlap the backward pass.
            seconds = sending + computing
            cells = [
                name, str(len(sizes)), f"{sum(sizes) / 1e6:,.1f}", f"{4 * parameters / 1e6:,.1f}", kind,
                f"{1e3 * sending:.2f}", f"{1e3 * computing:.2f}", f"{sending / seconds:.0%}",
                f"{flags.batch_size / seconds:,.0f}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def print_memory(flags: argparse.Namespace) -> None:
    """Prints the bytes of a compiled step's buffers on one device, by batch size."""
    print("| model | dtype | batch | state, GiB | buffers, GiB | MiB an image |\n|---|---|---:|---:|---:|---:|")
    for name in flags.models:
        points: list[tuple[int, int]] = []
        for batch in flags.batches:
            analysis: Any = lowered_step(name, flags.image_size, batch, flags.dtype, 1).compile().memory_analysis()
            state, buffers = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
            points.append((batch, buffers))
            slope = statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None
            cells = [
                name, flags.dtype, str(batch), f"{state / 2**30:.2f}", f"{buffers / 2**30:.2f}",
                f"{slope / 2**20:.1f}" if slope else "",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("communication", "devices", "memory"))
    models = ("shallownet", "resnet18", "resnet152", "vit_b32", "vit_b16", "vit_l16")
    parser.add_argument(
        "--models", nargs="+", default=models, choices=tuple(MODELS), help=f"default: {' '.join(models)}"
    )
    parser.add_argument("--image_size", type=int, default=128, help="default: 128")
    parser.add_argument("--batch_size", type=int, default=1024, help="of all devices together; default: 1024")
    parser.add_argument("--batches", nargs="+", type=int, default=(16, 64, 256), help="for memory; default: 16 64 256")
    parser.add_argument("--dtype", default="float32", choices=tuple(DTYPES), help="for memory; default: float32")
    flags = parser.parse_args()
    for name in flags.models:
        if nearest_size(name, flags.image_size) != flags.image_size:
            parser.error(f"--image_size is {flags.image_size}; allowed for {name}: multiples of its patch size")
    if flags.table != "memory" and flags.batch_size % DEVICES:
        parser.error(f"--batch_size is {flags.batch_size}; allowed: a multiple of {DEVICES}")
    tables = {"communication": print_communication, "devices": print_devices, "memory": print_memory}
    tables[flags.table](flags)


if __name__ == "__main__":
    main()
