"""Prints the speed of `predict` on a folder of images, beside the same model in ONNX Runtime and PyTorch.

python benchmarks/predict.py FOLDER --bundle=demo.msgpack
python benchmarks/predict.py FOLDER --bundle=vit.msgpack --peers onnxruntime torch  # torch with timm and torchvision

Each program runs twice in its own process: with one image, whose time is the start-up, and with all images. The rate is
the remaining images over the additional time. Memory is the kernel's largest resident set size. Our compiled programs
are cached by an earlier run, as for a user. The peers run the files of `export` as docs/export.md does, with the same
batch size; threads decode and resize with Pillow while the model runs. The last column is the largest difference of a
probability from ours; Pillow's rounding causes it.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests, which are not installed

ANIMESION = (sys.executable, "-m", "animesion_jax.main")
FORMATS = {"onnxruntime": "onnx", "torch": "safetensors"}


def batches(files: Sequence[str], preprocessing: dict[str, Any], batch_size: int) -> Iterator:
    """Yields (n, size, size, 3) uint8 images, prepared as a file's metadata says; threads decode two batches ahead."""
    import numpy as np
    from PIL import Image

    def decode(file: str) -> np.ndarray:
        image, size = Image.open(file).convert("RGB"), preprocessing["size"]
        if preprocessing["fit"] == "pad":
            side = max(image.size)
            square = Image.new("RGB", (side, side), "white")
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            image = square
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        starts = range(0, len(files), batch_size)
        waiting = [pool.map(decode, files[start : start + batch_size]) for start in starts[:2]]
        for start in range(0, len(files), batch_size):
            following = files[start + 2 * batch_size : start + 3 * batch_size]
            waiting.append(pool.map(decode, following))
            yield np.stack(list(waiting.pop(0)))


def onnxruntime_model(file: str) -> tuple[Callable, dict[str, Any]]:
    """Returns a function of uint8 images to probabilities, and the file's "preprocessing"."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    preprocessing = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    return lambda images: session.run(["probabilities"], {"images": images})[0], preprocessing


def torch_model(file: str) -> tuple[Callable, dict[str, Any]]:
    """Returns a function of uint8 images to probabilities, and the file's "preprocessing"."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    from tests.peers.torch_models import timm, torchvision

    with safe_open(file, "pt") as stored:
        metadata = stored.metadata()
    create, preprocessing = json.loads(metadata["create"]), json.loads(metadata["preprocessing"])
    temperature = json.loads(metadata.get("calibration", "{}")).get("temperature", 1.0)
    package, function = create["call"].split(".", 1)
    call = timm.create_model if package == "timm" else getattr(torchvision.models, function.rpartition(".")[2])
    model = call(**create["arguments"]).eval().to(memory_format=torch.channels_last)
    model.load_state_dict(load_file(file), strict=True)
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-6
    mean, std = torch.tensor(preprocessing["mean"]), torch.tensor(preprocessing["std"])

    @torch.inference_mode()
    def probabilities(images):
        normalised = (torch.from_numpy(images) / 255 - mean) / std
        return (model(normalised.permute(0, 3, 1, 2)) / temperature).softmax(-1).numpy()

    return probabilities, preprocessing


def run_peer(kind: str, file: str, images: Sequence[str], batch_size: int, output: str) -> None:
    """Writes each image's largest probability to `output`, as JSON."""
    probabilities, preprocessing = {"onnxruntime": onnxruntime_model, "torch": torch_model}[kind](file)
    likeliest = []
    for batch in batches(images, preprocessing, batch_size):
        likeliest += probabilities(batch).max(1).tolist()
    Path(output).write_text(json.dumps(likeliest), encoding="utf-8")


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Runs a command; returns its seconds and peak resident memory in MiB. Raises RuntimeError if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(output.read())
    return seconds, usage.ru_maxrss / 1024


def measure_ours(bundle: str, batch_size: int, images: Sequence[str]) -> tuple[float, float, dict[str, float]]:
    """Returns the seconds and MiB of `predict` on images or folders, and the largest probability by image."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "rows.jsonl")
        flags = [f"--bundle={bundle}", f"--output={output}", f"--batch_size={batch_size}", "--top_k=1"]
        seconds, memory = timed([*ANIMESION, "predict", *flags, *images])
        rows = [json.loads(line) for line in output.read_bytes().splitlines()]
    return seconds, memory, {row["path"]: row["predictions"][0]["probability"] for row in rows}


def measure_peer(kind: str, file: str, batch_size: int, images: Sequence[str]) -> tuple[float, float, dict[str, float]]:
    """Returns the same of a peer that runs a file of `export`."""
    with tempfile.TemporaryDirectory() as folder:
        # Pass the arguments in a file; the paths together may exceed the limit of a command line.
        case, output = Path(folder, "case.json"), Path(folder, "likeliest.json")
        case.write_text(json.dumps([kind, file, images, batch_size, str(output)]), encoding="utf-8")
        seconds, memory = timed([sys.executable, str(Path(__file__).resolve()), "--one", str(case)])
        return seconds, memory, dict(zip(images, json.loads(output.read_text(encoding="utf-8")), strict=True))


def export(bundle: str, kind: str, folder: str) -> str:
    """Writes the bundle in a peer's format; returns the file."""
    output = str(Path(folder, f"model.{FORMATS[kind]}"))
    inside = ["--preprocessing=inside"] if kind == "onnxruntime" else []
    timed([*ANIMESION, "export", f"--bundle={bundle}", f"--format={FORMATS[kind]}", f"--output={output}", *inside])
    return output


def print_table(folder: str, bundle: str, batch_size: int, peers: Sequence[str]) -> None:
    """Prints a row per program."""
    ours = functools.partial(measure_ours, bundle, batch_size)
    # These runs compile. The parent must not find the images itself: a child's memory is at least its parent's, and
    # `find_images` imports JAX.
    images = list(ours([folder])[2])
    ours(images[:1])
    print(f"{len(images)} images, batches of {batch_size}\n")
    print("| program | start-up s | images/s | memory MiB | ours / peer | largest difference |")
    print("|---|---:|---:|---:|---:|---:|")
    (start_up, *_), (seconds, memory, expected) = ours(images[:1]), ours([folder])
    our_rate = (len(images) - 1) / (seconds - start_up)
    print(f"| ours | {start_up:.1f} | {our_rate:,.0f} | {memory:,.0f} | | |", flush=True)
    for kind in peers:
        with tempfile.TemporaryDirectory() as temporary:
            peer = functools.partial(measure_peer, kind, export(bundle, kind, temporary), batch_size)
            (start_up, *_), (seconds, memory, likeliest) = peer(images[:1]), peer(images)
        rate = (len(images) - 1) / (seconds - start_up)
        difference = max(abs(expected[image] - likeliest[image]) for image in images)
        comparison = f"{our_rate / rate:.2f} | {difference:.1e}"
        print(f"| {kind} | {start_up:.1f} | {rate:,.0f} | {memory:,.0f} | {comparison} |", flush=True)


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["--one"]:
        run_peer(*json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of two or more readable images")
    parser.add_argument("--bundle", type=Path, required=True, help="file written by export")
    parser.add_argument("--peers", nargs="*", default=(), choices=tuple(FORMATS), help="default: none")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    flags = parser.parse_args()
    print_table(str(flags.folder.resolve()), str(flags.bundle.resolve()), flags.batch_size, flags.peers)


if __name__ == "__main__":
    main()
