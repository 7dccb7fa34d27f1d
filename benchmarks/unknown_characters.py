"""Prints how well a bundle separates unknown characters from known ones, and how well a few images enrol them.

python benchmarks/unknown_characters.py split --dataset=toyfaces --data_dir=DATA --held_out=10 --output=faces
animesion --config=folder:shallownet --config.folder=faces/known --workdir=RUN
animesion export --workdir=RUN --output=known.msgpack
python benchmarks/unknown_characters.py measure --bundle=known.msgpack faces

`split` holds characters out, chosen by a fixed seed, and writes a built data set's images as files:
OUTPUT/known/SPLIT/CHARACTER for training, OUTPUT/unknown/SPLIT/CHARACTER for the held-out characters. `measure` prints,
for the test images, the AUROC of the largest probability (known against unknown) and the error rates at the bundle's
threshold. It then enrols all unknown characters at once from 1, 5 and 10 training images each and prints the
accuracies before and after, mean ± standard deviation over draws of the images.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import roc_auc_score

from animesion_jax.bundle import Bundle, Enrolled, load_bundle
from animesion_jax.images import find_images
from animesion_jax.inference.batches import apply_to_files
from animesion_jax.inference.forward import apply_to_pixels, character_logits
from animesion_jax.inference.sort_images import folder_name

SEED = 0
MIN_IMAGES = 20
SHOTS = (0, 1, 5, 10)
DRAWS = 10
BATCH_SIZE = 64


def split(flags: argparse.Namespace) -> None:
    """Writes the images of a data set: held-out characters below unknown/, all others below known/."""
    import tensorflow_datasets as tfds

    from animesion_jax.data.datasets import load_dataset

    dataset = load_dataset(flags.dataset, flags.data_dir)
    examples = {name: dataset.examples(name) for name in dataset.builder.info.splits}
    counts = np.bincount(examples["train"].labels(), minlength=len(dataset.class_names))
    order = np.random.default_rng(SEED).permutation(len(counts))
    held_out = set([class_id for class_id in order if counts[class_id] >= MIN_IMAGES][: flags.held_out])
    for name, each in examples.items():
        for number, record in enumerate(tfds.as_numpy(each.records(0, each.num_examples))):
            kind = "unknown" if record["label"] in held_out else "known"
            folder = flags.output / kind / name / folder_name(dataset.class_names[record["label"]])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:06d}.jpg").write_bytes(record["image"])
    print(f"held out: {', '.join(sorted(dataset.class_names[class_id] for class_id in held_out))}")


def measure(flags: argparse.Namespace) -> None:
    """Prints the tables."""
    bundle = load_bundle(flags.bundle)
    known, unknown = (outputs(bundle, flags.folder / kind) for kind in ("known", "unknown"))
    tests = (unknown["test"], known["test"])
    confidences = [probabilities(bundle, each).max(1) for each in reversed(tests)]
    truth = np.repeat([1, 0], [len(each) for each in confidences])
    calibration = bundle.calibration
    print("| known | unknown | test images | top-1 of known | AUROC | false accepts expected | seen | false rejects |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {len(bundle.classes)} | {len(set(unknown['train'].names))} | {len(confidences[0])} + {len(confidences[1])} "
        f"| {100 * right(bundle, known['test']).mean():.1f} "
        f"| {roc_auc_score(truth, np.concatenate(confidences)):.3f} | {100 * calibration.false_accept_rate:.1f} "
        f"| {100 * np.mean(confidences[1] >= calibration.threshold):.1f} "
        f"| {100 * np.mean(confidences[0] < calibration.threshold):.1f} |"
    )
    print("\n| images each | top-1 of unknown | top-1 of known | mean over all characters |")
    print("|---:|---:|---:|---:|")
    for shots in SHOTS:
        rows = []
        for draw in range(DRAWS if shots else 1):
            extended = enrolled(bundle, unknown["train"], shots, draw) if shots else bundle
            rights = [right(extended, each) for each in tests]
            by_character = [
                hits[each.names == name].mean()
                for each, hits in zip(tests, rights, strict=True)
                for name in np.unique(each.names)
            ]
            rows.append([100 * np.mean(values) for values in (*rights, by_character)])
        cells = [f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(np.mean(rows, 0), np.std(rows, 0), strict=True)]
        print(f"| {shots} | {' | '.join(cells)} |")


class Part(NamedTuple):
    """Outputs for n images: (n, classes) logits, (n, features) embeddings, and the (n,) folder names."""

    logits: np.ndarray
    embeddings: np.ndarray
    names: np.ndarray


def outputs(bundle: Bundle, folder: Path) -> dict[str, Part]:
    """Returns by split the outputs of a bundle's model for the images below FOLDER/SPLIT/CHARACTER."""
    files = find_images([str(folder)])
    variables = jax.device_put(bundle.variables)
    forward = jax.jit(lambda images: jnp.concatenate(apply_to_pixels(bundle, variables, images), axis=-1))
    rows = np.stack([row for _, row in apply_to_files(forward, files, bundle.image_size, bundle.fit, BATCH_SIZE)])
    splits = np.asarray([file.parent.parent.name for file in files])
    names = np.asarray([file.parent.name for file in files])
    num_classes = len(bundle.classes)
    return {
        split: Part(rows[splits == split, :num_classes], rows[splits == split, num_classes:], names[splits == split])
        for split in ("train", "test")
    }


def probabilities(bundle: Bundle, part: Part) -> np.ndarray:
    """Returns the (n, characters) probabilities, as `predict` reports them."""
    return np.asarray(jax.nn.softmax(character_logits(bundle, part.logits, part.embeddings)))


def right(bundle: Bundle, part: Part) -> np.ndarray:
    """Returns (n,) bools: whether the likeliest character is the true one."""
    names = np.asarray([folder_name(name) for name in bundle.classes] + list(bundle.names[len(bundle.classes) :]))
    return names[probabilities(bundle, part).argmax(1)] == part.names


def enrolled(bundle: Bundle, unknown: Part, shots: int, draw: int) -> Bundle:
    """Enrols every unknown character from `shots` images, under its folder's name; returns the new bundle."""
    random = np.random.default_rng((SEED, draw))
    names, means = sorted(set(unknown.names)), []
    for name in names:
        places = random.permutation(np.flatnonzero(unknown.names == name))[:shots]
        mean = unknown.embeddings[places].sum(0)
        means.append(mean / np.linalg.norm(mean))
    return dataclasses.replace(bundle, enrolled=Enrolled(tuple(names), np.stack(means), (shots,) * len(names)))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    splitting = commands.add_parser("split")
    splitting.add_argument("--dataset", required=True)
    splitting.add_argument("--data_dir", required=True)
    splitting.add_argument("--held_out", type=int, required=True, help="number of characters to hold out")
    splitting.add_argument("--output", type=Path, required=True)
    splitting.set_defaults(run=split)
    measuring = commands.add_parser("measure")
    measuring.add_argument("folder", type=Path, help="the output of split")
    measuring.add_argument("--bundle", required=True)
    measuring.set_defaults(run=measure)
    flags = parser.parse_args()
    flags.run(flags)


if __name__ == "__main__":
    main()
