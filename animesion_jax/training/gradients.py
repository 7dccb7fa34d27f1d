"""The gradient of the training loss over one device's share of a batch: augment, mix, differentiate, in parts."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from animesion_jax.metrics import SUMS, metric_sums
from animesion_jax.preprocessing import normalize
from animesion_jax.training.augment import Augmentation, augment
from animesion_jax.training.losses import Loss
from animesion_jax.training.mixup import mix, partners
from animesion_jax.training.state import Batch, Sums


def is_mixed(config: ml_collections.ConfigDict) -> bool:
    """Returns whether training mixes images in pairs."""
    return config.mixup > 0 or config.cutmix > 0


def make_gradients(
    model: nn.Module, config: ml_collections.ConfigDict, loss: Loss, *, train_mode: bool
) -> Callable[[Any, Any, Any, jax.Array, Batch], tuple[Any, tuple[Sums, Any]]]:
    """Returns `gradients_of(trained, batch_stats, frozen, key, batch) -> (gradients, (sums, batch_stats))`.

    `gradients` are those of the mean loss with respect to `trained`; `frozen` are the other parameters. The batch is a
    device's share: "image" (batch, S + margin, S + margin, 3) uint8, and "label", "mask" and "position" (the place in
    the global batch), (batch,) each. `sums` are `metrics.metric_sums` with the training loss as "loss". For mixed
    images, accuracies count the label with the larger share.

    `config.grad_accumulation` is the number of parts in which the share is processed; memory holds the activations of
    one part only. Gradients, augmentation and dropout equal those of the whole batch. BatchNorm differs: it normalises
    each part by the part's own statistics over all devices, and updates the running statistics once per part.
    """
    augmentation, mixed = Augmentation(**config.augment), is_mixed(config)

    def gradients_of(trained, batch_stats, frozen, key, batch):
        augment_key, dropout_key = jax.random.split(key)
        # Fold instead of splitting in three: then the other two draws are the same with and without mixing.
        mix_key = jax.random.fold_in(key, 2)

        def loss_of(trained, batch_stats, part):
            keys = _keys_at(augment_key, part["position"])
            images, labels, mixture = augment(keys, part["image"], config.image_size, augmentation), part["label"], ()
            if mixed:
                images, labels, *mixture = _mix(mix_key, images, labels, part["position"], config)
            logits, updates = model.apply(
                {"params": {**frozen, **trained}} | ({"batch_stats": batch_stats} if batch_stats else {}),
                normalize(images, config.mean, config.std), train=train_mode, positions=part["position"],
                rngs={"dropout": dropout_key}, mutable=["batch_stats"],
            )  # fmt: skip
            losses = loss(logits, labels, *mixture)
            sums = metric_sums(logits, labels, part["mask"], losses)
            return losses.mean(), (sums, updates.get("batch_stats", batch_stats))

        by_part = jax.grad(loss_of, has_aux=True)
        if config.grad_accumulation == 1:
            return by_part(trained, batch_stats, batch)
        return _accumulate(by_part, trained, batch_stats, batch, config.grad_accumulation)

    return gradients_of


def _keys_at(key: jax.Array, positions: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions)


def _mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, positions: jax.Array, config: ml_collections.ConfigDict
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns mixed images, the labels with the larger share, the others, and the shares of the former."""
    images, shares = mix(_keys_at(key, positions[::2] // 2), images, config.mixup, config.cutmix)
    others = partners(labels)
    larger = shares >= 0.5
    return (
        images,
        jnp.where(larger, labels, others),
        jnp.where(larger, others, labels),
        jnp.maximum(shares, 1.0 - shares),
    )


def _accumulate(
    by_part: Callable[..., tuple[Any, tuple[Sums, Any]]], trained: Any, batch_stats: Any, whole: Batch, parts: int
) -> tuple[Any, tuple[Sums, Any]]:
    """Returns the result of by_part(trained, batch_stats, whole), computed part by part."""

    def add_part(carry, part):
        gradients, sums, batch_stats = carry
        more_gradients, (more_sums, batch_stats) = by_part(trained, batch_stats, part)
        return (*jax.tree.map(jnp.add, (gradients, sums), (more_gradients, more_sums)), batch_stats), None

    no_sums = dict.fromkeys((*SUMS, "examples"), jnp.zeros(()))
    start = (jax.tree.map(jnp.zeros_like, trained), no_sums, batch_stats)
    in_parts = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), whole)
    (gradients, sums, batch_stats), _ = jax.lax.scan(add_part, start, in_parts)
    return jax.tree.map(lambda leaf: leaf / parts, gradients), (sums, batch_stats)
