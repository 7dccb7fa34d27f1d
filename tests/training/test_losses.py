import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.configs import common
from animesion_jax.training.losses import Loss, balanced_weights, make_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 4)).astype(np.float32)
LABELS, OTHERS = np.asarray([0, 3, 1, 1, 2]), np.asarray([2, 3, 0, 1, 0])
COUNTS = np.asarray([40, 10, 5, 45])

# P(x, y) of five possible images of three classes, of which the last is rare: rows by image.
JOINT = np.asarray([[0.3, 0.05, 0.01], [0.2, 0.05, 0.01], [0.1, 0.1, 0.01], [0.02, 0.08, 0.02], [0.01, 0.02, 0.02]])
JOINT = JOINT / JOINT.sum()


def _config(**fields):
    config = common.get_config()
    config.update(fields)
    return config


def _log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_loss_matches_the_formula_in_float64(smoothing, tau):
    loss = make_loss(_config(label_smoothing=smoothing, logit_adjustment=tau), COUNTS)
    log_p = _log_softmax(np.float64(LOGITS) + tau * np.log(COUNTS / 100))
    of_label, of_other = log_p[np.arange(5), LABELS], log_p[np.arange(5), OTHERS]
    expected = -((1 - smoothing) * of_label + smoothing * log_p.mean(1))
    np.testing.assert_allclose(loss(LOGITS, LABELS), expected, rtol=1e-5)
    shares = np.asarray([0.5, 0.9, 1.0, 0.7, 0.6], np.float32)
    mixed = -((1 - smoothing) * (shares * of_label + (1 - shares) * of_other) + smoothing * log_p.mean(1))
    np.testing.assert_allclose(loss(LOGITS, LABELS, OTHERS, shares), mixed, rtol=1e-5)


def test_balanced_weights_give_every_class_the_same_total_weight():
    weights = balanced_weights(COUNTS)
    np.testing.assert_allclose(weights, [100 / 160, 100 / 40, 100 / 20, 100 / 180], rtol=1e-6)
    np.testing.assert_allclose(weights * COUNTS, 25.0, rtol=1e-6)
    plain = -_log_softmax(np.float64(LOGITS))[np.arange(5), LABELS]
    np.testing.assert_allclose(
        make_loss(_config(class_weights="balanced"), COUNTS)(LOGITS, LABELS), weights[LABELS] * plain, rtol=1e-5
    )


def _slope(loss, logits):
    """Returns the largest gradient of the expected loss on `JOINT` by the logits of every image."""
    images, labels = (each.ravel() for each in np.indices(JOINT.shape))

    def expected_loss(logits):
        return (JOINT.ravel() * loss(logits[images], labels)).sum()

    return np.abs(jax.grad(expected_loss)(jnp.asarray(logits, jnp.float32))).max()


@pytest.mark.parametrize("remedy", ["logit adjustment", "balanced weights"])
def test_remedies_are_minimal_at_the_balanced_classifier(remedy):
    """The remedies are minimal at log P(x | y), best by the mean of the classes' accuracies; the plain loss is at
    log P(y | x).
    """
    counts = JOINT.sum(0) * 1000
    loss = {
        "logit adjustment": make_loss(_config(logit_adjustment=1.0), counts),
        "balanced weights": make_loss(_config(class_weights="balanced"), counts),
    }[remedy]
    balanced, plain = np.log(JOINT / JOINT.sum(0)), np.log(JOINT / JOINT.sum(1, keepdims=True))
    assert _slope(loss, balanced) < 1e-6 < 1e-3 < _slope(loss, plain)
    assert _slope(Loss(), plain) < 1e-6 < 1e-3 < _slope(Loss(), balanced)
    # The two classifiers differ.
    assert (balanced.argmax(1) != plain.argmax(1)).any()
