import jax.numpy as jnp
import numpy as np

from animesion_jax.metrics import finalize, metric_sums


def test_sums_match_float64_numpy_and_ignore_padding():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 12)).astype(np.float32) * 3
    labels = rng.integers(0, 12, 40)
    mask = (np.arange(40) < 33).astype(np.float32)
    logits[35] = np.nan
    result = finalize({k: float(v) for k, v in metric_sums(jnp.asarray(logits), jnp.asarray(labels), mask).items()})
    x = logits[:33].astype(np.float64)
    loss = np.log(np.exp(x).sum(1)) - x[np.arange(33), labels[:33]]
    top5 = np.argsort(-x, axis=1)[:, :5]
    assert abs(result["loss"] - loss.mean()) < 1e-5
    assert np.isclose(result["top1_accuracy"], (x.argmax(1) == labels[:33]).mean(), rtol=1e-6)
    assert np.isclose(result["top5_accuracy"], (top5 == labels[:33, None]).any(1).mean(), rtol=1e-6)


def test_ties_go_to_the_lower_class_and_nan_counts_as_wrong():
    logits = jnp.asarray([[1.0, 1, 1, 1, 1, 1, 1]] * 3 + [[jnp.nan] * 7])
    sums = metric_sums(logits, jnp.asarray([0, 4, 5, 0]), jnp.ones(4))
    assert (float(sums["top1_accuracy"]), float(sums["top5_accuracy"])) == (1.0, 2.0)


def test_fewer_than_five_classes_are_all_in_the_top_five():
    sums = metric_sums(jnp.asarray([[0.0, 1, 2]] * 3), jnp.arange(3), jnp.ones(3))
    assert (float(sums["top1_accuracy"]), float(sums["top5_accuracy"])) == (1.0, 3.0)
