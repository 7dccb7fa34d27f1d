"""Initial parameters of the models, with and without `pytorch_init`."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.models import create_model, init_variables

# (Options, inputs of an output by layer.) Every layer has a hundred outputs or more.
MODELS = {
    "shallownet": (
        {"features": (100, 120), "hidden_size": 140},
        {"Conv_0": 5 * 5 * 3, "Conv_1": 5 * 5 * 100, "Dense_0": 5 * 5 * 120, "head": 140},
    ),
    "resnet18": ({"stage_sizes": (1, 1), "initializer": "xavier"}, {"head": 128}),
    "vit_ti16": ({"num_layers": 1, "hidden_size": 384, "mlp_dim": 8}, {"embedding": 16 * 16 * 3}),
}


@pytest.fixture(scope="module", params=MODELS)
def starts(request):
    """(inputs of an output by layer, ordinary parameters, parameters with `pytorch_init`) of a model."""
    options, inputs = MODELS[request.param]
    each = (
        init_variables(
            create_model(request.param, num_classes=400, image_size=32, pytorch_init=pytorch_init, **options), 32, 0
        )
        for pytorch_init in (False, True)
    )
    return inputs, *(traverse_util.flatten_dict(jax.device_get(one["params"]), sep="/") for one in each)


def test_pytorch_init_is_uniform_within_one_over_the_root_of_the_inputs(starts):
    layers, _, params = starts
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


def test_pytorch_init_changes_no_other_layer(starts):
    layers, ordinary, params = starts
    changed = {name for name in params if not np.array_equal(params[name], ordinary[name])}
    assert changed == {f"{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")}
