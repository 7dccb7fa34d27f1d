"""Checks the models and measures the training step on a GPU, in at most 8 minutes.

python benchmarks/gpu_check.py                        # prints tables; writes gpu_check.jsonl into $OUT, or here

It needs jax, flax, optax, orbax, etils and Pillow, but not the installed package. The peer needs torch and timm.
--rehearse runs the same checks on small inputs, also on a CPU.

1. Logits of every family beside stored ones (benchmarks/logits.py), in float32, float32 as XLA chooses (TF32) and
   bfloat16.
2. Self-attention of ViT-B/16 in bfloat16: whether cuDNN's kernels are called, their errors, and their time.
3. The training step of five models, beside timm with torch.compile, and without cuDNN's attention.

Each measurement is a process. Several run at once, but each is timed alone. Each result is written at once. Checks
that do not fit into --budget are listed as skipped. The exit status is 1 if logits or attention are out of tolerance
or were not checked.
"""

import argparse
import concurrent.futures
import functools
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package may not be installed

from benchmarks import train_step  # noqa: E402
from benchmarks.logits import ALLOWED, CASES, compute_logits, make_case, read_stored, relative_error, uniform  # noqa: E402
from benchmarks.processes import LOCK, device_alone, device_shared, measure  # noqa: E402
from benchmarks.timing import timed  # noqa: E402

# Image size in pixels and batch of the training step, and batch of the attention; small ones for --rehearse.
SIZES, SMALL_SIZES = (224, 256, 256), (32, 4, 2)
MODELS = ("vit_b16", "resnet18", "vit_b32", "vit_l16", "resnet152")
# Precision of the products, by the name of its tolerance.
PRECISIONS = {"float32": (jnp.float32, "highest"), "tf32": (jnp.float32, None), "bfloat16": (jnp.bfloat16, None)}
TOKENS, HIDDEN, HEADS = 197, 768, 12  # ViT-B/16 at 224 px
# Allowed errors of cuDNN's attention, as a multiple of those of XLA's attention in bfloat16.
ALLOWED_ATTENTION = 2.0
# Start no process later than this before the end.
MIN_SECONDS = 60.0
WRITING = threading.Lock()


def check_logits(case: dict[str, Any]) -> dict[str, Any]:
    """Returns {"errors", "allowed"} of a model's logits by precision; see `logits.relative_error`."""
    name, stored = case["model"], read_stored()[case["model"]]
    variables, images = make_case(name)
    errors = {}
    with device_shared():
        for precision, (dtype, products) in PRECISIONS.items():
            with jax.default_matmul_precision(products):
                errors[precision] = relative_error(compute_logits(name, dtype, variables, images), stored["logits"])
    return {"errors": errors, "allowed": {each: ALLOWED[each] * stored["rounding"] for each in PRECISIONS}}


def check_attention(case: dict[str, Any]) -> dict[str, Any]:
    """Returns {"kernels", "reason", "errors", "milliseconds"} of the forward and backward pass of self-attention."""
    import flax.linen as nn

    from animesion_jax.models.kernels import attention

    class Attention(nn.Module):
        form: Callable[..., jax.Array]
        dtype: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.form(x, HEADS, self.dtype)

    reasons = []
    handler = logging.Handler()
    handler.emit = lambda record: reasons.append(record.getMessage())
    attention.log.addHandler(handler)
    x, direction = (uniform(name, (case["batch_size"], TOKENS, HIDDEN)) for name in ("x", "direction"))
    variables = Attention(attention.attend, jnp.float32).init(jax.random.key(0), x[:1])
    forms = {
        "float32": (attention.attend, jnp.float32),
        "xla": (attention.attend, jnp.bfloat16),
        "cudnn": (attention.attend_by_cudnn, jnp.bfloat16),
    }
    outputs, milliseconds = {}, {}
    for name, (form, dtype) in forms.items():
        module = Attention(form, dtype)

        def pull(variables, x, direction, module=module):
            out, backward = jax.vjp(module.apply, variables, x)
            return out, backward(direction.astype(out.dtype))

        arguments = jax.device_put((variables, jnp.asarray(x, dtype), jnp.asarray(direction, dtype)))
        with device_alone(), jax.default_matmul_precision("highest" if name == "float32" else None):
            compiled = jax.jit(pull).lower(*arguments).compile()
            call = functools.partial(compiled, *arguments)
            milliseconds[name] = 1000 * timed(call, jax.block_until_ready, case["readings"])
        outputs[name], kernels = call(), train_step.attention_kernels(compiled)
    errors = {name: _attention_error(outputs[name], outputs["float32"]) for name in ("xla", "cudnn")}
    return {"kernels": kernels, "reason": " ".join(reasons), "errors": errors, "milliseconds": milliseconds}


def _attention_error(ours: Any, reference: Any) -> float:
    """Returns the largest relative root mean square difference of the output and of any gradient but the keys' bias.

    The softmax cancels the keys' bias, whose gradient is 0 except for rounding.
    """
    worst = 0.0
    for (path, ours_leaf), leaf in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(reference), strict=True
    ):
        if "['key']['bias']" not in jax.tree_util.keystr(path):
            left, right = (np.asarray(each, np.float64) for each in (ours_leaf, leaf))
            worst = max(worst, float(np.sqrt(np.mean((left - right) ** 2) / np.mean(right**2))))
    return worst


def list_cases(rehearse: bool, readings: int) -> Iterator[dict[str, Any]]:
    """Yields what to measure, the most important first."""
    image_size, batch_size, attention_batch = SMALL_SIZES if rehearse else SIZES
    for name in CASES:
        yield {"of": "logits", "model": name}
    yield {"of": "attention", "batch_size": attention_batch, "readings": readings}
    flags = argparse.Namespace(
        models=MODELS, image_sizes=(image_size,), batch_sizes=(batch_size,), dtypes=("bfloat16",), peers=("compile",),
        readings=readings,
    )  # fmt: skip
    steps = list(train_step.cases(flags))
    yield from (*steps, steps[0] | {"of": "unfused"})


def run_case(case: dict[str, Any], file: Any, deadline: float) -> dict[str, Any]:
    """Measures a case if there is time; writes its result as a line of JSON and returns it."""
    left = deadline - time.monotonic()
    result = measure(__file__, case, left) if left >= MIN_SECONDS else {"error": "skipped, no time left"}
    with WRITING:
        file.write(json.dumps(case | result) + "\n")
        file.flush()
    return result


def format_logits(case: dict[str, Any], result: dict[str, Any]) -> tuple[str, bool]:
    """Returns the table's row of a model, and whether its logits are within tolerance."""
    if "error" in result:
        return f"| {case['model']} | {result['error']} | | | not checked |", False
    errors, allowed = result["errors"], result["allowed"]
    cells = [f"{errors[each]:.1e} of {allowed[each]:.1e}" for each in PRECISIONS]
    good = all(errors[each] <= allowed[each] for each in PRECISIONS)  # false for NaN
    return f"| {' | '.join([case['model'], *cells, 'yes' if good else 'NO'])} |", good


def format_attention(result: dict[str, Any]) -> tuple[str, bool]:
    """Returns a line about the attention, and whether its errors are within tolerance."""
    if "error" in result:
        return f"cuDNN's attention: not checked, {result['error']}", False
    errors, ms = result["errors"], result["milliseconds"]
    good = errors["cudnn"] <= ALLOWED_ATTENTION * errors["xla"]
    called = ", ".join(result["kernels"]) or f"NOT called. {result['reason']}"
    return (
        f"cuDNN's attention: {called}\n"
        f"forward and backward {ms['cudnn']:.2f} ms, XLA's {ms['xla']:.2f} ms, in float32 {ms['float32']:.2f} ms\n"
        f"error {errors['cudnn']:.1e}, XLA's {errors['xla']:.1e}; within tolerance: {'yes' if good else 'NO'}"
    ), good


def check(flags: argparse.Namespace) -> int:
    """Prints all results; returns 1 if one is out of tolerance or was not checked."""
    deadline = time.monotonic() + flags.budget
    with open(flags.output, "w", encoding="utf-8") as file, tempfile.NamedTemporaryFile() as lock:
        os.environ[LOCK] = lock.name
        run = functools.partial(run_case, file=file, deadline=deadline)
        machine = run({"of": "matmul", "readings": flags.readings})
        if "error" in machine:
            sys.exit(f"gpu_check.py: error: a large matrix product fails: {machine['error']}")
        if machine["backend"] != "gpu" and not flags.rehearse:
            sys.exit(f"gpu_check.py: error: JAX finds no GPU, only {machine['device']}; allowed: --rehearse")
        rate = machine["flops_per_second"]
        print(f"{machine['device']} ({machine['backend']}), {machine['versions']}, product {rate / 1e12:.2f} TFLOP/s")
        with concurrent.futures.ThreadPoolExecutor(max(2, min(4, os.cpu_count() // 4))) as pool:
            cases = list(list_cases(flags.rehearse, flags.readings))
            results = zip(cases, [pool.submit(run, case) for case in cases], strict=True)
            good = print_results(((case, future.result()) for case, future in results), rate)
    print(f"\n{time.monotonic() - deadline + flags.budget:.0f} s; results in {flags.output}")
    return 0 if good else 1


def print_results(results: Iterator[tuple[dict[str, Any], dict[str, Any]]], rate: float) -> bool:
    """Prints the results in the order of `list_cases`; returns whether everything was checked and is in tolerance."""
    is_good, ours, versions = True, {}, set()
    print("\n| logits of | float32: error of allowed | TF32 | bfloat16 | within tolerance |\n|---|---:|---:|---:|---|")
    for case, result in results:
        if case["of"] == "logits":
            text, good = format_logits(case, result)
        elif case["of"] == "attention":
            text, good = format_attention(result)
            text = f"\n{text}\n\n{train_step.HEADER}"
        else:
            if case["of"] == "ours":
                ours[case["model"]] = result
            text = train_step.format_row(case, result, ours[case["model"]], rate)
            versions |= {result["versions"]} if "versions" in result else set()
            good = True
        is_good &= good
        print(text, flush=True)
    with_cudnn = [name for name, result in ours.items() if result.get("cudnn_attention")]
    print(f"\nsteps that call cuDNN's attention: {', '.join(with_cudnn) or 'none'}")
    print(f"peers: {'; '.join(sorted(versions)) or 'none'}")
    return is_good


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    output = Path(os.environ.get("OUT", "."), "gpu_check.jsonl")
    parser.add_argument("--output", default=output, help="default: gpu_check.jsonl in $OUT or here")
    parser.add_argument("--budget", type=float, default=420, help="seconds for everything; default: 420")
    parser.add_argument("--readings", type=int, default=3, help="timings of about a second each; default: 3")
    parser.add_argument("--rehearse", action="store_true", help="small inputs, also without a GPU")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if not flags.one:
        jax.config.update("jax_platforms", "cpu")  # only the measuring processes use the GPU
        return check(flags)
    run_one = {"logits": check_logits, "attention": check_attention}.get(flags.one["of"], train_step.run_one)
    print(json.dumps(run_one(flags.one)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
