"""Mixup and CutMix of neighbours in the batch, on the device, in jnp.

Examples 2p and 2p + 1 of the global batch are a pair. A pair is on one device and has its own random key, so the mix
does not depend on the number of devices. The batch is shuffled, so partners are random.
"""

import jax
import jax.numpy as jnp

from animesion_jax.training.augment import inside


def partners(values: jax.Array) -> jax.Array:
    """Returns the (batch, ...) values of each example's partner; the batch is even."""
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def mixup(key: jax.Array, pair: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns a (2, S, S, 3) pair of images blended with each other, and the share of its own image in each.

    The share is drawn from Beta(alpha, alpha) (Zhang et al., 2018, arXiv:1710.09412).
    """
    share = jax.random.beta(key, alpha, alpha)
    return share * pair + (1.0 - share) * pair[::-1], share


def cutmix(key: jax.Array, pair: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns a (2, S, S, 3) pair of images with one rectangle exchanged, and the share of its own pixels in each.

    The rectangle has the image's aspect ratio, 1 - Beta(alpha, alpha) of its area, and its centre anywhere on the image
    (Yun et al., 2019, arXiv:1905.04899). It is clipped to the image, and the share counts the pixels left.
    """
    share_key, centre_key = jax.random.split(key)
    size = pair.shape[1]
    side = jnp.floor(size * jnp.sqrt(1.0 - jax.random.beta(share_key, alpha, alpha))).astype(jnp.int32)
    top, left = jax.random.randint(centre_key, (2,), 0, size) - side // 2
    cut = inside(size, top, left, side, side)
    return jnp.where(cut, pair[::-1], pair), 1.0 - cut.mean()


def mix(keys: jax.Array, images: jax.Array, mixup_alpha: float, cutmix_alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns every image mixed with its partner, and the share of its own label.

    With both ways, each pair takes either with equal probability.

    Args:
      keys: (batch / 2,) random keys, one per pair.
      images: (batch, S, S, 3) float32.
      mixup_alpha, cutmix_alpha: parameter of the Beta distribution; 0 for never; not both 0.

    Returns:
      (batch, S, S, 3) float32 images and (batch,) float32 shares in [0, 1]; the rest is its partner's.
    """
    ways = [(way, alpha) for way, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha > 0]

    def mix_one(key: jax.Array, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
        way_key, *keys = jax.random.split(key, 1 + len(ways))
        mixed = [way(key, pair, alpha) for key, (way, alpha) in zip(keys, ways, strict=True)]
        second = jax.random.bernoulli(way_key)
        return jax.tree.map(lambda *each: jnp.where(second, each[-1], each[0]), *mixed)

    pairs, shares = jax.vmap(mix_one)(keys, images.reshape(-1, 2, *images.shape[1:]))
    return pairs.reshape(images.shape), jnp.repeat(shares, 2)
