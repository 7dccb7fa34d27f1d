"""The training step of PyTorch with timm's models, the peer of benchmarks/train_step.py."""

import time
from typing import Any

import torch

from benchmarks.processes import device_alone, device_shared
from benchmarks.timing import timed
from tests.peers.torch_models import ARCHITECTURES, timm

NUM_CLASSES = 3263  # DAF:re's


def run_peer(case: dict[str, Any]) -> dict[str, Any]:
    """Returns {"seconds", "compile_seconds", "peak_bytes", "versions"}; case["of"] is "eager" or "compile"."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name, size = case["model"], case["image_size"]
    # Only ViTs are made for one image size.
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

    with device_shared():
        started = time.perf_counter()
        wait(step())
        compile_seconds = time.perf_counter() - started
        if device == "cuda":
            torch.cuda.empty_cache()  # for the other processes
    with device_alone():
        seconds = timed(step, wait, case["readings"])
    return {
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "versions": f"torch {torch.__version__} on {device}, timm {timm.__version__}",
    }
