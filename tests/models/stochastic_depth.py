"""Stochastic depth of a two-layer model against formulas, for each family that has it."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.published import relative_difference

RATE, COUNT = 0.3, 400


def check_stochastic_depth(
    model: nn.Module,
    variables: dict[str, Any],
    image: np.ndarray,
    formula: Callable[[list[tuple[float, float]]], np.ndarray],
) -> None:
    """Asserts that the last layer's branches of an example count 0 or 1 / (1 - rate), the first layer's always 1.

    Args:
      model: with two layers and a `dropout_rate` of `RATE`.
      variables: of the model.
      image: (1, S, S, 3).
      formula: returns the float64 logits for the factors of attention and MLP in both layers.
    """
    rngs = {"dropout": jax.random.key(0)}
    step = jax.jit(lambda images, places: model.apply(variables, images, True, places, rngs=rngs))
    images = jnp.repeat(image, COUNT, 0)
    logits = np.asarray(step(images, jnp.arange(COUNT)))
    expected = {factors: formula([(1, 1), factors]) for factors in itertools.product((0, 1 / (1 - RATE)), repeat=2)}
    found = Counter()
    for example in logits:
        differences = {factors: relative_difference(example, each) for factors, each in expected.items()}
        near = [factors for factors, difference in differences.items() if difference <= 1e-5]
        assert len(near) == 1, differences
        found.update(near)
    for (attention, mlp), times in found.items():
        share = (1 - RATE if attention else RATE) * (1 - RATE if mlp else RATE)
        assert abs(times / COUNT - share) < 4.5 * np.sqrt(share * (1 - share) / COUNT), found
    # The mask belongs to the example's place, whatever the batch.
    part = step(images[100:108], jnp.arange(100, 108))
    assert relative_difference(part, logits[100:108]) <= 1e-6
