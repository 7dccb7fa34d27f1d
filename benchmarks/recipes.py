"""Trains the paper's recipe, each newer option alone, and combinations; prints test accuracies, mean ± sd over seeds.

python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes
python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes --models resnet18 --variants paper all --seeds 0
python benchmarks/recipes.py --data_dir=DATA --workdir=runs/recipes --variants optimizer+ema
python benchmarks/recipes.py --table

Each run has a workdir WORKDIR/MODEL-VARIANT-SEED and, when it is done, a line in docs/recipes.jsonl, from which the
tables are made. `train` and `evaluate --weights=last --per_class` do the work. A second start skips runs that have
their line and resumes interrupted ones. Several processes share the work: each takes runs that no other has locked. The
first seed of every variant runs first. The whole study takes days on two cores.
"""

import argparse
import copy
import fcntl
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from animesion_jax.config import flatten, resolve, to_tree
from animesion_jax.configs import dafre_128
from animesion_jax.configs.modern_recipe import MODERN, apply_modern
from animesion_jax.models import family_of

ROOT = Path(__file__).resolve().parent.parent

MODELS = ("resnet18", "vit_s16")
# The fields that the option "optimizer" takes from `recipe=modern`. "rebalancing" takes its second stage.
OPTIMIZER_FIELDS = ("optimizer", "learning_rate", "weight_decay", "schedule", "warmup_epochs")
# Further options, as fields of a config.
OTHERS = {
    # DeiT's, and timm's ResNets'.
    "erasing": {"augment.erasing": 0.25},
    # Zhang et al. recommend 0.1 to 0.4 for images of many classes, Yun et al. 1.
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    # Szegedy et al.
    "label_smoothing": {"label_smoothing": 0.1},
    # Menon et al.: optimal for the mean of the classes' accuracies.
    "logit_adjustment": {"logit_adjustment": 1.0},
    # optim.update_average lowers it in short runs.
    "ema": {"ema_decay": 0.999},
}
# Options that are added to the paper's recipe one at a time.
OPTIONS = ("optimizer", *OTHERS, "rebalancing")
# Named variants; others are options joined by "+". Rebalancing and logit adjustment both balance the classes, so each
# variant has one of them.
COMBINATIONS = {
    "paper": (),
    "all": tuple(name for name in OPTIONS if name != "rebalancing"),
    "all_rebalancing": tuple(name for name in OPTIONS if name != "logit_adjustment"),
}
VARIANTS = ("paper", *OPTIONS, "optimizer+logit_adjustment", "optimizer+rebalancing", "all", "all_rebalancing")
COLUMNS = ("top1_accuracy", "macro_accuracy", "many_shot", "medium_shot", "few_shot")
# Keys of a line in RESULTS besides the accuracies. Lines with other values belong to other studies.
STUDY = ("dataset", "image_size", "batch_size", "epochs")
RUN = ("model", "variant", "seed")
RESULTS = ROOT / "docs" / "recipes.jsonl"


def options_of(variant: str) -> tuple[str, ...]:
    """Returns the names of a variant's options."""
    return COMBINATIONS[variant] if variant in COMBINATIONS else tuple(variant.split("+"))


def known_variant(name: str) -> str:
    """Returns a --variants value; raises ArgumentTypeError if it names an unknown option."""
    unknown = [option for option in options_of(name) if option not in OPTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown variant '{name}'; allowed: {', '.join(COMBINATIONS)}, or {', '.join(OPTIONS)}, joined by '+'"
        )
    return name


def config_argument(model: str, variant: str) -> str:
    """Returns the string after `configs/dafre_128.py:`; it sets the stages."""
    return f"{model},{MODERN}" if "rebalancing" in options_of(variant) else model


def overrides(model: str, variant: str, epochs: int) -> dict[str, Any]:
    """Returns the fields to override in the config of `config_argument`, by dotted name."""
    paper = dafre_128.get_config(model)
    paper.decay_epochs = max(paper.decay_epochs * epochs // paper.epochs, 1)
    paper.epochs = epochs
    modern = copy.deepcopy(paper)
    apply_modern(modern)
    modern = resolve(modern, family_of(model))
    values = flatten(to_tree(paper))
    for option in options_of(variant):
        values |= OTHERS.get(option, {})
        if option == "optimizer":
            values |= {name: modern[name] for name in OPTIMIZER_FIELDS}
    given = flatten(to_tree(dafre_128.get_config(config_argument(model, variant))))
    return {name: value for name, value in values.items() if name != "stages" and value != given[name]}


def run_command(arguments: list[str], log: Path) -> str:
    """Runs `animesion_jax.main` with stderr appended to `log`; returns its stdout."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JAX_COMPILATION_CACHE_DIR": str(log.parent / "compiled"),
    }
    with log.open("a", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "animesion_jax.main", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", check=True
        ).stdout


def train_and_evaluate(workdir: Path, run: dict[str, Any], flags: argparse.Namespace) -> dict[str, Any]:
    """Trains or resumes a run and evaluates it; returns its line of RESULTS."""
    log = workdir.with_name(f"{workdir.name}.log")
    fields = overrides(run["model"], run["variant"], flags.epochs) | {
        "dataset": flags.dataset, "data_dir": str(flags.data_dir.resolve()), "image_size": flags.image_size,
        "crop_margin": flags.image_size // 4, "batch_size": flags.batch_size, "seed": run["seed"],
        # Resuming at the last epoch is enough.
        "checkpoint_every_steps": 0,
        # Fits the 335 test images in two batches and the 153 validation images in one.
        "eval_batch_size": 168,
    }  # fmt: skip
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    config = f"configs/dafre_128.py:{config_argument(run['model'], run['variant'])}"
    run_command([f"--config={config}", *given, f"--workdir={workdir}"], log)
    evaluate = ["evaluate", f"--workdir={workdir}", "--split=test", "--weights=last", "--per_class"]
    evaluation = json.loads(run_command(evaluate, log))
    return run | {column: accuracy(evaluation, column) for column in COLUMNS}


def read_results() -> list[dict[str, Any]]:
    """Returns the lines of RESULTS."""
    return [json.loads(line) for line in RESULTS.read_bytes().splitlines()]


def study_of(flags: argparse.Namespace) -> dict[str, Any]:
    """Returns the values that all runs of a study share."""
    return {name: getattr(flags, name) for name in STUDY}


def train_all(runs: Iterable[tuple[str, str, int]], flags: argparse.Namespace) -> None:
    """Trains the runs that are neither done nor locked by another process; reports and skips those that fail."""
    for model, variant, seed in runs:
        run = study_of(flags) | dict(zip(RUN, (model, variant, seed), strict=True))
        workdir = flags.workdir / f"{model}-{variant}-{seed}"
        # The system releases the lock when the process ends, even if it is killed.
        with workdir.with_name(f"{workdir.name}.lock").open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if any(run.items() <= row.items() for row in read_results()):
                continue
            print(f"training {workdir.name}", file=sys.stderr, flush=True)
            try:
                line = json.dumps(train_and_evaluate(workdir, run, flags))
            except subprocess.CalledProcessError:
                print(f"{workdir.name} failed; see {workdir}.log", file=sys.stderr, flush=True)
                continue
            with RESULTS.open("a", encoding="utf-8") as results:
                results.write(f"{line}\n")


def accuracy(evaluation: dict[str, Any], column: str) -> float | None:
    """Returns an accuracy in percent, rounded to 0.01; None if the group has no class."""
    value = evaluation[column]
    value = value["top1_accuracy"] if isinstance(value, dict) else value
    return None if value is None else round(100 * value, 2)


def cell(values: list[float | None]) -> str:
    """Formats mean ± sample standard deviation over seeds."""
    if None in values:
        return "—"
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def table(rows: list[dict[str, Any]], models: Iterable[str], variants: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a Markdown table per model."""
    for model in models:
        yield f"\n{model}\n\n| variant | {' | '.join(COLUMNS)} | seeds |"
        yield f"|---|{'---:|' * (len(COLUMNS) + 1)}"
        for variant in variants:
            found = [row for row in rows if (row["model"], row["variant"]) == (model, variant)]
            if found:
                cells = [cell([row[column] for row in found]) for column in COLUMNS]
                yield f"| {variant} | {' | '.join(cells)} | {len(found)} |"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="where the data set is built")
    parser.add_argument("--workdir", type=Path, help="folder for the workdirs of all runs")
    parser.add_argument("--dataset", default="dafre/min20", help="default: dafre/min20")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument(
        "--variants", nargs="+", type=known_variant, metavar="VARIANT",
        help=f"{', '.join(COMBINATIONS)}, or some of {', '.join(OPTIONS)} joined by '+'; default: {' '.join(VARIANTS)}",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: 0 1 2")
    parser.add_argument("--epochs", type=int, default=30, help="of the first stage; default: 30")
    parser.add_argument("--image_size", type=int, default=64, help="default: 64")
    parser.add_argument("--batch_size", type=int, default=64, help="default: 64")
    parser.add_argument("--table", action="store_true", help="train nothing; print the tables")
    flags = parser.parse_args()
    if not flags.table:
        if flags.data_dir is None or flags.workdir is None:
            parser.error("give --data_dir and --workdir to train, or --table")
        flags.workdir = flags.workdir.resolve()
        flags.workdir.mkdir(parents=True, exist_ok=True)
        variants = flags.variants or VARIANTS
        train_all(((m, v, seed) for seed in flags.seeds for v in variants for m in flags.models), flags)
    study = study_of(flags)
    rows = [row for row in read_results() if study.items() <= row.items()]
    variants = flags.variants or dict.fromkeys((*VARIANTS, *(row["variant"] for row in rows)))
    print("\n".join(table(rows, flags.models, variants)))


if __name__ == "__main__":
    main()
