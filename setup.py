"""Package definition of animesion_jax; tool settings live in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "animesion_jax" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
).group(1)

# For prediction: no TensorFlow, no data sets, no plots.
BASE = [
    "etils[epath]>=1.13",
    # JAX needs it to keep its compilation cache within a size.
    "filelock>=3.16",
    "flax>=0.12.5",
    "huggingface_hub>=1.16",
    "jax>=0.10",
    "msgpack>=1.1",
    "numpy>=2.0",
    "pillow>=12.1.1",
    "safetensors>=0.6.1",
    "scipy>=1.15",
    "tqdm>=4.67",
]
TRAIN = [
    "absl-py>=2.3",
    "clu>=0.0.12",
    "matplotlib>=3.10",
    "ml-collections>=1.1",
    "optax>=0.2.6",
    # Before 0.12.3, several processes cannot save without JAX's preemption service.
    "orbax-checkpoint>=0.12.3",
    "psutil>=7.0",
    "tensorflow>=2.21",
    "tensorflow-datasets>=4.9.10",
    # clu.metric_writers imports tensorboard, which TensorFlow no longer brings.
    "tensorboard>=2.20",
    # The `tfds` command imports these three at start-up.
    "apache-beam>=2.72",
    "importlib_resources>=6.5",
    "mlcroissant>=1.1",
]
# Before 1.24, it reads a model's data from outside the folder of the model's file.
ONNX_RUNTIME = "onnxruntime>=1.24.1"
EXTRAS = {
    # OpenCV 5 has no cascades. The first 4.10 does not run with NumPy 2.
    "detect": [ONNX_RUNTIME, "opencv-python-headless>=4.11,<5"],
    "gcs": ["gcsfs>=2025.5"],
    "heic": ["pillow-heif>=1.1"],
    "onnx": ["onnx>=1.19", ONNX_RUNTIME],
    "parquet": ["pyarrow>=22"],
    "serve": ["gradio>=6.31"],
    "train": TRAIN,
}
ALL = [requirement for extra in EXTRAS.values() for requirement in extra]

setup(
    name="animesion-jax",
    version=VERSION,
    description="Anime character recognition in JAX: the DAF:re data sets, models and training recipe.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["animesion_jax*", "tfds_builders*"]), "animesion_jax.configs"],
    # A top-level package named `configs` could clash with another one.
    package_dir={"animesion_jax.configs": "configs"},
    package_data={"tfds_builders": ["*/*.md", "*/*.bib", "*/*.txt"]},
    # TensorFlow 2.21 has no wheels for a newer Python.
    python_requires=">=3.11,<3.14",
    install_requires=BASE,
    extras_require={
        **EXTRAS,
        "all": ALL,
        "cuda": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "test": [
            *ALL,
            # tfds.testing imports it.
            "dill>=0.3.8",
            "hypothesis>=6.150",
            "import-linter>=2.9",
            "ipykernel>=7.0",
            "markdown-it-py>=3.0",
            "nbclient>=0.10.2",
            "nbformat>=5.10",
            "pytest>=9.0",
            "pytest-xdist>=3.8",
            "ruff>=0.15",
            "scikit-learn>=1.7",
            "selenium>=4.40",
        ],
    },
    entry_points={"console_scripts": ["animesion = animesion_jax.main:run"]},
)
