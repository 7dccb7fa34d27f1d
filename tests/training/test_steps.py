import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from animesion_jax import config as configs
from animesion_jax import distributed
from animesion_jax.configs import common
from animesion_jax.distributed import AXIS
from animesion_jax.errors import InputError
from animesion_jax.models import FAMILIES, create_model, init_variables
from animesion_jax.training import optim, steps
from animesion_jax.training.device_data import on_devices
from animesion_jax.training.losses import Loss, make_loss
from animesion_jax.training.mixup import mix
from animesion_jax.training.stages import make_stages
from animesion_jax.training.state import create_state

RNG = np.random.default_rng(0)
OPTIONS = {
    "shallownet": {},
    "resnet18": {"stage_sizes": (1, 1)},
    "vit_ti16": {"num_layers": 1, "hidden_size": 24, "mlp_dim": 32, "dropout_rate": 0.1},
    "beit_b16": {"num_layers": 2, "hidden_size": 24, "num_heads": 3, "mlp_dim": 32, "dropout_rate": 0.5},
    "eva02_b14": {"num_layers": 2, "hidden_size": 24, "num_heads": 3, "mlp_dim": 32, "dropout_rate": 0.5},
}


def _config(name="shallownet"):
    config = configs.resolve(common.get_config(), FAMILIES["shallownet"])
    config.image_size = 28 if name == "eva02_b14" else 32
    config.crop_margin, config.learning_rate = 40 - config.image_size, 0.01
    return config


def make_batches(count):
    # A generator of its own: the batches must not depend on other tests.
    draw = np.random.default_rng(1)
    return [
        {
            "image": draw.integers(0, 256, (16, 40, 40, 3), dtype=np.uint8),
            "label": draw.integers(0, 6, 16, dtype=np.int32),
            "mask": np.ones(16, np.float32),
        }
        for _ in range(count)
    ]


def _small_batch():
    """Returns a batch without a margin to crop, and its normalised images."""
    batch = make_batches(1)[0]
    batch["image"] = batch["image"][:, :32, :32]
    return batch, np.float32((batch["image"] / 255.0 - 0.5) / 0.5)


def _on(devices, state):
    """Returns the state on the devices, placed as in training; otherwise the second step would compile again."""
    return jax.device_put(state, distributed.replicated(devices))


def train_steps(name, devices, batches, config=None, train_mode=True):
    config = config or _config(name)
    model = create_model(name, num_classes=6, image_size=config.image_size, axis_name=AXIS, **OPTIONS[name])
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    variables = init_variables(model, config.image_size, 0)
    state = _on(devices, create_state(variables, optimizer, averaged=config.ema_decay > 0))
    step = steps.make_train_step(model, optimizer, config, Loss(config.label_smoothing), devices, train_mode=train_mode)
    sums = []
    for batch in on_devices(batches, devices):
        state, each = step(state, batch)
        sums.append(jax.device_get(each))
    return jax.device_get(state), sums, model


def _modern(config):
    """Returns a config with every option; the batch's 16 examples are 8 pairs."""
    config.augment.erasing, config.mixup, config.cutmix, config.label_smoothing = 0.5, 0.4, 1.0, 0.1
    config.ema_decay, config.weight_decay = 0.9, 0.01
    return config


# Another test covers the transformer and dropout: test_train_step_is_the_same_in_four_parts_on_two_devices.
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("shallownet", _modern),
        pytest.param("shallownet", lambda config: config, marks=pytest.mark.slow),
        pytest.param("resnet18", lambda config: config, marks=pytest.mark.slow),
    ],
    ids=["shallownet-modern", "shallownet", "resnet18"],
)
def test_train_step_is_the_same_on_one_and_four_devices(name, recipe):
    batches = make_batches(5)
    one, one_sums, model = train_steps(name, jax.local_devices()[:1], batches, recipe(_config()))
    four, four_sums, _ = train_steps(name, jax.local_devices(), batches, recipe(_config()))
    assert int(one.step) == int(four.step) == 5
    start = init_variables(model, 32, 0)
    for kind in ("params", "batch_stats"):
        # Compare norms of arrays: rounding flips the sign of some ReLU inputs and so moves single numbers. With
        # separate BatchNorm statistics on each device, most arrays would differ by 30% or more of their change.
        for a, b, before in zip(
            *(jax.tree.leaves(each) for each in (getattr(one, kind), getattr(four, kind), start[kind])), strict=True
        ):
            assert np.linalg.norm(a - b) <= 0.05 * np.linalg.norm(a - before) + 1e-5
    if one.average:
        for a, b in zip(jax.tree.leaves(one.average), jax.tree.leaves(four.average), strict=True):
            np.testing.assert_allclose(a, b, rtol=0.05, atol=2e-3)
    for a, b in zip(one_sums, four_sums, strict=True):
        assert a["examples"] == b["examples"] == 16
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("beit_b16", lambda config: config),
        pytest.param("eva02_b14", lambda config: config, marks=pytest.mark.slow),
        pytest.param("vit_ti16", lambda config: config, marks=pytest.mark.slow),
        pytest.param("vit_ti16", _modern, marks=pytest.mark.slow),
    ],
    ids=["stochastic depth", "rotation", "paper", "modern"],
)
def test_train_step_is_the_same_in_four_parts_on_two_devices(name, recipe):
    """Covers augmentation, dropout and stochastic depth, for models without batch statistics."""
    config = recipe(_config(name))
    batches = make_batches(3)
    whole, whole_sums, _ = train_steps(name, jax.local_devices()[:1], batches, config)
    config.grad_accumulation = 4
    parts, parts_sums, _ = train_steps(name, jax.local_devices()[:2], batches, config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), whole, parts)
    for a, b in zip(whole_sums, parts_sums, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), a, b)
    # Random numbers depend on the place in the batch: a reversed batch gets other crops and colours.
    reversed_batches = [{name: array[::-1] for name, array in batch.items()} for batch in batches]
    other, _, _ = train_steps(name, jax.local_devices()[:2], reversed_batches, config)
    # The classifiers started at zero, so they equal the sum of three updates.
    heads = [state.params["head"]["kernel"] for state in (whole, parts, other)]
    accumulated, reordered = (np.linalg.norm(head - heads[1]) / np.linalg.norm(heads[1]) for head in heads[::2])
    assert accumulated < 0.01 and reordered > 0.05, (accumulated, reordered)


def _without_augmentation(config):
    config.augment.flip, config.crop_margin = 0.0, 0
    for name in ("brightness", "contrast", "saturation", "hue"):
        config.augment[name] = 0.0
    return config


def test_accumulation_updates_batch_statistics_once_per_part():
    """BatchNorm's running averages take in the statistics of one part after the other."""
    config = _without_augmentation(_config())
    config.grad_accumulation, config.learning_rate = 4, 1e-9
    batch, images = _small_batch()
    state, _, model = train_steps("shallownet", jax.local_devices()[:1], [batch], config)
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


def test_evaluation_mode_step_descends_the_evaluated_loss():
    """There is no dropout, and BatchNorm uses its running statistics without changing them."""
    config = _without_augmentation(_config())
    batch, images = _small_batch()
    state, _, model = train_steps("shallownet", jax.local_devices(), [batch], config, train_mode=False)
    before = init_variables(model, 32, 0)

    def loss(params):
        logits = model.apply({**before, "params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    expected = jax.tree.map(
        lambda w, g: w - config.learning_rate * g, before["params"], jax.jit(jax.grad(loss))(before["params"])
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, expected)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, before["batch_stats"])


def _count_convolutions(function, *arguments) -> int:
    return str(jax.make_jaxpr(function)(*arguments)).count("conv_general_dilated[")


def _frozen_resnet(config, train_mode=True):
    """Returns a ResNet, its step on all devices that trains the classifier alone, and the state before it."""
    _without_augmentation(config).trainable = "head"
    model = create_model("resnet18", num_classes=6, image_size=32, axis_name=AXIS, **OPTIONS["resnet18"])
    optimizer, devices = optim.make_optimizer(config, optim.make_schedule(config, 100)), jax.local_devices()
    state = _on(devices, create_state(init_variables(model, 32, 0), optimizer, "head"))
    return model, steps.make_train_step(model, optimizer, config, Loss(), devices, train_mode=train_mode), state


def test_frozen_body_has_no_gradient_no_optimizer_state_and_constant_statistics():
    config = _config()
    model, step, state = _frozen_resnet(config)
    before = jax.device_get(state)
    batch, images = _small_batch()
    (put,) = on_devices([batch], jax.local_devices())
    forward = _count_convolutions(model.apply, state.variables, images)
    # The kernel of one pixel is a matrix product.
    assert _count_convolutions(step, state, put) == forward == 5
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


def test_frozen_body_of_a_faithful_run_begins_in_training_mode():
    """As in the paper's pretrained ResNets: only the running statistics move in the first epoch."""
    config = _config()
    config.eval_mode_after_epochs = 1
    for train_mode in (True, False):
        _, step, state = _frozen_resnet(config, train_mode)
        before = jax.device_get(state)
        after, _ = jax.device_get(step(state, next(on_devices([_small_batch()[0]], jax.local_devices()))))
        jax.tree.map(np.testing.assert_array_equal, after.params["layer1_0"], before.params["layer1_0"])
        moved = [
            not np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(after.batch_stats), jax.tree.leaves(before.batch_stats), strict=True)
        ]
        assert all(moved) if train_mode else not any(moved)


class Linear(nn.Module):
    """Softmax regression on the pixels, which can be followed by hand."""

    @nn.compact
    def __call__(self, images, train=False, positions=None):
        return nn.Dense(6, name="head")(images.reshape(len(images), -1))


def test_mixed_step_descends_the_loss_of_mixed_labels():
    """With smoothing and logit adjustment; accuracies count the label with the larger share."""
    config = _without_augmentation(_config())
    config.image_size, config.mixup, config.cutmix, config.ema_decay = 4, 1.0, 1.0, 0.9
    config.label_smoothing, config.logit_adjustment = 0.1, 1.0
    counts = np.asarray([9, 1, 4, 2, 7, 3])
    images = RNG.integers(0, 256, (16, 4, 4, 3), dtype=np.uint8)
    labels = np.tile(np.arange(6, dtype=np.int32), 3)[:16]
    model, optimizer = Linear(), optim.make_optimizer(config, optim.make_schedule(config, 100))
    variables = {"params": {"head": {"kernel": RNG.normal(0, 0.1, (48, 6)).astype(np.float32), "bias": np.zeros(6)}}}
    variables = jax.tree.map(jnp.float32, variables)
    kernel = np.float64(variables["params"]["head"]["kernel"])

    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), 2), np.arange(8)
    )
    mixed, shares = (np.float64(each) for each in mix(keys, jnp.float32(images / 255), 1.0, 1.0))
    pixels = ((mixed - 0.5) / 0.5).reshape(16, -1)
    assert shares.min() < 0.4 < 0.6 < shares.max() and not np.isclose(mixed, images / 255).all()
    own, other = np.eye(6)[labels], np.eye(6)[labels.reshape(8, 2)[:, ::-1].ravel()]
    targets = 0.9 * (shares[:, None] * own + (1 - shares[:, None]) * other) + 0.1 / 6
    logits = pixels @ kernel
    adjusted = np.exp(logits + np.log(counts / counts.sum()))
    probabilities = adjusted / adjusted.sum(1, keepdims=True)
    expected = kernel - config.learning_rate * pixels.T @ (probabilities - targets) / 16
    larger = np.where(shares >= 0.5, labels, labels.reshape(8, 2)[:, ::-1].ravel())

    state = _on(jax.local_devices(), create_state(variables, optimizer, averaged=True))
    step = steps.make_train_step(model, optimizer, config, make_loss(config, counts), jax.local_devices())
    batch = {"image": images, "label": labels, "mask": np.ones(16, np.float32)}
    state, sums = jax.device_get(step(state, next(on_devices([batch], jax.local_devices()))))
    np.testing.assert_allclose(state.params["head"]["kernel"], expected, rtol=1e-4, atol=1e-6)
    # After one update, the average has 1/10 of the initial weights.
    averaged = state.evaluated["params"]["head"]["kernel"]
    np.testing.assert_allclose(averaged, 0.1 * kernel + 0.9 * expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums["loss"], -(targets * np.log(probabilities)).sum(), rtol=1e-4)
    assert sums["top1_accuracy"] == (logits.argmax(1) == larger).sum() and sums["examples"] == 16


@pytest.mark.parametrize("ema_decay", [0.9, pytest.param(0.0, marks=pytest.mark.slow)])
def test_second_stage_trains_the_classifier_of_the_evaluated_weights_by_the_balanced_loss(ema_decay):
    """The first stage has AdamW, momentum and weight decay; the second SGD on the averages, followed in float64."""
    config = common.get_config()
    config.image_size, config.crop_margin = 32, 0
    _without_augmentation(config)
    config.optimizer, config.weight_decay, config.ema_decay, config.mixup = "adamw", 0.1, ema_decay, 0.2
    # A frozen body may begin in training mode, but not in the second stage.
    config.epochs, config.learning_rate, config.eval_mode_after_epochs = 1, 1e-3, 1
    second = configs.stage(
        epochs=1, trainable="head", class_weights="balanced", optimizer="sgd", learning_rate=0.01, schedule="cosine",
        warmup_epochs=0.0, weight_decay=0.0, mixup=0.0, ema_decay=0.0,
    )  # fmt: skip
    config.stages = (configs.stage(), second)
    counts = np.asarray([9, 1, 4, 2, 7, 3])
    model = create_model("shallownet", num_classes=6, image_size=32, axis_name=AXIS, dropout_rate=0.5)
    devices = jax.local_devices()[:1]
    stages = make_stages(configs.stage_configs(config, FAMILIES["shallownet"]), model, devices, 3, lambda: counts)
    assert [(stage.first_step, stage.last_step) for stage in stages] == [(0, 3), (3, 6)]
    state = stages[0].begin(init_variables(model, 32, 0))
    batches = [each | {"image": each["image"][:, :32, :32]} for each in make_batches(5)]
    put = list(on_devices(batches, devices))
    for step in range(3):
        state, _ = stages[0].train_step(step)(state, put[step])
    before = jax.device_get(state)
    assert not ema_decay or not np.array_equal(
        before.evaluated["params"]["head"]["kernel"], before.params["head"]["kernel"]
    )
    state = stages[1].begin(state.evaluated)

    head, velocity = np.float64(before.evaluated["params"]["head"]["kernel"]), 0.0
    bias, bias_velocity = np.float64(before.evaluated["params"]["head"]["bias"]), 0.0
    weights = counts.sum() / (6 * counts)
    for number, batch in enumerate(batches[3:]):
        images = np.float32((batch["image"] / 255.0 - 0.5) / 0.5)
        _, seen = model.apply(before.evaluated, images, capture_intermediates=lambda m, _: m.name == "Dropout_0")
        features = np.float64(seen["intermediates"]["Dropout_0"]["__call__"][0])
        logits = features @ head + bias
        log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        errors = weights[batch["label"]][:, None] * (np.exp(log_probabilities) - np.eye(6)[batch["label"]]) / 16
        velocity, bias_velocity = 0.9 * velocity + features.T @ errors, 0.9 * bias_velocity + errors.sum(0)
        rate = 0.01 * 0.5 * (1 + np.cos(np.pi * number / 3))
        assert stages[1].learning_rate(3 + number) == pytest.approx(rate, rel=1e-6)
        head, bias = head - rate * velocity, bias - rate * bias_velocity
        state, sums = stages[1].train_step(3 + number)(state, put[3 + number])
        expected_loss = -(weights * np.eye(6))[batch["label"]] * log_probabilities
        np.testing.assert_allclose(sums["loss"], expected_loss.sum(), rtol=1e-4)
    after = jax.device_get(state)
    assert int(after.step) == 5 and after.average is None
    assert np.abs(head - before.evaluated["params"]["head"]["kernel"]).max() > 3e-3
    np.testing.assert_allclose(after.params["head"]["kernel"], head, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.params["head"]["bias"], bias, rtol=1e-4, atol=1e-5)
    for kind in ("params", "batch_stats"):
        for name in before.evaluated[kind].keys() - {"head"}:
            jax.tree.map(np.testing.assert_array_equal, after.evaluated[kind][name], before.evaluated[kind][name])


def test_check_batch_size_needs_equal_parts_and_whole_pairs_on_every_device():
    config = _config()
    config.batch_size, config.grad_accumulation = 24, 2
    steps.check_train_batch(config, 4)
    with pytest.raises(InputError, match=r"24 does not divide among 16 devices x 2 parts .*: a multiple of 32"):
        steps.check_train_batch(config, 16)
    config.cutmix = 1.0
    with pytest.raises(InputError, match=r"24 .* x 2 parts \(grad_accumulation\) x pairs .*: a multiple of 16"):
        steps.check_train_batch(config, 4)


@pytest.mark.parametrize("examples", [11, 16])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_eval_step_sums_unmasked_examples_and_returns_all_in_order(examples, num_devices):
    model = create_model("shallownet", num_classes=6, image_size=32)
    variables = init_variables(model, 32, 0)
    batch, images = _small_batch()
    order = np.argsort(-np.asarray(jax.jit(model.apply)(variables, images)), axis=1)
    assert len(set(order[:, 0])) > 1
    devices = jax.local_devices()[:num_devices]
    (put,) = on_devices([batch | {"mask": np.float32(np.arange(16) < examples)}], devices)
    sums, each = jax.device_get(steps.make_eval_step(model, _config(), devices)(variables, put))
    correct = (order[:, 0] == batch["label"])[:examples].sum()
    assert (float(sums["examples"]), float(sums["top1_accuracy"])) == (examples, correct)
    np.testing.assert_array_equal(each["label"], batch["label"])
    np.testing.assert_array_equal(each["predicted"], order[:, 0])
    np.testing.assert_array_equal(each["rank"], np.argmax(order == batch["label"][:, None], axis=1))
