"""Prints the speed of the training step alone, beside the same model in PyTorch: images/s and model FLOP utilisation.

python benchmarks/train_step.py                    # GPU or TPU: every model, image size, batch size and dtype
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
python benchmarks/train_step.py --models vit_b32 vit_b16 resnet18 --image_sizes 128 --batch_sizes 64 \\
    --dtypes float32 --peers eager compile         # CPU; the peers need torch and timm

Set GLIBC_TUNABLES on CPUs, as the Makefile does. The images are synthetic and stay on the device. The package need not
be installed, nor TensorFlow, ml_collections and clu. A step consists of augmentation, forward, backward, SGD with
momentum and metrics; its state is donated. Each measurement runs in its own process. The peer is timm's model with the
same batch, dtype (by autocast) and optimizer, in channels_last, without augmentation. "compile" is torch.compile of
forward and loss.

MFU is 3 x the forward pass's FLOPs over the rate of a large matrix product. The product is measured first: bfloat16 on
accelerators, float32 on CPUs, which emulate bfloat16.
"""

import argparse
import contextlib
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the other benchmarks, which are not installed
sys.path.append(str(ROOT / "benchmarks" / "stand_ins"))  # last, so that an installed package comes first

from animesion_jax.models import DTYPES, MODELS  # noqa: E402
from benchmarks.models import count_gflops, nearest_size  # noqa: E402
from benchmarks.processes import device_alone, measure  # noqa: E402
from benchmarks.timing import timed  # noqa: E402

NUM_CLASSES = 3263  # DAF:re's
# Our step, also without cuDNN's attention, and PyTorch's.
OURS = ("ours", "unfused")
PEERS = ("eager", "compile")
HEADER = """\
| model | px | batch | dtype | program | images/s | ms | MFU | memory | first step | ours / peer |
|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|"""
MATMUL_SIDES = {"cpu": (2048, 4096), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)}


def matmul_rate(case: dict[str, Any]) -> dict[str, Any]:
    """Returns {"flops_per_second", "device", "backend", "versions"}: the best rate of large matrix products."""
    import jax.numpy as jnp

    backend = jax.default_backend()
    dtype = jnp.float32 if backend == "cpu" else jnp.bfloat16
    multiply = jax.jit(jnp.matmul)
    rates = []
    for side in MATMUL_SIDES[backend]:
        left, right = (jax.random.normal(jax.random.key(seed), (side, side), dtype) for seed in range(2))
        seconds = timed(lambda left=left, right=right: multiply(left, right), jax.block_until_ready, case["readings"])
        rates.append(2 * side**3 / seconds)
    return {
        "flops_per_second": max(rates),
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}",
        "backend": backend,
        "versions": f"jax {jax.__version__}",
    }


def run_ours(case: dict[str, Any]) -> dict[str, Any]:
    """Returns {"seconds", "compile_seconds", "peak_bytes", "cudnn_attention"} of our step.

    "cudnn_attention" has `attention_kernels` of the compiled step; there are none if case["of"] is "unfused".
    """
    import numpy as np

    from animesion_jax.config import default_config
    from animesion_jax.models import init_variables
    from animesion_jax.models.kernels import attention
    from benchmarks.step import build_step

    config = default_config()
    config.model, config.image_size, config.dtype = case["model"], case["image_size"], case["dtype"]
    # timm's default has no dropout.
    config.batch_size, config.dropout_rate = case["batch_size"], 0.0
    devices = jax.local_devices()
    stage, train_step = build_step(config, NUM_CLASSES, devices)
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (len(devices), local, side, side, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, (len(devices), local), np.int32),
        "mask": np.ones((len(devices), local), np.float32),
    }
    unfused = mock.patch.object(attention, "can_fuse", lambda *_: False)
    # XLA times its candidate kernels while it compiles.
    with device_alone(), unfused if case["of"] == "unfused" else contextlib.nullcontext():
        state = stage.begin(init_variables(stage.model, config.image_size, 0))
        batch = jax.device_put(batch)
        started = time.perf_counter()
        compiled = train_step.lower(state, batch).compile()
        compile_seconds = time.perf_counter() - started

        def step() -> Any:
            nonlocal state
            state, sums = compiled(state, batch)
            return sums

        seconds = timed(step, jax.block_until_ready, case["readings"])
    return {
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "peak_bytes": (devices[0].memory_stats() or {}).get("peak_bytes_in_use"),
        "cudnn_attention": attention_kernels(compiled),
    }


def attention_kernels(compiled: jax.stages.Compiled) -> list[str]:
    """Returns the names of cuDNN's attention kernels that a program calls."""
    return sorted(set(re.findall(r'"__cudnn\$(fmha\w*)"', compiled.as_text())))


def run_one(case: dict[str, Any]) -> dict[str, Any]:
    """Measures case["of"] in this process."""
    if case["of"] == "matmul":
        return matmul_rate(case)
    if case["of"] in OURS:
        return run_ours(case)
    from benchmarks.torch_step import run_peer

    return run_peer(case)


def flops_of(case: dict[str, Any]) -> float:
    """Returns the FLOPs of a step: three times those of a batch's forward pass."""
    return 3e9 * count_gflops(case["model"], case["image_size"], NUM_CLASSES) * case["batch_size"]


def format_row(case: dict[str, Any], result: dict[str, Any], ours: dict[str, Any], rate: float) -> str:
    """Returns the table's row of a case; `ours` is the result that `result` is compared with."""
    names = [str(case[name]) for name in ("model", "image_size", "batch_size", "dtype", "of")]
    if "error" in result:
        return f"| {' | '.join([*names, result['error'], '', '', '', '', ''])} |"
    peak = result["peak_bytes"]
    cells = [
        f"{case['batch_size'] / result['seconds']:,.1f}",
        f"{1000 * result['seconds']:,.1f}",
        f"{100 * flops_of(case) / result['seconds'] / rate:.1f} %",
        f"{peak / 2**30:.1f} GiB" if peak else "",
        f"{result['compile_seconds']:.0f} s",
        f"{result['seconds'] / ours['seconds']:.2f}" if case["of"] != "ours" and "seconds" in ours else "",
    ]
    return f"| {' | '.join([*names, *cells])} |"


def cases(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields every combination of model, image size, batch size and dtype that the flags ask for, ours first."""
    grid = itertools.product(flags.models, flags.image_sizes, flags.batch_sizes, flags.dtypes)
    for model, image_size, batch_size, dtype in grid:
        for of in ("ours", *(flags.peers if model != "shallownet" else ())):
            yield {
                "of": of, "model": model, "image_size": nearest_size(model, image_size), "batch_size": batch_size,
                "dtype": dtype, "readings": flags.readings,
            }  # fmt: skip


def print_table(flags: argparse.Namespace) -> None:
    """Prints a row per case and implementation; exits if this machine cannot multiply large matrices."""
    jax.config.update("jax_platforms", "cpu")  # only the measuring processes use the accelerator
    machine = measure(__file__, {"of": "matmul", "readings": flags.readings})
    if "error" in machine:
        sys.exit(f"train_step.py: error: a large matrix product fails: {machine['error']}")
    rate, device = machine["flops_per_second"], f"{machine['device']} ({machine['backend']})"
    print(f"{device}, {machine['versions']}, matrix product {rate / 1e12:.2f} TFLOP/s\n\n{HEADER}")
    versions, ours = set(), {}
    for case in cases(flags):
        result = measure(__file__, case)
        ours = result if case["of"] == "ours" else ours
        versions |= {result["versions"]} if "versions" in result else set()
        print(format_row(case, result, ours, rate), flush=True)
    if versions:
        print(f"\npeers: {'; '.join(sorted(versions))}")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=tuple(MODELS), choices=tuple(MODELS), help="default: all")
    parser.add_argument("--image_sizes", nargs="+", type=int, default=(128, 224), help="default: 128 224")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=(64, 1024), help="default: 64 1024")
    parser.add_argument(
        "--dtypes", nargs="+", default=tuple(DTYPES), choices=tuple(DTYPES), help="default: float32 bfloat16"
    )
    parser.add_argument("--peers", nargs="*", default=(), choices=PEERS, help="default: none")
    parser.add_argument("--readings", type=int, default=10, help="timings of about a second each; default: 10")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        print(json.dumps(run_one(flags.one)))
    else:
        print_table(flags)


if __name__ == "__main__":
    main()
