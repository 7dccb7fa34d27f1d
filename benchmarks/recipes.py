"""Trains the paper's recipe, every newer option alone, and all of them: prints test accuracies, mean ± sd over seeds.

python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes
python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes --only resnet18 paper modern --seeds 0
python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes --table

Every run is a workdir of its own below WORKDIR, `MODEL-VARIANT-SEED`, trained and evaluated (last weights, --per_class)
by the program's own commands. One that has been evaluated is not done again, one that was interrupted goes on. The
first seed of every variant comes first. Several such processes share the work: each takes runs that no other has.
"""

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
from flax import traverse_util

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for configs, which are no part of the package

from configs import dafre_128  # noqa: E402
from configs.modern_recipe import apply_modern  # noqa: E402

MODELS = ("resnet18", "vit_s16")
# Fields that a variant takes over from the modern recipe; the rest is the paper's.
OPTIONS = {
    "paper": (),
    "optimizer": ("optimizer", "learning_rate", "weight_decay", "schedule", "warmup_epochs"),
    "erasing": ("augment.erasing",),
    "mixup": ("mixup",),
    "cutmix": ("cutmix",),
    "label_smoothing": ("label_smoothing",),
    "logit_adjustment": ("logit_adjustment",),
    "ema": ("ema_decay",),
}
# The second stage is 10 epochs, as in Kang et al. (2020, arXiv:1910.09217), instead of the logit adjustment.
REBALANCED = {"rebalance_epochs": 10, "logit_adjustment": 0.0}
VARIANTS = (*OPTIONS, "rebalancing", "modern", "modern_rebalancing")
COLUMNS = ("top1_accuracy", "macro_accuracy", "many_shot", "medium_shot", "few_shot")
EVALUATION = "evaluation.json"


def flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the fields of a config by dotted name."""
    return traverse_util.flatten_dict(config.to_dict(), sep=".")


def overrides(model: str, variant: str, epochs: int) -> dict[str, Any]:
    """Returns the fields in which a run differs from `configs/dafre_128.py:MODEL`, by dotted name."""
    plain = dafre_128.get_config(model)
    config = plain.copy_and_resolve_references()
    config.decay_epochs = max(plain.decay_epochs * epochs // plain.epochs, 1)
    config.epochs = epochs
    modern = config.copy_and_resolve_references()
    apply_modern(modern)
    if variant in OPTIONS:
        config.update_from_flattened_dict({name: flat(modern)[name] for name in OPTIONS[variant]})
    elif variant != "rebalancing":
        config = modern
    if variant.endswith("rebalancing"):
        config.update_from_flattened_dict(REBALANCED)
    return {name: value for name, value in flat(config).items() if value != flat(plain)[name]}


def run_command(arguments: list[str], log: Path) -> str:
    """Runs `animesion_jax.main` with its messages appended to `log` and returns what it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JAX_COMPILATION_CACHE_DIR": str(log.parent / "compiled"),
    }
    with log.open("a") as errors:
        command = [sys.executable, "-m", "animesion_jax.main", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, check=True
        ).stdout


def train_and_evaluate(workdir: Path, model: str, variant: str, seed: int, flags: argparse.Namespace) -> None:
    """Trains a run, or goes on with it, and writes what `evaluate` prints into its workdir."""
    log = workdir.with_name(f"{workdir.name}.log")
    fields = overrides(model, variant, flags.epochs) | {
        "dataset": flags.dataset, "data_dir": str(flags.data_dir.resolve()), "image_size": flags.image_size,
        "crop_margin": flags.crop_margin, "batch_size": flags.batch_size, "seed": seed,
        # A study has no use for resuming within an epoch.
        "checkpoint_every_steps": 0,
    }  # fmt: skip
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    run_command([f"--config=configs/dafre_128.py:{model}", *given, f"--workdir={workdir}"], log)
    evaluate = ["evaluate", f"--workdir={workdir}", "--split=test", "--weights=last", "--per_class"]
    fresh = workdir / f"{EVALUATION}.tmp"
    fresh.write_text(run_command(evaluate, log))
    fresh.replace(workdir / EVALUATION)


def train_all(runs: Iterable[tuple[str, str, int]], flags: argparse.Namespace) -> None:
    """Trains the runs that are not done and that no other process has taken; one that fails is left out."""
    for model, variant, seed in runs:
        workdir = flags.workdir / f"{model}-{variant}-{seed}"
        # The system lets go of a lock when its process ends, however it ends.
        with workdir.with_name(f"{workdir.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if (workdir / EVALUATION).exists():
                continue
            print(f"training {workdir.name}", file=sys.stderr, flush=True)
            try:
                train_and_evaluate(workdir, model, variant, seed, flags)
            except subprocess.CalledProcessError:
                print(f"{workdir.name} failed; see {workdir}.log", file=sys.stderr, flush=True)


def accuracy(evaluation: dict[str, Any], column: str) -> float | None:
    """Returns an accuracy in percent; None where no class is of a group."""
    value = evaluation[column]
    value = value["top1_accuracy"] if isinstance(value, dict) else value
    return None if value is None else 100 * value


def cell(values: list[float | None]) -> str:
    """Returns mean ± sample standard deviation over seeds."""
    if None in values:
        return "—"
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def table(workdir: Path, models: list[str], variants: list[str]) -> Iterator[str]:
    """Yields the lines of a Markdown table per model, of all seeds that are evaluated."""
    for model in models:
        yield f"\n{model}\n\n| variant | {' | '.join(COLUMNS)} | seeds |"
        yield f"|---|{'---:|' * (len(COLUMNS) + 1)}"
        for variant in variants:
            files = sorted(workdir.glob(f"{model}-{variant}-*/{EVALUATION}"))
            found = [json.loads(file.read_text()) for file in files]
            if found:
                cells = [cell([accuracy(each, column) for each in found]) for column in COLUMNS]
                yield f"| {variant} | {' | '.join(cells)} | {len(found)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="where the data set is built")
    parser.add_argument("--workdir", type=Path, required=True, help="folder for the workdirs of all runs")
    parser.add_argument("--dataset", default="dafre/min20", help="default: dafre/min20")
    parser.add_argument("--only", nargs="+", choices=(*MODELS, *VARIANTS), default=(), help="models and variants")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: 0 1 2")
    parser.add_argument("--epochs", type=int, default=50, help="of every run, before any second stage; default: 50")
    parser.add_argument("--image_size", type=int, default=64, help="default: 64")
    parser.add_argument("--crop_margin", type=int, default=16, help="default: 16")
    parser.add_argument("--batch_size", type=int, default=64, help="default: 64")
    parser.add_argument("--table", action="store_true", help="train nothing, print what there is")
    flags = parser.parse_args()
    flags.workdir = flags.workdir.resolve()
    flags.workdir.mkdir(parents=True, exist_ok=True)
    models = [model for model in MODELS if model in flags.only] or list(MODELS)
    variants = [variant for variant in VARIANTS if variant in flags.only] or list(VARIANTS)
    if not flags.table:
        train_all(((m, v, seed) for seed in flags.seeds for v in variants for m in models), flags)
    print("\n".join(table(flags.workdir, models, variants)))


if __name__ == "__main__":
    main()
