"""Trains for 2,000 steps and samples the process's memory; prints it by step, and its growth after warm-up.

python benchmarks/soak.py --data_dir=runs/demo/data

The run trains ShallowNet on toyfaces, with an evaluation and a checkpoint after each of 91 epochs of 22 steps. Growth
is the median of the last quarter of the steps over the median of the second quarter; the first is warm-up.

"resident" is anonymous resident memory; pages of libraries do not count. glibc uses one heap for all threads and
returns free pages before each sample. With its defaults it keeps about 200 MiB of the compilations for hundreds of
steps. "allocated" is the heap's memory in use. Python's small objects count only as resident.
"""

import argparse
import ctypes
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

LIBC = ctypes.CDLL("libc.so.6")
M_ARENA_MAX = -8  # malloc.h
# Set it before an import starts threads.
LIBC.mallopt(M_ARENA_MAX, 1)

import psutil  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the package, if it is not installed

from animesion_jax.main import main as animesion  # noqa: E402
from animesion_jax.workdir.rows import read_rows  # noqa: E402

STEPS_PER_EPOCH = 22
SECONDS_BETWEEN_SAMPLES = 0.25
MAX_GROWTH = 0.01
MIN_STEPS = 1000


class Mallinfo(ctypes.Structure):
    """The result of glibc's mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


LIBC.mallinfo2.restype = Mallinfo


class Sample(NamedTuple):
    """Memory in MiB, and the last step in metrics.jsonl at that time."""

    step: int
    resident: float
    allocated: float


class Sampler(threading.Thread):
    """Samples this process's memory once metrics.jsonl has a row."""

    def __init__(self, workdir: str):
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._workdir = workdir
        self._ended = threading.Event()

    def run(self) -> None:
        """Samples until `stop` is called."""
        process = psutil.Process()
        while not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
            rows = read_rows(self._workdir)
            if rows:
                LIBC.malloc_trim(0)
                memory, heap = process.memory_info(), LIBC.mallinfo2()
                sizes = (memory.rss - memory.shared, heap.uordblks + heap.hblkhd)
                self.samples.append(Sample(rows[-1]["step"], *(size / 2**20 for size in sizes)))

    def stop(self) -> None:
        """Stops sampling."""
        self._ended.set()
        self.join()

    def medians(self, first: float, stop: float) -> Sample:
        """Returns the medians of the samples of first <= step < stop."""
        chosen = [sample for sample in self.samples if first <= sample.step < stop]
        return Sample(*map(statistics.median, zip(*chosen, strict=True)))


def main() -> None:
    """Runs the command line; the exit status is 1 if resident memory grows by 1% or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="where toyfaces was built")
    parser.add_argument("--steps", type=int, default=2000, help="rounded up to whole epochs; default: 2,000")
    flags = parser.parse_args()
    if flags.steps < MIN_STEPS:
        parser.error(f"--steps is {flags.steps}; allowed: {MIN_STEPS} or more, so that each tenth has samples")
    with tempfile.TemporaryDirectory() as workdir:
        sampler = Sampler(workdir)
        sampler.start()
        status = animesion([
            "animesion", "--config=common", "--config.dataset=toyfaces", f"--config.data_dir={flags.data_dir}",
            "--config.image_size=32",
            f"--config.epochs={-(-flags.steps // STEPS_PER_EPOCH)}", f"--workdir={workdir}",
        ])  # fmt: skip
        sampler.stop()
    if status:
        sys.exit(status)
    last = sampler.samples[-1].step
    print(f"{'steps':<14}{'resident MiB':>14}{'allocated MiB':>16}")
    for part in range(10):
        first, stop = last * part // 10, last * (part + 1) // 10
        medians = sampler.medians(first, stop)
        print(f"{f'{first}-{stop}':<14}{medians.resident:>14.1f}{medians.allocated:>16.1f}")
    second, fourth = sampler.medians(last * 0.25, last * 0.5), sampler.medians(last * 0.75, last)
    growth, allocated = (fourth[column] / second[column] - 1 for column in (1, 2))
    print(f"{'growth':<14}{growth:>+14.2%}{allocated:>+16.2%}")
    print(f"allowed: resident less than {MAX_GROWTH:.0%}; {len(sampler.samples)} samples")
    sys.exit(growth >= MAX_GROWTH)


if __name__ == "__main__":
    main()
