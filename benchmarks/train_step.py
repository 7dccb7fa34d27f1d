"""Prints the speed of the training step alone, beside the same model in PyTorch: images/s and model FLOP utilisation.

python benchmarks/train_step.py                    # GPU or TPU: every model, image size, batch size and dtype
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
python benchmarks/train_step.py --models vit_b32 vit_b16 resnet18 --image_sizes 128 --batch_sizes 64 \\
    --dtypes float32 --peers eager compile         # CPU; the peers need torch and timm

Set GLIBC_TUNABLES on CPUs, as the Makefile does. The images are synthetic and stay on the device; TensorFlow is not
needed. A step consists of augmentation, forward, backward, SGD with momentum and metrics; its state is donated. Each
measurement runs in its own process. The peer is timm's model with the same batch, dtype (by autocast) and optimizer, in
channels_last, without augmentation. "compile" is torch.compile of forward and loss.

MFU is 3 x the forward pass's FLOPs over the rate of a large matrix product. The product is measured first: bfloat16 on
accelerators, float32 on CPUs, which emulate bfloat16.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for configs and the other benchmarks, which are not installed

from animesion_jax.models import DTYPES, MODELS  # noqa: E402
from benchmarks.models import count_gflops, nearest_size  # noqa: E402
from benchmarks.timing import timed  # noqa: E402

NUM_CLASSES = 3263  # DAF:re's
PEERS = ("eager", "compile")
MATMUL_SIDES = {"cpu": (2048, 4096), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)}


def matmul_rate(readings: int) -> dict[str, Any]:
    """Returns {"flops_per_second", "device", "backend", "versions"}: the best rate of large matrix products."""
    import jax
    import jax.numpy as jnp

    backend = jax.default_backend()
    dtype = jnp.float32 if backend == "cpu" else jnp.bfloat16
    multiply = jax.jit(jnp.matmul)
    rates = []
    for side in MATMUL_SIDES[backend]:
        left, right = (jax.random.normal(jax.random.key(seed), (side, side), dtype) for seed in range(2))
        seconds = timed(lambda left=left, right=right: multiply(left, right), jax.block_until_ready, readings)
        rates.append(2 * side**3 / seconds)
    return {
        "flops_per_second": max(rates),
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}",
        "backend": backend,
        "versions": f"jax {jax.__version__}",
    }


def run_ours(case: dict[str, Any], readings: int) -> dict[str, Any]:
    """Returns {"seconds", "compile_seconds", "peak_bytes", "flops"} of our step; FLOPs of the batch's forward pass."""
    import jax
    import numpy as np

    from animesion_jax.models import init_variables
    from benchmarks.step import build_step
    from configs import common

    config = common.get_config()
    config.model, config.image_size, config.dtype = case["model"], case["image_size"], case["dtype"]
    # timm's default has no dropout.
    config.batch_size, config.dropout_rate = case["batch_size"], 0.0
    devices = jax.local_devices()
    stage, train_step = build_step(config, NUM_CLASSES, devices)
    state = stage.create_state(init_variables(stage.model, config.image_size, 0))
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (len(devices), local, side, side, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, (len(devices), local), np.int32),
        "mask": np.ones((len(devices), local), np.float32),
    }
    batch = jax.device_put(batch)
    started = time.perf_counter()
    compiled = train_step.lower(state, batch).compile()
    compile_seconds = time.perf_counter() - started

    def step() -> Any:
        nonlocal state
        state, sums = compiled(state, batch)
        return sums

    return {
        "seconds": timed(step, jax.block_until_ready, readings),
        "compile_seconds": compile_seconds,
        "peak_bytes": (devices[0].memory_stats() or {}).get("peak_bytes_in_use"),
        "flops": count_gflops(config.model, config.image_size, NUM_CLASSES) * 1e9 * config.batch_size,
    }


def measure(case: dict[str, Any], flags: argparse.Namespace) -> dict[str, Any]:
    """Measures in a new process; returns its result, or {"error": the end of its stderr}."""
    command = [sys.executable, __file__, "--one", json.dumps(case), "--readings", str(flags.readings)]
    # Without preallocation, the peak is the step's own.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    stderr = done.stderr
    if done.returncode == -9 or any(word in stderr for word in ("RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory")):
        return {"error": "out of memory"}
    return {"error": (stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:60]}


def run_one(case: dict[str, Any], readings: int) -> dict[str, Any]:
    """Measures case["of"] in this process."""
    if case["of"] == "matmul":
        return matmul_rate(readings)
    if case["of"] == "ours":
        return run_ours(case, readings)
    from benchmarks.torch_step import run_peer

    return run_peer(case, readings)


def cells(result: dict[str, Any], images: int, flops: float | None, rate: float) -> list[str]:
    """Returns the cells of a row: images/s, ms per step, MFU, memory and seconds to compile."""
    if "error" in result:
        return [result["error"], "", "", "", ""]
    peak = result["peak_bytes"]
    return [
        f"{images / result['seconds']:,.1f}",
        f"{1000 * result['seconds']:,.1f}",
        f"{300 * flops / result['seconds'] / rate:.1f} %" if flops else "",
        f"{peak / 2**30:.1f} GiB" if peak else "",
        f"{result['compile_seconds']:.0f} s",
    ]


def cases(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields every combination of model, image size, batch size and dtype that the flags ask for."""
    grid = itertools.product(flags.models, flags.image_sizes, flags.batch_sizes, flags.dtypes)
    for model, image_size, batch_size, dtype in grid:
        yield {
            "model": model, "image_size": nearest_size(model, image_size), "batch_size": batch_size, "dtype": dtype,
        }  # fmt: skip


def print_table(flags: argparse.Namespace) -> None:
    """Prints a row per case and implementation; exits if this machine cannot multiply large matrices."""
    machine = measure({"of": "matmul"}, flags)
    if "error" in machine:
        sys.exit(f"train_step.py: error: a large matrix product fails: {machine['error']}")
    rate, device = machine["flops_per_second"], f"{machine['device']} ({machine['backend']})"
    print(f"{device}, {machine['versions']}, matrix product {rate / 1e12:.2f} TFLOP/s")
    print("\n| model | px | batch | dtype | program | images/s | ms | MFU | memory | first step | ours / peer |")
    print("|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|")
    versions = set()
    for case in cases(flags):
        ours = measure(case | {"of": "ours"}, flags)
        for kind in ("ours", *(flags.peers if case["model"] != "shallownet" else ())):
            result = ours if kind == "ours" else measure(case | {"of": kind}, flags)
            versions |= {result["versions"]} if "versions" in result else set()
            has_both = kind != "ours" and "seconds" in ours and "seconds" in result
            ratio = f"{result['seconds'] / ours['seconds']:.2f}" if has_both else ""
            shown = cells(result, case["batch_size"], ours.get("flops"), rate)
            names = (case["model"], case["image_size"], case["batch_size"], case["dtype"], kind)
            print(f"| {' | '.join([*map(str, names), *shown, ratio])} |", flush=True)
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
        print(json.dumps(run_one(flags.one, flags.readings)))
    else:
        print_table(flags)


if __name__ == "__main__":
    main()
