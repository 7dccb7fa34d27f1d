"""Initial parameters of the models, in ordinary and in faithful runs."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.models import create_model, init_variables

# (Sizes, option of faithful runs, fan-in by layer.) Every layer has a hundred outputs or more.
MODELS = {
    "shallownet": (
        {"features": (100, 120), "hidden_size": 140},
        {"initializer": "pytorch"},
        {"Conv_0": 5 * 5 * 3, "Conv_1": 5 * 5 * 100, "Dense_0": 5 * 5 * 120, "head": 140},
    ),
    "resnet18": ({"stage_sizes": (1, 1)}, {"initializer": "xavier"}, {"head": 128}),
    "vit_ti16": (
        {"num_layers": 1, "hidden_size": 384, "mlp_dim": 8},
        {"embedding_initializer": "pytorch"},
        {"embedding": 16 * 16 * 3},
    ),
}


def _init_params(name, **options):
    model = create_model(name, num_classes=400, image_size=32, **options)
    return traverse_util.flatten_dict(jax.device_get(init_variables(model, 32, 0)["params"]), sep="/")


@pytest.mark.parametrize("name", MODELS)
def test_layers_have_pytorchs_default_in_a_faithful_run(name):
    sizes, option, layers = MODELS[name]
    params = _init_params(name, **sizes, **option)
    for layer, inputs in layers.items():
        for leaf in ("kernel", "bias"):
            values, bound = params[f"{layer}/{leaf}"].ravel(), np.float32(inputs**-0.5)
            # A gap of this width above all values has a chance of exp(-12).
            reached = bound * (1 - 24 / values.size)
            assert reached < values.max() <= bound and reached < -values.min() <= bound, layer
            # Five standard errors: a uniform variable has the deviation bound / sqrt(3) and the kurtosis 9 / 5.
            deviation, root = bound / np.sqrt(3), np.sqrt(values.size)
            assert abs(values.mean(dtype=np.float64)) < 5 * deviation / root, layer
            assert values.std(dtype=np.float64) == pytest.approx(deviation, rel=5 * np.sqrt(0.2) / root), layer
            # A quarter lies in each quarter of the range.
            counts, _ = np.histogram(values, bins=4, range=(-bound, bound))
            assert np.abs(counts / values.size - 0.25).max() < 5 * np.sqrt(3 / 16) / root, layer


@pytest.mark.parametrize("name", ["shallownet", "vit_ti16"])
def test_pytorchs_default_changes_no_other_layer(name):
    sizes, option, layers = MODELS[name]
    ordinary, faithful = _init_params(name, **sizes), _init_params(name, **sizes, **option)
    changed = {name for name in ordinary if not np.array_equal(faithful[name], ordinary[name])}
    assert changed == {f"{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")}
