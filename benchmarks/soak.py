"""Trains for 2,000 steps while its memory is sampled: prints what it holds by step, and the growth after warm-up.

python benchmarks/soak.py --data_dir=runs/demo/data

The run is an ordinary one of ShallowNet on toyfaces, with an evaluation and a checkpoint after each of its 91 epochs of
22 steps. The first quarter of the steps is warm-up; growth is the median of the last quarter over that of the second.

Counted is anonymous resident memory: the pages of libraries are resident or not as the kernel likes. Before a sample is
taken, glibc gives back the pages that it holds free. It keeps those of the compilations, 200 MiB, for some hundred
steps, drops them at once, and takes some back over the next thousand, more than any leak that is looked for here.
--keep_free_pages counts them too; such a run takes 6,000 steps to settle.
"""

import argparse
import ctypes
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for `from animesion_jax.main import ...`

from animesion_jax.main import main as animesion  # noqa: E402
from animesion_jax.workdir import read_rows  # noqa: E402

CONFIG = ROOT / "configs" / "demo.py"
STEPS_PER_EPOCH = 22
SECONDS_BETWEEN_SAMPLES = 0.25
MOST_GROWTH = 0.01
LEAST_STEPS = 1000


class Sampler(threading.Thread):
    """Keeps (last step in a workdir's journal, anonymous resident MiB of this process) over time."""

    def __init__(self, workdir: str, keep_free_pages: bool):
        super().__init__(daemon=True)
        self.samples: list[tuple[int, float]] = []
        self._workdir = workdir
        self._give_back = (lambda _: None) if keep_free_pages else ctypes.CDLL("libc.so.6").malloc_trim
        self._ended = threading.Event()

    def run(self) -> None:
        """Takes samples until told to stop."""
        process = psutil.Process()
        while not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
            rows = read_rows(self._workdir)
            if rows:
                self._give_back(0)
                memory = process.memory_info()
                self.samples.append((rows[-1]["step"], (memory.rss - memory.shared) / 2**20))

    def stop(self) -> None:
        """Takes no more samples."""
        self._ended.set()
        self.join()

    def median(self, first: float, stop: float) -> float:
        """Returns the median MiB of the samples of first <= step < stop."""
        return statistics.median(mib for step, mib in self.samples if first <= step < stop)


def main() -> None:
    """The command line; the exit status is 1 if memory grows by 1% or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="where toyfaces was built")
    parser.add_argument("--steps", type=int, default=2000, help="rounded up to whole epochs; default: 2,000")
    parser.add_argument("--cache", default="auto", help="config.data.cache; default: auto")
    parser.add_argument("--keep_free_pages", action="store_true", help="count what the allocator holds free as well")
    flags = parser.parse_args()
    if flags.steps < LEAST_STEPS:
        parser.error(f"--steps is {flags.steps}; allowed: {LEAST_STEPS} or more, for samples in every tenth")
    with tempfile.TemporaryDirectory() as workdir:
        sampler = Sampler(workdir, flags.keep_free_pages)
        sampler.start()
        status = animesion([
            "animesion", f"--config={CONFIG}", f"--config.data_dir={flags.data_dir}", "--config.image_size=32",
            f"--config.data.cache={flags.cache}", f"--config.epochs={-(-flags.steps // STEPS_PER_EPOCH)}",
            f"--workdir={workdir}",
        ])  # fmt: skip
        sampler.stop()
    if status:
        sys.exit(status)
    last = sampler.samples[-1][0]
    print(f"{'steps':<14}{'median MiB':>12}")
    for part in range(10):
        first, stop = last * part // 10, last * (part + 1) // 10
        print(f"{f'{first}-{stop}':<14}{sampler.median(first, stop):>12.1f}")
    growth = sampler.median(last * 0.75, last) / sampler.median(last * 0.25, last * 0.5) - 1
    samples = f"{len(sampler.samples)} samples"
    print(f"\ngrowth after warm-up: {growth:+.2%} (allowed: less than {MOST_GROWTH:.0%}), {samples}")
    sys.exit(growth >= MOST_GROWTH)


if __name__ == "__main__":
    main()
