"""Anime character recognition in JAX.

`load(path)` opens a bundle for prediction, `create_model(name, num_classes=..., image_size=...)` makes a model, and
`train(config, workdir)` trains one.
"""

import importlib

__version__ = "0.1.0"

# Import on first use, so that `import animesion_jax` and `--help` load neither JAX nor TensorFlow.
_PUBLIC = {
    "load": "animesion_jax.inference.recognizer",
    "create_model": "animesion_jax.models",
    "train": "animesion_jax.training.train",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'animesion_jax' has no attribute '{name}'")
