"""The result tables of the DAF:re paper (arXiv:2101.08674): test accuracy of the last weights, in percent."""

from dataclasses import dataclass

# The paper's short names by model.
SHORT_NAMES = {
    "shallownet": "SN",
    "resnet18": "R-18",
    "resnet152": "R-152",
    "vit_b16": "B-16",
    "vit_b32": "B-32",
    "vit_l16": "L-16",
    "vit_l32": "L-32",
}

# Models of which the paper fine-tuned the classifier alone; it trained pretrained ViTs whole.
HEAD_ONLY = ("resnet18", "resnet152")

# TFDS names of the data sets that the paper used.
DATASETS = {"dafre": "dafre/released", "moeimouto": "moeimouto/kaggle"}

# Config fields that reproduce accidents of the paper's runs, and their differences from Google's ViT.
FAITHFUL = {
    "eval_mode_after_epochs": 1, "shallownet.initializer": "pytorch", "vit.embedding_initializer": "pytorch",
    "vit.gelu": "erf", "vit.dropout_places": "animesion",
}  # fmt: skip
# The same by data set: moeimouto has no validation split; the paper validated on its test split.
FAITHFUL_SPLITS = {"moeimouto": {"held_out": 0.0, "validation_split": "test"}}


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
      number: the table's number in the paper.
      config: the name of the config that trains its rows.
      dataset: a key of `DATASETS`, the name of the data set without its builder config.
      num_classes: number of classes of the data set.
      image_size: side of the model's input in pixels.
      batch_size, epochs: of the training.
      decay_epochs: epochs between divisions of the learning rate by 3.
      rows: (top-1, top-5) in percent by (model, pretrained).
    """

    number: int
    config: str
    dataset: str
    num_classes: int
    image_size: int
    batch_size: int
    epochs: int
    decay_epochs: int
    rows: dict[tuple[str, bool], tuple[float, float]]


DAFRE_128 = Table(
    number=1, config="dafre_128", dataset="dafre", num_classes=3263, image_size=128,
    batch_size=64, epochs=50, decay_epochs=20,
    rows={
        ("resnet18", False): (69.09, 84.64), ("resnet18", True): (26.47, 45.30),
        ("resnet152", False): (64.36, 81.20), ("resnet152", True): (26.49, 44.88),
        ("vit_b16", False): (63.30, 78.58), ("vit_b16", True): (82.14, 92.77),
        ("vit_b32", False): (51.09, 71.30), ("vit_b32", True): (75.42, 89.22),
        ("vit_l16", False): (59.39, 77.91), ("vit_l16", True): (85.95, 94.23),
        ("vit_l32", False): (51.81, 71.81), ("vit_l32", True): (75.88, 89.39),
    },
)  # fmt: skip
MOEIMOUTO_128 = Table(
    number=2, config="moeimouto_128", dataset="moeimouto", num_classes=173, image_size=128,
    batch_size=64, epochs=200, decay_epochs=50,
    rows={
        ("resnet18", False): (72.58, 90.86), ("resnet18", True): (61.20, 83.83),
        ("resnet152", False): (63.17, 86.41), ("resnet152", True): (63.06, 85.90),
        ("vit_b16", False): (67.28, 82.22), ("vit_b16", True): (91.57, 98.06),
        ("vit_b32", False): (48.76, 78.19), ("vit_b32", True): (85.76, 96.81),
        ("vit_l16", False): (66.56, 87.43), ("vit_l16", True): (92.80, 98.44),
        ("vit_l32", False): (49.88, 78.36), ("vit_l32", True): (85.22, 96.94),
    },
)  # fmt: skip
DAFRE_224 = Table(
    number=3, config="dafre_224", dataset="dafre", num_classes=3263, image_size=224,
    batch_size=1024, epochs=200, decay_epochs=50,
    rows={
        ("shallownet", False): (53.68, 72.04),
        ("resnet18", False): (68.30, 84.01), ("resnet18", True): (24.31, 39.82),
        ("vit_b32", False): (38.19, 59.06), ("vit_b32", True): (59.92, 79.20),
    },
)  # fmt: skip
MOEIMOUTO_224 = Table(
    number=4, config="moeimouto_224", dataset="moeimouto", num_classes=173, image_size=224,
    batch_size=1024, epochs=200, decay_epochs=50,
    rows={
        ("shallownet", False): (57.49, 80.43),
        ("resnet18", False): (60.41, 84.20), ("resnet18", True): (34.08, 58.95),
        ("vit_b32", False): (9.17, 20.12), ("vit_b32", True): (24.69, 54.03),
    },
)  # fmt: skip
TABLES = (DAFRE_128, MOEIMOUTO_128, DAFRE_224, MOEIMOUTO_224)
