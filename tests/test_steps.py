import jax
import numpy as np
import pytest

from animesion_jax import optim, steps
from animesion_jax.models import create_model, init_variables
from configs import common

RNG = np.random.default_rng(0)
OPTIONS = {"shallownet": {}, "vit_ti16": {"num_layers": 2, "hidden_size": 24, "mlp_dim": 32, "dropout_rate": 0.1}}


def _config():
    config = common.get_config()
    config.image_size, config.crop_margin, config.learning_rate = 32, 8, 0.01
    return config


def _batches(count):
    return [
        {
            "image": RNG.integers(0, 256, (16, 40, 40, 3), dtype=np.uint8),
            "label": RNG.integers(0, 6, 16, dtype=np.int32),
            "mask": np.ones(16, np.float32),
        }
        for _ in range(count)
    ]


def _train(name, devices, batches):
    config = _config()
    model = create_model(name, num_classes=6, image_size=32, axis_name=steps.AXIS, **OPTIONS[name])
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    state = steps.create_state(init_variables(model, 32, 0), optimizer)
    step = steps.make_train_step(model, optimizer, config, devices)
    sums = []
    for batch in steps.on_devices(batches, devices):
        state, each = step(state, batch)
        sums.append(jax.device_get(each))
    return jax.device_get(state), sums, model


@pytest.mark.parametrize("name", OPTIONS)
def test_one_and_four_devices_give_the_same_run(name):
    batches = _batches(5)
    one, one_sums, _ = _train(name, jax.local_devices()[:1], batches)
    four, four_sums, _ = _train(name, jax.local_devices(), batches)
    assert int(one.step) == int(four.step) == 5
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    for a, b in zip(one_sums, four_sums, strict=True):
        assert a["examples"] == b["examples"] == 16
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)


def test_a_step_moves_the_parameters_against_the_gradient_and_learns():
    batch = _batches(1)
    _, sums, _ = _train("shallownet", jax.local_devices()[:1], batch * 30)
    assert sums[-1]["loss"] < 0.7 * sums[0]["loss"]


def test_eval_step_ignores_padding_and_uses_running_statistics():
    config = _config()
    model = create_model("shallownet", num_classes=6, image_size=32)
    variables = init_variables(model, 32, 0)
    batch = _batches(1)[0]
    images = batch["image"][:, :32, :32]
    expected = np.asarray(model.apply(variables, (images / 255.0 - 0.5) / 0.5)).argmax(-1)[:11] == batch["label"][:11]
    padded = {**batch, "image": images, "mask": (np.arange(16) < 11).astype(np.float32)}
    for devices in (jax.local_devices()[:1], jax.local_devices()):
        (put,) = steps.on_devices([padded], devices)
        sums = steps.make_eval_step(model, config, devices)(variables, put)
        assert (float(sums["examples"]), float(sums["top1_accuracy"])) == (11, expected.sum())
