"""The training loss: cross-entropy with label smoothing, mixed labels and two remedies for a long tail."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from animesion_jax.metrics import cross_entropy


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of an example.

    Attributes:
      smoothing: share of a label that is spread evenly over all classes (Szegedy et al., 2016, arXiv:1512.00567).
      offsets: (classes,) float32, added to the logits in the loss alone; None for none.
      class_weights: (classes,) float32 factors of the examples' losses, by label; None for none.
    """

    smoothing: float = 0.0
    offsets: np.ndarray | None = None
    class_weights: np.ndarray | None = None

    def __call__(
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
    """Returns whether the loss of a stage depends on the number of training images by class."""
    return config.logit_adjustment > 0 or config.class_weights == "balanced"


def make_loss(config: ml_collections.ConfigDict, counts: np.ndarray | None = None) -> Loss:
    """Returns the loss of a stage; `counts` as in `log_priors`, None unless `needs_counts`."""
    offsets = config.logit_adjustment * log_priors(counts) if config.logit_adjustment else None
    class_weights = balanced_weights(counts) if config.class_weights == "balanced" else None
    return Loss(config.label_smoothing, offsets, class_weights)


def log_priors(counts: np.ndarray) -> np.ndarray:
    """Returns the (classes,) float32 logarithms of the classes' shares of the training images.

    Logit adjustment (Menon et al., 2021, arXiv:2007.07314) adds them, times a factor, to the logits in the loss. With a
    factor of 1 the plain logits are best by the mean of the classes' accuracies.

    Args:
      counts: (classes,) int training images by class id, at least 1.
    """
    return np.log(counts / counts.sum()).astype(np.float32)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Returns the (classes,) float32 weights n / (classes * counts), whose mean over all n examples is 1.

    Every class gets the same total weight, as if classes were sampled evenly.

    Args:
      counts: (classes,) int training images by class id, at least 1.
    """
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)
