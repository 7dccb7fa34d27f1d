"""Compiles the training step for a GPU or TPU, without one; prints its FLOPs, bytes and a lower bound of its time.

pip install 'jax[cuda13]'                        # for h200: XLA's compiler for GPUs, 4 GB; no GPU is needed
python benchmarks/compiled.py --models vit_b16 resnet18 --image_size 224
python benchmarks/compiled.py --models vit_b16 --image_size 224 --without fused_attention
pip install libtpu                               # for v3-8; no TPU is needed
python benchmarks/compiled.py --chip v3-8 --models vit_b16 --image_size 128

The step is the whole training step: augmentation, forward, backward, SGD with momentum, metrics.

GPU: an instruction takes the largest of three times: its matrix products at the rate measured on such a card, its bytes
at the memory's bandwidth, and its 32-bit integer operations, which make random bits. The step's time is the sum over
its instructions. It is a lower bound, since no kernel uses its chip fully. Every operand and result counts in full, as
if nothing were cached. Kernels are not tuned, which needs the card; matrix products are cuBLAS's.

TPU: seconds and bytes are XLA's own estimates for one core.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the other benchmarks
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_triton_gemm=false"

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402

from animesion_jax.configs import dafre_128  # noqa: E402
from animesion_jax.models import DTYPES, MODELS  # noqa: E402
from animesion_jax.models.kernels import attention  # noqa: E402
from benchmarks.hlo import Rates, costs_of, parse  # noqa: E402
from benchmarks.models import count_gflops, nearest_size  # noqa: E402
from benchmarks.step import lower_step  # noqa: E402

NUM_CLASSES = 3263  # DAF:re's


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device that a program is compiled for.

    Attributes:
      platform, topology: arguments of `jax.experimental.topologies.get_topology_desc`.
      options: its other arguments.
      rates: rates of one device; bandwidth 0 selects XLA's own estimate of the time.
    """

    platform: str
    topology: str
    options: dict[str, str]
    rates: Rates


# NVIDIA's figures for an H200: 132 multiprocessors of 64 integer operations a clock at 1.98 GHz, 4.8 TB/s, 141 GB.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 151397597184
  cuda_compute_capability { major: 9 }
}
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 10 }
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
"""
CHIPS = {
    # A large matrix product was measured at 790 TFLOP/s.
    "h200": Chip("cuda", "", {"target_config": H200, "topology": "1x1x1"}, Rates(790e12, 4.8e12, 132 * 64 * 1.98e9)),
    # The rate of a core, half of a chip's 123 TFLOP/s.
    "v3-8": Chip("tpu", "v3:2x2", {}, Rates(61.5e12)),
}
# Parts that --without leaves out, to show their cost.
PARTS = ("fused_attention", "dropout")


def compile_step(
    flags: argparse.Namespace, name: str, image_size: int, devices: Sequence[jax.Device]
) -> jax.stages.Compiled:
    """Returns the training step of a model, compiled for a chip's devices."""
    chip = CHIPS[flags.chip]
    config = dafre_128.get_config(name)
    config.image_size, config.batch_size, config.dtype = image_size, flags.batch_size, flags.dtype
    config.grad_accumulation = flags.grad_accumulation
    if "dropout" in flags.without:
        config.dropout_rate = 0.0
    fused = chip.platform == "cuda" and flags.dtype == "bfloat16" and "fused_attention" not in flags.without
    # JAX queries the card for its abilities; without a card, return an H200's.
    kernels = "jax._src.cudnn.fused_attention_stablehlo"
    with (
        mock.patch.object(attention, "can_fuse", lambda *_: fused),
        mock.patch("jax.default_backend", lambda: {"cuda": "gpu"}.get(chip.platform, chip.platform)),
        mock.patch(f"{kernels}.check_cudnn_version", lambda: 91000),
        mock.patch(f"{kernels}.check_compute_capability", lambda _: True),
        mock.patch(f"{kernels}.is_cuda_compute_capability_equal", lambda _: False),
    ):
        return lower_step(config, NUM_CLASSES, devices).compile()


def rows(flags: argparse.Namespace) -> Iterator[list[str]]:
    """Yields the cells of each row."""
    chip = CHIPS[flags.chip]
    rates = chip.rates
    devices = topologies.get_topology_desc(chip.topology, chip.platform, **chip.options).devices
    for name in flags.models:
        image_size = nearest_size(name, flags.image_size)
        compiled = compile_step(flags, name, image_size, devices)
        memory = compiled.memory_analysis()
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        model_flops = 3e9 * count_gflops(name, image_size, NUM_CLASSES) * flags.batch_size / len(devices)
        if rates.bandwidth:
            costs = [cost for _, cost in costs_of(*parse(compiled.as_text()))]
            seconds = sum(cost.seconds(rates) for cost in costs)
            num_bytes = sum(cost.num_bytes for cost in costs)
            alone = (
                sum(cost.flops for cost in costs) / rates.flops,
                num_bytes / rates.bandwidth,
                sum(cost.integers for cost in costs) / rates.integers,
            )
            shares = [f"{1000 * each:.1f}" for each in alone]
        else:
            analysis = compiled.cost_analysis()
            seconds, num_bytes = analysis["optimal_seconds"], analysis["bytes accessed"]
            shares = [f"{1000 * analysis['flops'] / rates.flops:.1f}", "", ""]
        yield [
            name, str(image_size), str(flags.batch_size), flags.dtype, *shares, f"{num_bytes / 1e9:,.0f}",
            f"{1000 * seconds:.1f}", f"{100 * model_flops / seconds / rates.flops:.0f} %",
            f"{flags.batch_size / seconds:,.0f}", f"{held / 2**30:.1f}",
        ]  # fmt: skip


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", choices=tuple(CHIPS), default="h200", help="default: h200")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=("vit_b16",), help="default: vit_b16")
    parser.add_argument("--image_size", type=int, default=224, help="default: 224")
    parser.add_argument("--batch_size", type=int, default=1024, help="of all devices together; default: 1024")
    parser.add_argument("--grad_accumulation", type=int, default=1, help="parts of a batch; default: 1")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bfloat16", help="default: bfloat16")
    parser.add_argument("--without", nargs="+", choices=PARTS, default=(), help="parts to leave out")
    flags = parser.parse_args()
    print(f"jax {jax.__version__}, {flags.chip}; ms of products, bytes and integers, then of the whole step\n")
    print("| model | px | batch | dtype | products | bytes | integers | GB moved | ms | MFU | images/s | GiB held |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for row in rows(flags):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
