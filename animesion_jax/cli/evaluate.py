"""The command `evaluate`."""

import json
from argparse import Namespace
from collections.abc import Sequence

from animesion_jax.cli.flags import add_process_flags, add_run_flags, join_processes, make_parser, use_utf8_output
from animesion_jax.cli.labelled_folder import find_labelled_images
from animesion_jax.errors import InputError, command
from animesion_jax.files import check_output, expand_home, write_whole

# Flags for --workdir only.
OF_A_RUN = ("weights", "split", "data_dir", "distributed")


def main(argv: Sequence[str]) -> int:
    """Evaluates a run or a bundle; prints the metrics as JSON; exit status 1 if a file was unreadable."""
    parser = make_parser(
        "evaluate",
        "Evaluates a run on a whole split of its data set, or a bundle on FOLDER, which holds a folder of images per "
        "character.\n\nImages in other folders count as unknown characters and give the false accept rate.",
        "--workdir=runs/demo/run --split=test --weights=last\n  animesion evaluate --bundle=demo.msgpack folder/",
    )
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="images in folders named after the characters")
    add_run_flags(parser, or_bundle=True)
    parser.add_argument("--split", help="split of the run's data set, or held_out; default: test")
    parser.add_argument("--data_dir", help="folder of the data set; default: the folder used in training")
    parser.add_argument(
        "--per_class", action="store_true", help="write the metrics of every class to a CSV file, and print their means"
    )
    parser.add_argument(
        "--output",
        help="file for --per_class; default for a run: per_class.csv or, for other splits than test, "
        "SPLIT_per_class.csv",
    )
    add_process_flags(parser)
    args = parser.parse_args(argv)
    _check(args)
    join_processes(args)
    use_utf8_output()
    return _evaluate_bundle(args) if args.bundle else _evaluate_run(args)


def _check(args: Namespace) -> None:
    """Raises InputError for an invalid combination of flags."""
    if args.output and not args.per_class:
        raise InputError(f"--output={args.output} is for --per_class; give both")
    if not args.bundle:
        if args.folder:
            raise InputError(f"FOLDER {args.folder} is for --bundle; with --workdir, choose the images by --split")
        return
    for name in OF_A_RUN:
        if value := getattr(args, name):
            raise InputError(f"--{name}{'' if value is True else f'={value}'} is for --workdir, not for --bundle")
    if not args.folder:
        raise InputError(f"--bundle={args.bundle} needs FOLDER, which holds a folder of images per character")
    if args.per_class and not args.output:
        raise InputError("--per_class with --bundle needs --output, such as --output=per_class.csv")


def _evaluate_run(args: Namespace) -> int:
    from animesion_jax import distributed
    from animesion_jax.training.evaluate import evaluate

    result = evaluate(
        args.workdir, args.split or "test", args.weights, args.data_dir, per_class=args.per_class, output=args.output
    )
    distributed.print_once(json.dumps(result, ensure_ascii=False))
    return 0


def _evaluate_bundle(args: Namespace) -> int:
    from animesion_jax.bundle import load_bundle
    from animesion_jax.inference.evaluate import evaluate
    from animesion_jax.metrics import summarize, to_csv

    output = check_output(args.output, "per_class.csv") if args.output else None
    images = find_labelled_images(args.folder, lambda folder: command("evaluate", folder, bundle=args.bundle))
    bundle = load_bundle(args.bundle)
    result, by_class = evaluate(bundle, images)
    if output:
        write_whole(args.output, [to_csv(by_class, bundle.names).encode()])
        result |= {"macro_accuracy": summarize(by_class)["macro_accuracy"], "per_class": str(output)}
    print(json.dumps({"folder": expand_home(args.folder), **result}, ensure_ascii=False))
    return 1 if result["unreadable"] else 0
