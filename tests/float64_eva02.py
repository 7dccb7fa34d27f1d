"""EVA02 (arXiv:2303.11331) with timm's names: random weights, and the forward pass in float64 numpy."""

from collections.abc import Mapping, Sequence

import numpy as np

from tests.drawn import draw_arrays
from tests.float64_layers import dense, norm, patches, softmax

PATCH = 14


def eva02_arrays(
    num_classes: int, image_size: int, *, hidden_size: int, num_layers: int, num_heads: int, mlp_dim: int
) -> dict[str, np.ndarray]:
    """Returns float32 arrays of every name of timm's `eva02_base_patch14_224`, in other sizes."""
    width, tokens = hidden_size, (image_size // PATCH) ** 2 + 1
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, tokens, width)}
    layers = {"patch_embed.proj": (width, 3, PATCH, PATCH)}
    for name in (f"blocks.{layer}" for layer in range(num_layers)):
        layers |= {f"{name}.{norm}": (width,) for norm in ("norm1", "norm2")}
        layers |= {f"{name}.attn.{each}": (width, width) for each in ("q_proj", "k_proj", "v_proj", "proj")}
        layers |= {f"{name}.mlp.{each}": (mlp_dim, width) for each in ("fc1_g", "fc1_x")}
        layers |= {f"{name}.mlp.norm": (mlp_dim,), f"{name}.mlp.fc2": (width, mlp_dim)}
    for name, shape in (layers | {"fc_norm": (width,), "head": (num_classes, width)}).items():
        shapes[f"{name}.weight"] = shape
        if not name.endswith("k_proj"):
            shapes[f"{name}.bias"] = shape[:1]
    return draw_arrays(shapes)


def forward(
    arrays: Mapping[str, np.ndarray],
    images: np.ndarray,
    num_heads: int,
    rotary_grid: int = 16,
    branches: Sequence[tuple[float, float]] | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns (batch, classes) logits and the (batch, heads, tokens, tokens) attention weights of every layer.

    Args:
      arrays: by timm's names, for the size of the images.
      images: (batch, S, S, 3), normalised.
      num_heads: of each layer.
      rotary_grid: patches along a side for the coordinates of the rotation.
      branches: factors of each layer's attention and MLP, for stochastic depth; None for 1.
    """
    arrays = {name: np.float64(array) for name, array in arrays.items()}
    layers = sum(name.endswith("fc1_g.weight") for name in arrays)
    x, seen = patches(arrays, np.float64(images)), []
    turns = _turns(round(x.shape[1] ** 0.5), rotary_grid, x.shape[-1] // num_heads)
    x = np.concatenate([np.repeat(arrays["cls_token"], len(x), 0), x], 1) + arrays["pos_embed"]
    for layer, (attention_factor, mlp_factor) in enumerate(branches or [(1, 1)] * layers):
        name = f"blocks.{layer}"
        y, weights = _attention(arrays, f"{name}.attn", norm(arrays, f"{name}.norm1", x), turns)
        x = x + attention_factor * y
        y = norm(arrays, f"{name}.norm2", x)
        gate = dense(arrays, f"{name}.mlp.fc1_g", y)
        y = gate / (1 + np.exp(-gate)) * dense(arrays, f"{name}.mlp.fc1_x", y)
        x = x + mlp_factor * dense(arrays, f"{name}.mlp.fc2", norm(arrays, f"{name}.mlp.norm", y))
        seen.append(weights)
    return dense(arrays, "head", norm(arrays, "fc_norm", x[:, 1:].mean(1))), seen


def _turns(grid, rotary_grid, width):
    """Returns e^(i angle) of each patch and pair of features: half of the pairs turn with y, half with x."""
    pairs = width // 4
    result = np.empty((grid, grid, 2 * pairs), complex)
    for y in range(grid):
        for x in range(grid):
            for pair in range(pairs):
                speed = 10_000 ** (-pair / pairs) * rotary_grid / grid
                result[y, x, pair], result[y, x, pairs + pair] = np.exp(1j * y * speed), np.exp(1j * x * speed)
    return result.reshape(grid * grid, -1)


def _rotate(x, turns):
    """Returns (batch, heads, tokens, width): all but the first token turned as complex numbers."""
    turned = (x[:, :, 1:, 0::2] + 1j * x[:, :, 1:, 1::2]) * turns
    patches = np.stack([turned.real, turned.imag], -1).reshape(x[:, :, 1:].shape)
    return np.concatenate([x[:, :, :1], patches], 2)


def _attention(arrays, name, x, turns):
    split = lambda y: y.reshape(*y.shape[:2], -1, 2 * turns.shape[1]).swapaxes(1, 2)  # noqa: E731
    query = _rotate(split(dense(arrays, f"{name}.q_proj", x)), turns)
    key = _rotate(split(x @ arrays[f"{name}.k_proj.weight"].T), turns)
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    weights = softmax(scores)
    y = weights @ split(dense(arrays, f"{name}.v_proj", x))
    return dense(arrays, f"{name}.proj", y.swapaxes(1, 2).reshape(x.shape)), weights
