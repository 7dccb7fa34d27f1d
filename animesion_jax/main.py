"""The entry of every command: `python -m animesion_jax.main [COMMAND] ...`, or `animesion [COMMAND] ...`."""

import contextlib
import errno
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from animesion_jax.command_line import (
    add_host_flags,
    add_run_flags,
    asks_for_help,
    hosts_of,
    load_config,
    parser_of,
)
from animesion_jax.errors import InputError, first_line
from animesion_jax.predictions import WRITERS
from animesion_jax.preemption import Preemption, Stopped

log = logging.getLogger("animesion_jax")
# What the system says of a disk without room for more.
FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str]) -> int:
    """Runs a command and returns the exit status; what the user can mend becomes one line on stderr."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    # Orbax logs the traceback of what it raises as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    arguments = list(argv[1:])
    named = arguments and not arguments[0].startswith("-")
    command = arguments.pop(0) if named else "train"
    try:
        if command not in COMMANDS:
            raise InputError(f"unknown command '{command}'; allowed: {', '.join(COMMANDS)}")
        return COMMANDS[command](arguments)
    except InputError as error:
        print(f"animesion {command}: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"animesion {command}: {stopped}", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print(f"animesion {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, a pager) has left: not an error, but nothing can be flushed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if not error.filename and error.errno not in FULL:
            raise
        # A path that is a file instead of a folder, cannot be written, or is gone; or a disk without room.
        where = f"{error.filename}: " if error.filename else ""
        mend = "make room" if error.errno in FULL else "check the path and its permissions"
        print(f"animesion {command}: error: {where}{error.strerror}; {mend}, and try again", file=sys.stderr)
        return 2
    except Exception as error:
        # Of gs:// paths, which TensorFlow's file system reads; naming its type would import it.
        if not type(error).__module__.startswith("tensorflow.python.framework.errors"):
            raise
        print(
            f"animesion {command}: error: {first_line(error)}; check the address, the network and the credentials, and "
            "try again",
            file=sys.stderr,
        )
        return 2


def run() -> None:
    """The console script `animesion`."""
    sys.exit(main(sys.argv))


def hide_accelerators_from_tensorflow() -> None:
    """Keeps TensorFlow, which only reads data here, from taking the GPU's memory or the TPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_native_stderr():
        import tensorflow as tf

        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)


@contextlib.contextmanager
def silent_native_stderr() -> Iterator[None]:
    """Swallows what native code writes to stderr inside the block; it is printed after all if the block raises.

    TensorFlow's C++ reports missing CUDA libraries in lines that no log level of its own suppresses.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as swallowed:
        os.dup2(swallowed.fileno(), 2)
        try:
            yield
        except Exception:
            swallowed.seek(0)
            os.write(kept, swallowed.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def print_once(text: str) -> None:
    """Prints at the first of the processes of a run."""
    from animesion_jax import hosts

    if hosts.is_first():
        print(text)


def train_command(arguments: Sequence[str]) -> int:
    """Trains; prints the test metrics as JSON."""
    if asks_for_help(arguments, "train", COMMANDS):
        return 0
    given = load_config(arguments)
    if "grid" in given.config:
        raise InputError("the config has a grid of runs; train them with: python -m animesion_jax.main sweep ...")
    with Preemption(many_processes=given.hosts.distributed) as preemption:
        hide_accelerators_from_tensorflow()
        given.hosts.join()
        from animesion_jax.train import train

        results = train(given.config, given.workdir, accept_changes=given.accept_changes, preemption=preemption)
    print_once(json.dumps(results))
    return 0


def sweep_command(arguments: Sequence[str]) -> int:
    """Trains the runs of a grid; prints their outcomes as JSON; exit status 1 when a run failed."""
    if asks_for_help(arguments, "sweep", COMMANDS):
        return 0
    given = load_config(arguments, "sweep")
    if "grid" not in given.config:
        raise InputError("the config has no grid; allowed: one with base and grid, such as configs/sweep_size.py")
    with Preemption(many_processes=given.hosts.distributed) as preemption:
        hide_accelerators_from_tensorflow()
        given.hosts.join()
        from animesion_jax.sweep import sweep

        outcomes = sweep(given.config, given.workdir, accept_changes=given.accept_changes, preemption=preemption)
    print_once(json.dumps(outcomes, indent=2))
    return 1 if any(outcome["status"] == "failed" for outcome in outcomes) else 0


def evaluate_command(arguments: Sequence[str]) -> int:
    """Prints one JSON object with a run's metrics on a split."""
    parser = parser_of(
        "evaluate", "Evaluates a run on a whole split.", "--workdir=runs/demo --split=test --weights=last"
    )
    add_run_flags(parser)
    parser.add_argument("--split", default="test", help="split of the data set, or held_out; default: test")
    parser.add_argument("--data_dir", help="where the data set is built now; default: where it was in training")
    parser.add_argument(
        "--per_class", action="store_true", help="also write per_class.csv and print means over classes"
    )
    parser.add_argument(
        "--output", help="file that --per_class writes; default: per_class.csv in the workdir, or SPLIT_per_class.csv"
    )
    add_host_flags(parser)
    flags = parser.parse_args(arguments)
    if flags.output and not flags.per_class:
        raise InputError(f"--output={flags.output} is for --per_class; give both")
    hide_accelerators_from_tensorflow()
    hosts_of(flags).join()
    from animesion_jax.evaluate import evaluate

    result = evaluate(
        flags.workdir, flags.split, flags.weights, flags.data_dir, per_class=flags.per_class, output=flags.output
    )
    print_once(json.dumps(result))
    return 0


def export_command(arguments: Sequence[str]) -> int:
    """Writes a model with its preprocessing and class names."""
    parser = parser_of(
        "export",
        "Writes a model, its preprocessing and its class names as one file: a bundle (msgpack), which predict reads, "
        "ONNX for other runtimes, or safetensors for torchvision and timm.",
        "--workdir=runs/demo --output=demo.msgpack",
    )
    add_run_flags(parser, or_bundle=True)
    parser.add_argument("--output", required=True, help="file to write; local or gs://")
    parser.add_argument(
        "--format",
        choices=("msgpack", "onnx", "safetensors"),
        default="msgpack",
        help="onnx needs the extra [onnx]; default: msgpack",
    )
    parser.add_argument(
        "--preprocessing",
        choices=("inside", "outside"),
        help="where onnx normalises: inside takes uint8 pixels, outside normalised floats; default: outside",
    )
    flags = parser.parse_args(arguments)
    from animesion_jax.conversion import convert

    files = convert(flags.output, flags.format, flags.workdir, flags.weights, flags.bundle, flags.preprocessing)
    for path in files:
        print(f"wrote {path} ({path.stat().length / 1e6:.1f} MB)")
    return 0


def predict_command(arguments: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "predict", "Names the characters on images.", "--bundle=demo.msgpack --format=json face.jpg folder/"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched for images")
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--format", choices=tuple(WRITERS), default="table", help="default: table")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    flags = parser.parse_args(arguments)
    from tqdm import tqdm

    from animesion_jax.predict import find_images, load, predict_files

    files = find_images(flags.images)
    recognizer = load(flags.bundle, min(flags.batch_size, len(files)))
    results = predict_files(recognizer, files, flags.top_k)
    rows = list(tqdm(results, total=len(files), unit="img", desc="predicting", disable=None, leave=False))
    # A name may have bytes that are no text, and the terminal's encoding may lack letters: no reason to print nothing.
    sys.stdout.reconfigure(errors="backslashreplace")
    WRITERS[flags.format](rows)
    return 1 if any("error" in row for row in rows) else 0


def explain_command(arguments: Sequence[str]) -> int:
    """Writes pictures of what the model looked at; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "explain",
        "Writes IMAGE.explained.png: the image under a map of what the model went by, attention rollout of a "
        "transformer, Grad-CAM of a ResNet or ShallowNet. Prints a JSON line for each.",
        "--bundle=demo.msgpack --output=explained/ face.jpg folder/",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched for images")
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--output", help="folder to write to; default: beside each image")
    parser.add_argument("--class_name", help="character that Grad-CAM is for; default: the likeliest of each image")
    flags = parser.parse_args(arguments)
    from animesion_jax.explain import Explainer, explain_files
    from animesion_jax.export import load_bundle
    from animesion_jax.predict import find_images

    explainer = Explainer(load_bundle(flags.bundle))
    failed = False
    sys.stdout.reconfigure(errors="backslashreplace")
    for row in explain_files(explainer, find_images(flags.images), flags.class_name, flags.output):
        failed = failed or "error" in row
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return 1 if failed else 0


def figures_command(arguments: Sequence[str]) -> int:
    """Writes a data set's figures and prints its statistics as JSON."""
    parser = parser_of(
        "figures",
        "Writes samples.png, histogram.png and statistics.json of a built data set, and prints the statistics.",
        "--dataset=toyfaces --data_dir=runs/demo/data --output=figures/",
    )
    parser.add_argument("--dataset", required=True, help="TFDS name, such as dafre/released")
    parser.add_argument("--data_dir", required=True, help="where the data set is built; local or gs://")
    parser.add_argument("--output", required=True, help="folder to write to; local or gs://")
    flags = parser.parse_args(arguments)
    hide_accelerators_from_tensorflow()
    from animesion_jax.figures import make_figures

    print(json.dumps(make_figures(flags.dataset, flags.data_dir, flags.output), indent=2))
    return 0


def report_command(arguments: Sequence[str]) -> int:
    """Prints the Markdown of a report and writes it with its CSV, JSON and pictures."""
    parser = parser_of(
        "report",
        "Sets training runs beside the paper's tables: mean and standard deviation over seeds, and curves.",
        "runs/* --output=report",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="workdir, or a folder with workdirs below it")
    parser.add_argument("--output", default="report", help="folder to write into; local or gs://; default: report")
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        default="last",
        help="last (what the paper's tables report), or best by validation top-1; default: last",
    )
    flags = parser.parse_args(arguments)
    from animesion_jax.report import report

    print(report(flags.runs, flags.output, flags.weights), end="")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train_command,
    "sweep": sweep_command,
    "evaluate": evaluate_command,
    "export": export_command,
    "predict": predict_command,
    "explain": explain_command,
    "figures": figures_command,
    "report": report_command,
}

if __name__ == "__main__":
    run()
