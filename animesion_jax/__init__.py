"""Anime character recognition in JAX.

    import animesion_jax

    animesion_jax.train(config, "runs/mine")  # a config of animesion_jax.configs
    animesion_jax.evaluate("runs/mine", "test")
    animesion_jax.export_bundle("runs/mine", "mine.msgpack")
    recognizer = animesion_jax.load("mine.msgpack")
    recognizer.predict("face.png")

| name | does | needs |
|---|---|---|
| `load(file)` | opens a bundle to name, embed and compare images | |
| `create_model(name, num_classes=..., image_size=...)` | makes a model | |
| `train(config, workdir)` | trains a model, or resumes the run in the workdir | the extra [train] |
| `evaluate(workdir, split)` | evaluates a run's model on a split | the extra [train] |
| `export_bundle(workdir, file)` | writes a run's model as a calibrated bundle | the extra [train] |

docs/python.md has an example of each.
"""

import importlib

__version__ = "0.1.0"

# Import on first use, so that `import animesion_jax` and `--help` load neither JAX nor TensorFlow.
_PUBLIC = {
    "load": "animesion_jax.inference.recognizer",
    "create_model": "animesion_jax.models",
    "train": "animesion_jax.library",
    "evaluate": "animesion_jax.training.evaluate",
    "export_bundle": "animesion_jax.library",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'animesion_jax' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        from animesion_jax.errors import missing_extra

        if message := missing_extra(error):
            raise ModuleNotFoundError(message, name=error.name) from None
        raise
