"""Prints how fast the training step alone is, beside the same model in PyTorch: images/s and model FLOP utilisation.

python benchmarks/train_step.py                                  # on a GPU or TPU: every model, size, batch and dtype
python benchmarks/train_step.py --models vit_b32 vit_b16 resnet18 --image_sizes 128 --batch_sizes 64 \\
    --dtypes float32 --peers eager compile                       # on a CPU; the peers need torch and timm

Synthetic images lie on the device; no TensorFlow is needed. A step is all that training does there: augmentation,
forward, backward, SGD with momentum, metrics; its state is donated. The peer is timm's model of the same batch, dtype
(by autocast) and optimizer, in channels_last, without any augmentation; "compile" is torch.compile of forward and loss.
Every measurement has a process of its own, so that none finds the memory of another.

"MFU" is 3 x the FLOPs of the forward pass over what the chip does in a large matrix product of bfloat16 numbers (of
float32 ones on a CPU, where bfloat16 is emulated), which is measured first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for configs and tests, which are no part of the package

from animesion_jax.huge_pages import TUNABLE, VARIABLE  # noqa: E402

from animesion_jax.models import MODELS  # noqa: E402
from benchmarks.command_line import DTYPES, positive  # noqa: E402
from benchmarks.models import count_gflops, nearest_size  # noqa: E402

NUM_CLASSES = 3263  # DAF:re's
PEERS = ("eager", "compile")
# Steps between two readings of the clock last about so long, so that the host's own work does not count.
SECONDS_PER_READING = 1.0
MATMUL_SIDES = {"cpu": (2048, 4096), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192)}
UNCOUNTED_STEPS = 3


def timed(step: Callable[[], Any], wait: Callable[[Any], Any], readings: int) -> float:
    """Returns the median seconds of a step, after some that do not count; `wait` gets what the last one returned."""
    for _ in range(UNCOUNTED_STEPS):
        done = step()
    wait(done)
    started = time.perf_counter()
    wait(step())
    count = max(round(SECONDS_PER_READING / (time.perf_counter() - started)), 1)
    seconds = []
    for _ in range(readings):
        started = time.perf_counter()
        for _ in range(count):
            done = step()
        wait(done)
        seconds.append((time.perf_counter() - started) / count)
    return statistics.median(seconds)


def matmul_rate(readings: int) -> dict[str, Any]:
    """Returns {"flops_per_second", "device", "backend", "versions"} of this machine's largest matrix products."""
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
    """Times our step: {"seconds", "compile_seconds", "peak_bytes", "flops"}, these of the batch's forward pass."""
    import jax
    import numpy as np

    from animesion_jax.distributed import AXIS
    from animesion_jax.models import init_variables
    from animesion_jax.training import optim
    from animesion_jax.training.state import create_state
    from animesion_jax.training.steps import make_train_step
    from animesion_jax.workdir import run
    from configs import common

    config = common.get_config()
    config.model, config.image_size, config.dtype = case["model"], case["image_size"], case["dtype"]
    config.batch_size, config.dropout_rate = case["batch_size"], case["dropout_rate"]
    config.grad_accumulation = case["grad_accumulation"]
    model = run.build_model(config, NUM_CLASSES, AXIS)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 1000))
    variables = init_variables(model, config.image_size, 0)
    state = create_state(variables, optimizer)
    devices = jax.local_devices()
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (len(devices), local, side, side, 3), np.uint8),
        "label": rng.integers(0, NUM_CLASSES, (len(devices), local), np.int32),
        "mask": np.ones((len(devices), local), np.float32),
    }
    batch = jax.device_put(batch)
    started = time.perf_counter()
    train_step = make_train_step(model, optimizer, config, devices).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - started

    def step() -> Any:
        nonlocal state
        state, sums = train_step(state, batch)
        return sums

    return {
        "seconds": timed(step, jax.block_until_ready, readings),
        "compile_seconds": compile_seconds,
        "peak_bytes": (devices[0].memory_stats() or {}).get("peak_bytes_in_use"),
        "flops": count_gflops(config.model, config.image_size, NUM_CLASSES) * 1e9 * config.batch_size,
    }


def run_peer(case: dict[str, Any], readings: int) -> dict[str, Any]:
    """Times PyTorch's step: {"seconds", "compile_seconds", "peak_bytes", "versions"}."""
    import torch

    from tests.peers.torch_models import ARCHITECTURES, timm

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, size = case["model"], case["image_size"]
    # A ViT's number of positions follows from the image; a ResNet takes any.
    options = {} if name.startswith("resnet") else {"img_size": size}
    model = timm.create_model(ARCHITECTURES.get(name, name), num_classes=NUM_CLASSES, **options)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=device == "cuda")
    pixels = torch.randint(0, 256, (case["batch_size"], 3, size, size), dtype=torch.uint8, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, NUM_CLASSES, (case["batch_size"],), device=device)

    def loss_of(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=case["dtype"] == "bfloat16"):
            logits = model((pixels.float() / 255 - 0.5) / 0.5)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    if case["of"] == "compile":
        loss_of = torch.compile(loss_of)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(pixels).backward()
        optimizer.step()

    def wait(_: None) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    started = time.perf_counter()
    wait(step())
    compile_seconds = time.perf_counter() - started
    return {
        "seconds": timed(step, wait, readings),
        "compile_seconds": compile_seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": f"torch {torch.__version__}, timm {timm.__version__}",
    }


def measure(case: dict[str, Any], flags: argparse.Namespace) -> dict[str, Any]:
    """Returns what a process of its own measured, or {"error": its last words}."""
    command = [sys.executable, __file__, "--one", json.dumps(case), "--readings", str(flags.readings)]
    # Memory is taken as it is needed, so that the peak is the step's; on the host in huge pages, as training has it.
    environment = {VARIABLE: TUNABLE, **os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    said = done.stderr
    if done.returncode == -9 or any(word in said for word in ("RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory")):
        return {"error": "out of memory"}
    return {"error": (said.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:60]}


def run_one(case: dict[str, Any], readings: int) -> dict[str, Any]:
    """Measures in this process."""
    runs = {"matmul": lambda: matmul_rate(readings), "ours": lambda: run_ours(case, readings)}
    return runs.get(case["of"], lambda: run_peer(case, readings))()


def cells(result: dict[str, Any], images: int, flops: float | None, rate: float) -> list[str]:
    """Returns images/s, ms a step, MFU, memory and seconds to compile."""
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


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=tuple(MODELS), choices=tuple(MODELS), help="default: all")
    parser.add_argument("--image_sizes", nargs="+", type=positive, default=(128, 224), help="default: 128 224")
    parser.add_argument("--batch_sizes", nargs="+", type=positive, default=(64, 1024), help="default: 64 1024")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES, help="default: float32 bfloat16")
    parser.add_argument("--peers", nargs="*", default=(), choices=PEERS, help="default: none")
    parser.add_argument("--grad_accumulation", type=positive, default=1, help="parts of our batch; default: 1")
    parser.add_argument("--dropout_rate", type=float, default=0.0, help="of ours; default: 0, which timm has")
    parser.add_argument("--readings", type=positive, default=10, help="readings of the clock, of about a second each")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.one:
        print(json.dumps(run_one(flags.one, flags.readings)))
        return
    machine = measure({"of": "matmul"}, flags)
    if "error" in machine:
        sys.exit(f"train_step.py: error: a large matrix product fails here: {machine['error']}")
    rate = machine["flops_per_second"]
    print(
        f"{machine['device']} ({machine['backend']}), {machine['versions']}, matrix product {rate / 1e12:.2f} TFLOP/s"
    )
    print("\n| model | px | batch | dtype | of | images/s | ms | MFU | memory | first step | ours by peer |")
    print("|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|")
    versions = set()
    for model in flags.models:
        for image_size in flags.image_sizes:
            size = nearest_size(model, image_size)
            for batch_size in flags.batch_sizes:
                for dtype in flags.dtypes:
                    case = {
                        "model": model, "image_size": size, "batch_size": batch_size, "dtype": dtype,
                        "grad_accumulation": flags.grad_accumulation, "dropout_rate": flags.dropout_rate,
                    }  # fmt: skip
                    ours = measure(case | {"of": "ours"}, flags)
                    for kind in ("ours", *(flags.peers if model != "shallownet" else ())):
                        result = ours if kind == "ours" else measure(case | {"of": kind}, flags)
                        versions |= {result["versions"]} if "versions" in result else set()
                        both = kind != "ours" and "seconds" in ours and "seconds" in result
                        ratio = f"{result['seconds'] / ours['seconds']:.2f}" if both else ""
                        shown = cells(result, batch_size, ours.get("flops"), rate)
                        row = [model, str(size), str(batch_size), dtype, kind, *shown, ratio]
                        print(f"| {' | '.join(row)} |", flush=True)
    if versions:
        print(f"\npeers: {'; '.join(sorted(versions))}")


if __name__ == "__main__":
    main()
