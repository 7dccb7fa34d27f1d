"""Trains for 2,000 steps while its memory is sampled: prints what it holds by step, and the growth after warm-up.

python benchmarks/soak.py --data_dir=runs/demo/data

The run is an ordinary one of ShallowNet on toyfaces, with an evaluation and a checkpoint after each of its 91 epochs of
22 steps. The first quarter of the steps is warm-up; growth is the median of the last quarter over that of the second.
Counted is anonymous resident memory: the pages of libraries are resident or not as the kernel likes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for `from animesion_jax.workdir import ...`

from animesion_jax.workdir import read_rows  # noqa: E402

CONFIG = ROOT / "configs" / "demo.py"
STEPS_PER_EPOCH = 22
SECONDS_BETWEEN_SAMPLES = 0.25
MOST_GROWTH = 0.01
LEAST_STEPS = 1000


def sample_run(flags: argparse.Namespace, workdir: str, log: Path) -> list[tuple[int, float]]:
    """Trains in a child process and returns (last step in its journal, anonymous resident MiB) over time."""
    command = [
        sys.executable, "-m", "animesion_jax.main", f"--config={CONFIG}", f"--config.data_dir={flags.data_dir}",
        "--config.image_size=32", f"--config.data.cache={flags.cache}", f"--workdir={workdir}",
        f"--config.epochs={-(-flags.steps // STEPS_PER_EPOCH)}",
    ]  # fmt: skip
    samples = []
    with log.open("w") as output:
        process = psutil.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            rows = read_rows(workdir)
            if rows:
                memory = process.memory_info()
                if not memory.rss:  # it has just ended
                    break
                samples.append((rows[-1]["step"], (memory.rss - memory.shared) / 2**20))
            time.sleep(SECONDS_BETWEEN_SAMPLES)
    if process.wait():
        sys.exit(f"the run failed with status {process.returncode}; see {log}")
    return samples


def median_between(samples: list[tuple[int, float]], first: float, last: float) -> float:
    """Returns the median MiB of the samples of first <= step < last."""
    return statistics.median(mib for step, mib in samples if first <= step < last)


def main() -> None:
    """The command line; the exit status is 1 if memory grows by 1% or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="where toyfaces was built")
    parser.add_argument("--steps", type=int, default=2000, help="rounded up to whole epochs; default: 2,000")
    parser.add_argument("--cache", default="auto", help="config.data.cache; default: auto")
    flags = parser.parse_args()
    if flags.steps < LEAST_STEPS:
        parser.error(f"--steps is {flags.steps}; allowed: {LEAST_STEPS} or more, for samples in every tenth")
    flags.data_dir = flags.data_dir.resolve()
    with tempfile.TemporaryDirectory() as workdir:
        samples = sample_run(flags, workdir, Path(tempfile.gettempdir()) / "soak.log")
    last = samples[-1][0]
    print(f"{'steps':<14}{'median MiB':>12}")
    for part in range(10):
        first, stop = last * part // 10, last * (part + 1) // 10
        print(f"{f'{first}-{stop}':<14}{median_between(samples, first, stop):>12.1f}")
    growth = median_between(samples, last * 0.75, last) / median_between(samples, last * 0.25, last * 0.5) - 1
    print(f"\ngrowth after warm-up: {growth:+.2%} (allowed: less than {MOST_GROWTH:.0%}), {len(samples)} samples")
    sys.exit(growth >= MOST_GROWTH)


if __name__ == "__main__":
    main()
