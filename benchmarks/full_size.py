"""Builds DAF:re at its full size and reads it once: prints the time, the rate and the peak of memory of every step.

python benchmarks/full_size.py --folder=/tmp/full_size
python benchmarks/full_size.py --folder=/tmp/full_size --steps none encoded

The manual folder is drawn by `dafre_tree.py`. Every step is a process of its own, whose whole time counts, imports
included; the peak is the largest resident memory that the kernel saw of it. FOLDER needs 12 GB.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILDER = HERE.parent / "tfds_builders" / "dafre"
TFDS = Path(sys.executable).parent / "tfds"
IMAGES, TRAIN_IMAGES = 463_437, 322_947
BUILDS = ("released", "min20")
CACHES = ("none", "encoded")
STEPS = ("tree", *BUILDS, *CACHES)


def command(step: str, folder: Path, batch_size: int) -> tuple[list[str | Path], Path, int]:
    """Returns the command of a step, where to run it, and how many images it goes through."""
    manual, data = folder / "manual", folder / "built"
    if step == "tree":
        return [sys.executable, HERE / "dafre_tree.py", f"--output={manual}"], HERE, IMAGES
    if step in BUILDS:
        places = [f"--manual_dir={manual}", f"--data_dir={data}"]
        return [TFDS, "build", f"--config={step}", "--num_shards=32", "--overwrite", *places], BUILDER, IMAGES
    reading = ["--dataset=dafre/released", f"--data_dir={data}", f"--caches={step}"]
    size = [f"--images={TRAIN_IMAGES}", f"--batch_size={batch_size}"]
    return [sys.executable, HERE / "input_pipeline.py", *reading, *size], HERE, TRAIN_IMAGES


def measure(arguments: list[str | Path], cwd: Path, log: Path) -> tuple[float, float]:
    """Runs a command, its output into `log`, and returns its seconds and the peak of its resident memory in GiB."""
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(arguments, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        # The kernel's own count misses no peak between two samples. It starts from this process's, which is small.
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, arguments))} failed; see {log}")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the manual folder, the built data and the logs")
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS, help="default: all, in this order")
    parser.add_argument("--batch_size", type=int, default=64, help="images of a batch when reading; default: 64")
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'step':<10}{'seconds':>10}{'images/s':>12}{'peak GiB':>12}")
    for step in flags.steps:
        arguments, cwd, images = command(step, folder, flags.batch_size)
        seconds, peak = measure(arguments, cwd, folder / f"{step}.log")
        print(f"{step:<10}{seconds:>10,.0f}{images / seconds:>12,.0f}{peak:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
