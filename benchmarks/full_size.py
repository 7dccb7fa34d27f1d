"""Builds DAF:re at its full size and reads it once; prints the time, rate and peak memory of each step.

python benchmarks/full_size.py --folder=/tmp/full_size
python benchmarks/full_size.py --folder=/tmp/full_size --steps none encoded

`dafre_tree.py` draws the manual folder. Each step runs in its own process. The seconds are those of the whole process
with its imports; the peak is the kernel's largest resident set size. FOLDER needs 12 GB.
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


def command(step: str, folder: Path) -> tuple[list[str | Path], Path, int]:
    """Returns (command, working directory, number of images) of a step."""
    manual, data = folder / "manual", folder / "built"
    if step == "tree":
        return [sys.executable, HERE / "dafre_tree.py", f"--output={manual}"], HERE, IMAGES
    if step in BUILDS:
        places = [f"--manual_dir={manual}", f"--data_dir={data}"]
        return [TFDS, "build", f"--config={step}", "--num_shards=32", "--overwrite", *places], BUILDER, IMAGES
    reading = ["--dataset=dafre/released", f"--data_dir={data}", f"--caches={step}"]
    return [sys.executable, HERE / "input_pipeline.py", *reading, f"--images={TRAIN_IMAGES}"], HERE, TRAIN_IMAGES


def measure(arguments: list[str | Path], cwd: Path, log: Path) -> tuple[float, float]:
    """Runs a command with its output in `log`; returns its seconds and its peak resident memory in GiB."""
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(arguments, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        # The kernel's count misses no peak. It starts at this process's own, which is small.
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, arguments))} failed; see {log}")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the manual folder, the built data and logs")
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS, help="default: all, in this order")
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'step':<10}{'seconds':>10}{'images/s':>12}{'peak GiB':>12}")
    for step in flags.steps:
        arguments, cwd, images = command(step, folder)
        seconds, peak = measure(arguments, cwd, folder / f"{step}.log")
        print(f"{step:<10}{seconds:>10,.0f}{images / seconds:>12,.0f}{peak:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
