import jax
import numpy as np
import optax
import pytest

from animesion_jax import hosts, optim, steps
from animesion_jax.errors import InputError
from animesion_jax.models import create_model, init_variables
from configs import common

RNG = np.random.default_rng(0)
OPTIONS = {
    "shallownet": {},
    "resnet18": {"stage_sizes": (1, 1)},
    "vit_ti16": {"num_layers": 1, "hidden_size": 24, "mlp_dim": 32, "dropout_rate": 0.1},
}


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


def _on(devices, state):
    """Puts the state where training does: from elsewhere, the second step would be compiled anew."""
    return jax.device_put(state, hosts.replicated(devices))


def _train(name, devices, batches, config=None, train_mode=True):
    config = config or _config()
    model = create_model(name, num_classes=6, image_size=32, axis_name=steps.AXIS, **OPTIONS[name])
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    state = _on(devices, steps.create_state(init_variables(model, 32, 0), optimizer))
    step = steps.make_train_step(model, optimizer, config, devices, train_mode=train_mode)
    sums = []
    for batch in steps.on_devices(batches, devices):
        state, each = step(state, batch)
        sums.append(jax.device_get(each))
    return jax.device_get(state), sums, model


# The transformer, dropout included: in the test of accumulation, and with eight devices among the slow ones.
@pytest.mark.parametrize("name", ["shallownet", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_one_and_four_devices_give_the_same_run(name):
    batches = _batches(5)
    one, one_sums, model = _train(name, jax.local_devices()[:1], batches)
    four, four_sums, _ = _train(name, jax.local_devices(), batches)
    assert int(one.step) == int(four.step) == 5
    start = init_variables(model, 32, 0)
    for kind in ("params", "batch_stats"):
        # By array, for a unit whose sign hangs on rounding moves single numbers, more or fewer by machine. Where each
        # device takes its own statistics, the usual array is 30% and more of what it moved away.
        for a, b, before in zip(
            *(jax.tree.leaves(each) for each in (getattr(one, kind), getattr(four, kind), start[kind])), strict=True
        ):
            assert np.linalg.norm(a - b) <= 0.05 * np.linalg.norm(a - before) + 1e-5
    for a, b in zip(one_sums, four_sums, strict=True):
        assert a["examples"] == b["examples"] == 16
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)


@pytest.mark.slow
def test_accumulating_four_parts_on_two_devices_gives_the_same_update():
    """Augmentation and dropout included; the models without batch statistics."""
    config = _config()
    batches = _batches(3)
    whole, whole_sums, _ = _train("vit_ti16", jax.local_devices()[:1], batches, config)
    config.grad_accumulation = 4
    parts, parts_sums, _ = _train("vit_ti16", jax.local_devices()[:2], batches, config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), whole, parts)
    for a, b in zip(whole_sums, parts_sums, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), a, b)
    # Every place in the batch draws for itself: other places, other crops and colours.
    reversed_batches = [{name: array[::-1] for name, array in batch.items()} for batch in batches]
    _, reversed_sums, _ = _train("vit_ti16", jax.local_devices()[:2], reversed_batches, config)
    assert abs(reversed_sums[1]["loss"] - parts_sums[1]["loss"]) > 1e-4 * parts_sums[1]["loss"]


def _without_augmentation(config):
    config.augment.flip, config.crop_margin = 0.0, 0
    for name in ("brightness", "contrast", "saturation", "hue"):
        config.augment[name] = 0.0
    return config


def test_each_accumulated_part_has_its_own_batch_statistics():
    """What differs for BatchNorm: the running averages take in the statistics of one part after the other."""
    config = _without_augmentation(_config())
    config.grad_accumulation, config.learning_rate = 4, 1e-9
    batch = _batches(1)[0]
    batch["image"] = batch["image"][:, :32, :32]
    state, _, model = _train("shallownet", jax.local_devices()[:1], [batch], config)
    images = (batch["image"] / 255.0 - 0.5) / 0.5
    _, seen = model.apply(
        init_variables(model, 32, 0), images, capture_intermediates=lambda module, _: module.name == "Conv_0"
    )
    convolved = np.float64(seen["intermediates"]["Conv_0"]["__call__"][0])
    mean, variance = 0.0, 1.0
    for part in np.split(convolved, 4):
        mean = 0.9 * mean + 0.1 * part.mean((0, 1, 2))
        variance = 0.9 * variance + 0.1 * part.var((0, 1, 2))
    np.testing.assert_allclose(state.batch_stats["BatchNorm_0"]["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.batch_stats["BatchNorm_0"]["var"], variance, rtol=1e-4)


def test_in_evaluation_mode_a_step_is_gradient_descent_on_the_evaluated_loss():
    """No dropout, BatchNorm on its running statistics, which stay as they are."""
    config = _without_augmentation(_config())
    batch = _batches(1)[0]
    batch["image"] = batch["image"][:, :32, :32]
    state, _, model = _train("shallownet", jax.local_devices(), [batch], config, train_mode=False)
    before = init_variables(model, 32, 0)
    images = np.float32((batch["image"] / 255.0 - 0.5) / 0.5)

    def loss(params):
        logits = model.apply({**before, "params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    expected = jax.tree.map(
        lambda w, g: w - config.learning_rate * g, before["params"], jax.jit(jax.grad(loss))(before["params"])
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, expected)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, before["batch_stats"])


def test_a_step_moves_the_parameters_against_the_gradient_and_learns():
    batch = _batches(1)
    _, sums, _ = _train("shallownet", jax.local_devices()[:1], batch * 30)
    assert sums[-1]["loss"] < 0.7 * sums[0]["loss"]


def _count_convolutions(function, *arguments) -> int:
    return str(jax.make_jaxpr(function)(*arguments)).count("conv_general_dilated[")


def test_a_frozen_body_gets_no_gradient_no_optimizer_state_and_keeps_its_statistics():
    config = _config()
    _without_augmentation(config).trainable = "head"
    model = create_model("resnet18", num_classes=6, image_size=32, axis_name=steps.AXIS, **OPTIONS["resnet18"])
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    devices = jax.local_devices()
    state = _on(devices, steps.create_state(init_variables(model, 32, 0), optimizer, "head"))
    before = jax.device_get(state)
    batch = {**_batches(1)[0], "image": RNG.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)}
    (put,) = steps.on_devices([batch], devices)
    step = steps.make_train_step(model, optimizer, config, devices)
    images = np.float32((batch["image"] / 255.0 - 0.5) / 0.5)
    forward = _count_convolutions(model.apply, state.variables, images)
    assert _count_convolutions(step, state, put) == forward == 6
    moments = {leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim}
    assert moments == {(128, 6), (6,)}

    _, captured = model.apply(state.variables, images, capture_intermediates=lambda m, _: m.name == "Dropout_0")
    features = np.float64(captured["intermediates"]["Dropout_0"]["__call__"][0])
    after, _ = step(state, put)
    after = jax.device_get(after)
    # Softmax regression on the body's features, one step in float64.
    head = jax.tree.map(np.float64, before.params["head"])
    logits = features @ head["kernel"] + head["bias"]
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(6)[batch["label"]]
    expected = head["kernel"] - config.learning_rate * features.T @ errors / 16
    np.testing.assert_allclose(after.params["head"]["kernel"], expected, rtol=1e-5, atol=1e-6)
    for name in before.params.keys() - {"head"}:
        jax.tree.map(np.testing.assert_array_equal, after.params[name], before.params[name])
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, before.batch_stats)


def test_a_frozen_body_of_a_faithful_run_begins_in_training_mode():
    """As the paper's pretrained ResNets did: nothing but their running statistics moves in the first epoch."""
    config = _without_augmentation(_config())
    config.trainable, config.eval_mode_after_epochs = "head", 1
    model = create_model("resnet18", num_classes=6, image_size=32, axis_name=steps.AXIS, **OPTIONS["resnet18"])
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    devices = jax.local_devices()
    for train_mode in (True, False):
        state = _on(devices, steps.create_state(init_variables(model, 32, 0), optimizer, "head"))
        before = jax.device_get(state)
        step = steps.make_train_step(model, optimizer, config, devices, train_mode=train_mode)
        batch = {**_batches(1)[0], "image": RNG.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)}
        after, _ = step(state, next(steps.on_devices([batch], devices)))
        after = jax.device_get(after)
        jax.tree.map(np.testing.assert_array_equal, after.params["layer1_0"], before.params["layer1_0"])
        moved = [
            not np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(after.batch_stats), jax.tree.leaves(before.batch_stats), strict=True)
        ]
        assert all(moved) if train_mode else not any(moved)


def test_the_batch_must_divide_among_devices_and_parts():
    steps.check_batch_size("batch_size", 64, 4, 16)
    with pytest.raises(
        InputError, match=r"96 does not divide among 4 devices x 16 parts .*; allowed: a multiple of 64"
    ):
        steps.check_batch_size("batch_size", 96, 4, 16)


def test_eval_step_ignores_padding_and_uses_running_statistics():
    config = _config()
    model = create_model("shallownet", num_classes=6, image_size=32)
    variables = init_variables(model, 32, 0)
    batch = _batches(1)[0]
    images = batch["image"][:, :32, :32]
    expected = (
        np.asarray(jax.jit(model.apply)(variables, (images / 255.0 - 0.5) / 0.5)).argmax(-1)[:11] == batch["label"][:11]
    )
    padded = {**batch, "image": images, "mask": (np.arange(16) < 11).astype(np.float32)}
    for devices in (jax.local_devices()[:1], jax.local_devices()):
        (put,) = steps.on_devices([padded], devices)
        sums = steps.make_eval_step(model, config, devices)(variables, put)
        assert (float(sums["examples"]), float(sums["top1_accuracy"])) == (11, expected.sum())


def test_classify_step_gives_every_example_in_order():
    config = _config()
    model = create_model("shallownet", num_classes=6, image_size=32)
    variables = init_variables(model, 32, 0)
    batch = _batches(1)[0]
    batch["image"] = batch["image"][:, :32, :32]
    logits = np.asarray(jax.jit(model.apply)(variables, np.float32((batch["image"] / 255.0 - 0.5) / 0.5)))
    order = np.argsort(-logits, axis=1)
    assert len(set(order[:, 0])) > 1
    for devices in (jax.local_devices()[:1], jax.local_devices()):
        (put,) = steps.on_devices([batch], devices)
        sums, each = jax.device_get(steps.make_classify_step(model, config, devices)(variables, put))
        assert sums["top1_accuracy"] == np.sum(order[:, 0] == batch["label"])
        np.testing.assert_array_equal(each["label"], batch["label"])
        np.testing.assert_array_equal(each["predicted"], order[:, 0])
        np.testing.assert_array_equal(each["rank"], np.argmax(order == batch["label"][:, None], axis=1))
