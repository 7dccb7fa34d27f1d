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
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests and the other benchmarks, which are not installed

from benchmarks.command_line import positive  # noqa: E402

FORMATS = {"onnxruntime": "onnx", "torch": "safetensors"}


def batches(files: Sequence[str], size: int, batch_size: int) -> Iterator:
    """Yields (n, size, size, 3) uint8 images; threads decode two batches ahead."""
    import numpy as np
    from PIL import Image

    def decode(file: str) -> np.ndarray:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = []
        for start in range(0, len(files), batch_size):
            waiting.append([pool.submit(decode, file) for file in files[start : start + batch_size]])
            if len(waiting) > 2:
                yield np.stack([future.result() for future in waiting.pop(0)])
        for futures in waiting:
            yield np.stack([future.result() for future in futures])


def onnxruntime_model(file: str) -> tuple[Callable, int]:
    """Returns a function of uint8 images to probabilities, and the images' side."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    size = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])["size"]
    return lambda images: session.run(["probabilities"], {"images": images})[0], size


def torch_model(file: str) -> tuple[Callable, int]:
    """Returns a function of uint8 images to probabilities, and the images' side."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    from tests.peers.torch_models import timm, torchvision

    with safe_open(file, "pt") as stored:
        told = stored.metadata()
    create, preprocessing = json.loads(told["create"]), json.loads(told["preprocessing"])
    temperature = json.loads(told.get("calibration", "{}")).get("temperature", 1.0)
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

    return probabilities, preprocessing["size"]


def run_peer(kind: str, file: str, files: Sequence[str], batch_size: int, output: str) -> None:
    """Writes each image's largest probability to `output`, as JSON."""
    probabilities, size = {"onnxruntime": onnxruntime_model, "torch": torch_model}[kind](file)
    likeliest = []
    for images in batches(files, size, batch_size):
        likeliest += probabilities(images).max(1).tolist()
    Path(output).write_text(json.dumps(likeliest))


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
            raise RuntimeError((output.read().strip().splitlines() or [f"exit status {process.returncode}"])[-1])
    return seconds, usage.ru_maxrss / 1024


def command_of(kind: str, file: str, images: Sequence[str], batch_size: int, output: str) -> list[str]:
    """Returns the command that classifies images."""
    if kind == "ours":
        module = [sys.executable, "-m", "animesion_jax.main", "predict", f"--bundle={file}", f"--output={output}"]
        return [*module, f"--batch_size={batch_size}", "--top_k=1", *images]
    # Pass the paths in a file; together they may exceed the limit of a command line.
    listed = Path(f"{output}.images")
    listed.write_text(json.dumps(images))
    case = {"kind": kind, "file": file, "images": str(listed), "batch_size": batch_size, "output": output}
    return [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(case)]


def likeliest_of(kind: str, output: str) -> list[float]:
    """Reads a command's output; returns each image's largest probability."""
    text = Path(output).read_text()
    if kind != "ours":
        return json.loads(text)
    return [json.loads(line)["predictions"][0]["probability"] for line in text.splitlines()]


def export(bundle: str, kind: str, folder: Path) -> str:
    """Writes the bundle in a peer's format; returns the file."""
    output = str(folder / f"model.{FORMATS[kind]}")
    inside = ["--preprocessing=inside"] if kind == "onnxruntime" else []
    timed([
        sys.executable, "-m", "animesion_jax.main", "export", f"--bundle={bundle}", f"--format={FORMATS[kind]}",
        f"--output={output}", *inside,
    ])  # fmt: skip
    return output


def images_of(folder: str) -> list[str]:
    """Returns the absolute paths of a folder's images; exits if there are fewer than two.

    A child process finds them, so that this process does not import JAX: a child's measured memory is at least its
    parent's.
    """
    code = (
        "import sys; from animesion_jax.images import find_images; print(*find_images(sys.argv[1:]), sep='\\0', end='')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(Path(folder).resolve())], cwd=ROOT, capture_output=True, text=True
    )
    images = found.stdout.split("\0")
    if found.returncode:
        sys.exit(f"predict.py: error: {found.stderr.strip().splitlines()[-1].partition(': ')[2]}")
    if len(images) < 2:
        sys.exit(f"predict.py: error: {folder} has fewer than two images; give a folder with more")
    return images


def print_table(flags: argparse.Namespace) -> None:
    """Prints a row per program."""
    images = images_of(flags.folder)
    print(f"{len(images)} images, batches of {flags.batch_size}\n")
    print("| of | start-up s | images/s | memory MiB | ours by peer | largest difference |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("ours", *flags.peers):
            try:
                file = str(Path(flags.bundle).resolve()) if kind == "ours" else export(flags.bundle, kind, folder)
                # Our first run compiles, for either batch size.
                for attempt in range(2 if kind == "ours" else 1):
                    one, every = (str(folder / f"{kind}.{count}.{attempt}.jsonl") for count in ("one", "every"))
                    start_up, _ = timed(command_of(kind, file, images[:1], flags.batch_size, one))
                    whole = [str(Path(flags.folder).resolve())] if kind == "ours" else images
                    seconds, memory = timed(command_of(kind, file, whole, flags.batch_size, every))
            except RuntimeError as error:
                if kind == "ours":
                    sys.exit(f"predict.py: error: {error}")
                print(f"| {kind} | {error} | | | | |")
                continue
            rate, likeliest = (len(images) - 1) / (seconds - start_up), likeliest_of(kind, every)
            cells = [kind, f"{start_up:.1f}", f"{rate:,.0f}", f"{memory:,.0f}"]
            if kind == "ours":
                our_rate, our_likeliest = rate, likeliest
                cells += ["", ""]
            else:
                differences = [abs(a - b) for a, b in zip(our_likeliest, likeliest, strict=True)]
                cells += [f"{our_rate / rate:.2f}", f"{max(differences):.1e}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of readable images")
    parser.add_argument("--bundle", help="file written by export")
    parser.add_argument("--peers", nargs="*", default=(), choices=tuple(FORMATS), help="default: none")
    parser.add_argument("--batch_size", type=positive, default=32, help="images per forward pass; default: 32")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        files = json.loads(Path(flags.one["images"]).read_text())
        run_peer(flags.one["kind"], flags.one["file"], files, flags.one["batch_size"], flags.one["output"])
        return
    if not flags.folder or not flags.bundle:
        parser.error("give a folder of images and --bundle")
    print_table(flags)


if __name__ == "__main__":
    main()
