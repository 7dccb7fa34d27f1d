"""BEiT (arXiv:2106.08254) with timm's names: random weights, and the forward pass in float64 numpy."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import erf

Arrays = dict[str, np.ndarray]
# Standard deviation of the terms added to the residual stream: small, so that the layer norms' epsilon of 1e-6 shows.
STREAM = 0.02
GAMMA = 0.1


def beit_arrays(
    num_classes: int,
    image_size: int,
    *,
    patch_size: int = 16,
    hidden_size: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    mlp_dim: int = 3072,
) -> Arrays:
    """Returns float32 arrays of every name and shape of timm's `beit_base_patch16_224`, or of a smaller model."""
    rng, width, grid = np.random.default_rng(0), hidden_size, image_size // patch_size
    draw = lambda std, *shape: np.float32(std) * rng.standard_normal(shape, np.float32)  # noqa: E731
    norm = lambda name: {f"{name}.weight": 1 + draw(0.1, width), f"{name}.bias": draw(0.1, width)}  # noqa: E731

    def dense(name: str, gain: float, *shape: int) -> Arrays:
        """Returns a kernel and a bias, which turn inputs of variance 1 into outputs of variance about gain**2."""
        return {
            f"{name}.weight": draw(gain / np.prod(shape[1:]) ** 0.5, *shape),
            f"{name}.bias": draw(0.1 * gain, shape[0]),
        }

    arrays = {"cls_token": draw(STREAM, 1, 1, width)}
    arrays |= dense("patch_embed.proj", STREAM, width, 3, patch_size, patch_size)
    for name in (f"blocks.{layer}" for layer in range(num_layers)):
        arrays |= {f"{name}.{gamma}": GAMMA * (1 + draw(0.3, width)) for gamma in ("gamma_1", "gamma_2")}
        arrays |= norm(f"{name}.norm1")
        arrays[f"{name}.attn.qkv.weight"] = draw(width**-0.5, 3 * width, width)
        arrays |= {f"{name}.attn.{bias}": draw(0.3, width) for bias in ("q_bias", "v_bias")}
        arrays[f"{name}.attn.relative_position_bias_table"] = draw(1, (2 * grid - 1) ** 2 + 3, num_heads)
        arrays |= dense(f"{name}.attn.proj", STREAM / GAMMA, width, width)
        arrays |= norm(f"{name}.norm2")
        arrays |= dense(f"{name}.mlp.fc1", 1.5, mlp_dim, width)
        arrays |= dense(f"{name}.mlp.fc2", STREAM / GAMMA, width, mlp_dim)
    return arrays | norm("fc_norm") | dense("head", 1, num_classes, width)


def forward(
    arrays: Mapping[str, np.ndarray], images: np.ndarray, branches: Sequence[tuple[float, float]] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns (batch, classes) logits and the (batch, heads, tokens, tokens) attention weights of every layer.

    Args:
      arrays: by timm's names, for the size of the images.
      images: (batch, S, S, 3), normalised.
      branches: factors of each layer's attention and MLP, for stochastic depth; None for 1.
    """
    arrays = {name: np.float64(array) for name, array in arrays.items()}
    layers = sum(name.endswith("gamma_1") for name in arrays)
    x, seen = _patches(arrays, np.float64(images)), []
    grid = round(x.shape[1] ** 0.5)
    x = np.concatenate([np.repeat(arrays["cls_token"], len(x), 0), x], 1)
    for layer, (attention_factor, mlp_factor) in enumerate(branches or [(1, 1)] * layers):
        name = f"blocks.{layer}"
        y, weights = _attention(arrays, f"{name}.attn", _norm(arrays, f"{name}.norm1", x), grid)
        x = x + attention_factor * arrays[f"{name}.gamma_1"] * y
        y = _dense(arrays, f"{name}.mlp.fc1", _norm(arrays, f"{name}.norm2", x))
        y = _dense(arrays, f"{name}.mlp.fc2", 0.5 * y * (1 + erf(y / np.sqrt(2))))
        x = x + mlp_factor * arrays[f"{name}.gamma_2"] * y
        seen.append(weights)
    return _dense(arrays, "head", _norm(arrays, "fc_norm", x[:, 1:].mean(1))), seen


def _patches(arrays, images):
    kernel = arrays["patch_embed.proj.weight"]
    patch, batch = kernel.shape[-1], len(images)
    grid = images.shape[1] // patch
    x = images.reshape(batch, grid, patch, grid, patch, 3)
    x = np.einsum("byixjc,dcij->byxd", x, kernel, optimize=True) + arrays["patch_embed.proj.bias"]
    return x.reshape(batch, grid * grid, -1)


def _attention(arrays, name, x, grid):
    table = arrays[f"{name}.relative_position_bias_table"]
    heads = table.shape[1]
    q, k, v = np.split(x @ arrays[f"{name}.qkv.weight"].T, 3, -1)
    split = lambda y: y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2)  # noqa: E731
    q, k, v = split(q + arrays[f"{name}.q_bias"]), split(k), split(v + arrays[f"{name}.v_bias"])
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + _bias(table, grid)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return _dense(arrays, f"{name}.proj", (weights @ v).swapaxes(1, 2).reshape(x.shape)), weights


def _bias(table, grid):
    """Returns the (heads, tokens, tokens) bias, pair by pair; section 2.2 and the public code, for a class token."""
    tokens = [None, *((y, x) for y in range(grid) for x in range(grid))]
    distances = table[:-3].reshape(2 * grid - 1, 2 * grid - 1, -1)
    bias = np.empty((len(tokens), len(tokens), table.shape[1]))
    for i, query in enumerate(tokens):
        for j, key in enumerate(tokens):
            if query and key:
                bias[i, j] = distances[query[0] - key[0] + grid - 1, query[1] - key[1] + grid - 1]
            else:
                bias[i, j] = table[-3] if key else table[-2] if query else table[-1]
    return bias.transpose(2, 0, 1)


def _dense(arrays, name, x):
    return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def _norm(arrays, name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]
