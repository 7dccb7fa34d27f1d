"""Package definition of animesion_jax; tool settings live in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "animesion_jax" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
).group(1)

setup(
    name="animesion-jax",
    version=VERSION,
    description="Anime character recognition in JAX: the DAF:re data sets, models and training recipe.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["animesion_jax*", "tfds_builders*"]),
    package_data={"tfds_builders": ["*/*.md", "*/*.bib", "*/*.txt"]},
    # TensorFlow 2.21 has no wheels for a newer Python.
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.3,<3",
        "clu>=0.0.12,<0.1",
        "etils[epath]>=1.13,<2",
        # JAX needs it to keep its compilation cache within a size.
        "filelock>=3.16,<5",
        "flax>=0.12.5,<0.13",
        "huggingface_hub>=1.16,<3",
        "jax>=0.10,<0.11",
        "matplotlib>=3.10,<4",
        "ml-collections>=1.1,<2",
        "msgpack>=1.1,<2",
        "numpy>=2.0,<3",
        "optax>=0.2.6,<0.3",
        "orbax-checkpoint>=0.12,<0.13",
        "pillow>=12.0,<13",
        "psutil>=7.0,<8",
        "safetensors>=0.6,<1",
        "scipy>=1.15,<2",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        "tqdm>=4.67,<5",
        # clu.metric_writers imports tensorboard, which TensorFlow no longer brings.
        "tensorboard>=2.20,<3",
        # The `tfds` command imports these three at start-up.
        "apache-beam>=2.70,<3",
        "importlib_resources>=6.5,<8",
        "mlcroissant>=1.1,<2",
    ],
    extras_require={
        "serve": ["gradio>=6.31,<7"],
        "heic": ["pillow-heif>=1.1,<2"],
        "parquet": ["pyarrow>=22,<26"],
        "cuda": ["jax[cuda13]>=0.10,<0.11"],
        "tpu": ["jax[tpu]>=0.10,<0.11"],
        "onnx": ["onnx>=1.19,<2"],
        "test": [
            # tfds.testing imports it.
            "dill>=0.3.8,<1",
            "hypothesis>=6.150,<7",
            "import-linter>=2.9,<3",
            "onnx>=1.19,<2",
            "onnxruntime>=1.23,<2",
            # What the extra [heic] has.
            "pillow-heif>=1.1,<2",
            "pytest>=9.0,<10",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.15,<0.18",
            "scikit-learn>=1.7,<2",
            "selenium>=4.40,<5",
            # What the extra [serve] has, and the page's tests with it.
            "gradio>=6.31,<7",
        ],
    },
    entry_points={"console_scripts": ["animesion = animesion_jax.main:run"]},
)
