"""What training minimises: cross-entropy, with label smoothing, mixed labels and two remedies for a long tail."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from animesion_jax.metrics import cross_entropy


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of an example.

    Attributes:
      smoothing: part of a label that is spread evenly over all classes (Szegedy et al., 2016, arXiv:1512.00567).
      offsets: (classes,) float32, added to the logits in the loss alone; None for none.
      class_weights: (classes,) float32 factors of the examples' losses, by label; None for none.
    """

    smoothing: float = 0.0
    offsets: np.ndarray | None = None
    class_weights: np.ndarray | None = None

    def losses(
        self,
        logits: jax.Array,
        labels: jax.Array,
        others: jax.Array | None = None,
        shares: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the (batch,) float32 losses in nats.

        Args:
          logits: (batch, classes) float32.
          labels: (batch,) int32 class ids.
          others, shares: (batch,) labels of the images mixed into these, and the share of `labels`; None if unmixed.
        """
        if self.offsets is not None:
            logits = logits + self.offsets
        if shares is None and not self.smoothing:
            losses = cross_entropy(logits, labels)
        else:
            targets = jax.nn.one_hot(labels, logits.shape[-1])
            if shares is not None:
                others = jax.nn.one_hot(others, logits.shape[-1])
                targets = shares[:, None] * targets + (1.0 - shares)[:, None] * others
            losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, self.smoothing))
        return losses if self.class_weights is None else jnp.asarray(self.class_weights)[labels] * losses


def needs_counts(config: ml_collections.ConfigDict) -> bool:
    """Returns whether the objectives of a config depend on the numbers of training images by class."""
    return config.logit_adjustment > 0 or config.rebalance_epochs > 0


def training_objective(config: ml_collections.ConfigDict, counts: np.ndarray | None = None) -> Objective:
    """Returns the objective of a config before re-balancing; `counts` as in `log_priors`."""
    offsets = config.logit_adjustment * log_priors(counts) if config.logit_adjustment else None
    return Objective(config.label_smoothing, offsets)


def balanced_objective(counts: np.ndarray) -> Objective:
    """Returns cross-entropy in which every class has the same total weight, as if classes were sampled evenly."""
    return Objective(class_weights=balanced_weights(counts))


def log_priors(counts: np.ndarray) -> np.ndarray:
    """Returns the (classes,) float32 logarithms of the classes' shares of the training images.

    Added to the logits in the loss, times a factor, they make plain logits balanced ones (Menon et al., 2021,
    arXiv:2007.07314): with a factor of 1, these are best by the mean of the classes' accuracies.

    Args:
      counts: (classes,) int training images by class id, at least 1.
    """
    return np.log(counts / counts.sum()).astype(np.float32)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Returns the (classes,) float32 weights n / (classes * counts) of examples, 1 in the mean over all n examples."""
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)
