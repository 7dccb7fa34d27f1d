"""Losses and masked sums of metrics."""

import jax
import jax.numpy as jnp

# What `finalize` divides; a name here is a sum over examples.
SUMS = ("loss", "top1_accuracy", "top5_accuracy")


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the (batch,) float32 softmax cross-entropy, in nats, of (batch, classes) logits."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def label_ranks(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the (batch,) int32 rank of the true class, 0 for the highest logit.

    Ties go to the lower class id, as in argmax and top_k. A NaN logit ranks before the true class, so
    that a broken model counts as wrong.
    """
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    class_ids = jnp.arange(logits.shape[-1])
    behind = (logits < true_logit) | ((logits == true_logit) & (class_ids >= labels[:, None]))
    return jnp.sum(~behind, axis=-1, dtype=jnp.int32)


def metric_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Returns sums over the unmasked examples and their number.

    Args:
      logits: (batch, classes) float32.
      labels: (batch,) int32 class ids.
      mask: (batch,) 1 for an example, 0 for padding; padding contributes nothing, NaN included.
      losses: (batch,) what to add up as "loss"; None for the cross-entropy.

    Returns:
      float32 scalars: "loss", "top1_accuracy", "top5_accuracy" (sums) and "examples".
    """
    ranks = label_ranks(logits, labels)
    values = (cross_entropy(logits, labels) if losses is None else losses, ranks < 1, ranks < 5)
    sums = {name: jnp.sum(jnp.where(mask > 0, value, 0.0)) for name, value in zip(SUMS, values, strict=True)}
    return sums | {"examples": jnp.sum(mask > 0, dtype=jnp.float32)}


def finalize(sums: dict[str, float]) -> dict[str, float]:
    """Returns the means of summed metrics: loss in nats, accuracies as fractions in [0, 1]."""
    return {name: float(sums[name]) / float(sums["examples"]) for name in SUMS}
