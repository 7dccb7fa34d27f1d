"""BEiT (arXiv:2106.08254) with timm's names: random weights, and the forward pass in float64 numpy."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import erf

from tests.drawn import draw_arrays
from tests.float64_layers import dense, norm, patches, softmax


def beit_arrays(
    num_classes: int,
    image_size: int,
    *,
    patch_size: int = 16,
    hidden_size: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    mlp_dim: int = 3072,
) -> dict[str, np.ndarray]:
    """Returns float32 arrays of every name and shape of timm's `beit_base_patch16_224`, or of a smaller model."""
    width = hidden_size
    vector = lambda *names: dict.fromkeys(names, (width,))  # noqa: E731
    shapes = {"cls_token": (1, 1, width), "patch_embed.proj.weight": (width, 3, patch_size, patch_size)}
    shapes |= vector("patch_embed.proj.bias", "fc_norm.weight", "fc_norm.bias")
    for name in (f"blocks.{layer}" for layer in range(num_layers)):
        shapes |= vector(f"{name}.gamma_1", f"{name}.gamma_2", f"{name}.attn.q_bias", f"{name}.attn.v_bias")
        shapes |= vector(f"{name}.attn.proj.bias", f"{name}.mlp.fc2.bias")
        shapes |= vector(*(f"{name}.{norm}.{leaf}" for norm in ("norm1", "norm2") for leaf in ("weight", "bias")))
        shapes |= {
            f"{name}.attn.qkv.weight": (3 * width, width),
            f"{name}.attn.relative_position_bias_table": ((2 * image_size // patch_size - 1) ** 2 + 3, num_heads),
            f"{name}.attn.proj.weight": (width, width),
            f"{name}.mlp.fc1.weight": (mlp_dim, width),
            f"{name}.mlp.fc1.bias": (mlp_dim,),
            f"{name}.mlp.fc2.weight": (width, mlp_dim),
        }
    return draw_arrays(shapes | {"head.weight": (num_classes, width), "head.bias": (num_classes,)})


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
    x, seen = patches(arrays, np.float64(images)), []
    grid = round(x.shape[1] ** 0.5)
    x = np.concatenate([np.repeat(arrays["cls_token"], len(x), 0), x], 1)
    for layer, (attention_factor, mlp_factor) in enumerate(branches or [(1, 1)] * layers):
        name = f"blocks.{layer}"
        y, weights = _attention(arrays, f"{name}.attn", norm(arrays, f"{name}.norm1", x), grid)
        x = x + attention_factor * arrays[f"{name}.gamma_1"] * y
        y = dense(arrays, f"{name}.mlp.fc1", norm(arrays, f"{name}.norm2", x))
        y = dense(arrays, f"{name}.mlp.fc2", 0.5 * y * (1 + erf(y / np.sqrt(2))))
        x = x + mlp_factor * arrays[f"{name}.gamma_2"] * y
        seen.append(weights)
    return dense(arrays, "head", norm(arrays, "fc_norm", x[:, 1:].mean(1))), seen


def _attention(arrays, name, x, grid):
    table = arrays[f"{name}.relative_position_bias_table"]
    heads = table.shape[1]
    q, k, v = np.split(x @ arrays[f"{name}.qkv.weight"].T, 3, -1)
    split = lambda y: y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2)  # noqa: E731
    q, k, v = split(q + arrays[f"{name}.q_bias"]), split(k), split(v + arrays[f"{name}.v_bias"])
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + _bias(table, grid)
    weights = softmax(scores)
    return dense(arrays, f"{name}.proj", (weights @ v).swapaxes(1, 2).reshape(x.shape)), weights


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
