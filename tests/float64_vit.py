"""The forward pass of ViT (Dosovitskiy et al., 2020, arXiv:2010.11929) in float64 numpy, with Google's keys."""

from collections.abc import Mapping

import numpy as np
from scipy.special import erf

GELUS = {
    "tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "erf": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
}


def forward(
    arrays: Mapping[str, np.ndarray], images: np.ndarray, gelu: str = "tanh", epsilon: float = 1e-6
) -> np.ndarray:
    """Returns (batch, classes) float64 logits: equations 1 to 4 of the paper.

    A file with "fc_norm" normalises the mean of the patches instead of each token. Another one with "cls" classifies by
    the class token, one without by the mean of the patches. A tanh follows "pre_logits" if the file has it. Position
    embeddings of another grid are resampled. "Transformer/registers" are tokens between the class token and the patches
    that have no position.

    Args:
      arrays: a Google file by its old keys, such as "Transformer/encoderblock_0/LayerNorm_2/scale".
      images: (batch, S, S, 3), normalised.
      gelu: a key of `GELUS`.
      epsilon: of the layer norms.
    """
    x, _ = _encode(arrays, images, gelu, epsilon)
    patches = len(images[0]) ** 2 // len(arrays["embedding/kernel"]) ** 2
    if "fc_norm/scale" in arrays:
        x = _norm(arrays, "fc_norm", x[:, -patches:].mean(1), epsilon)
    else:
        x = _norm(arrays, "Transformer/encoder_norm", x, epsilon)
        x = x[:, 0] if "cls" in arrays else x[:, -patches:].mean(1)
    if "pre_logits/kernel" in arrays:
        x = np.tanh(_dense(arrays, "pre_logits", x))
    return _dense(arrays, "head", x)


def _tokens(arrays, images):
    """Returns the (batch, tokens, D) input of the first layer: equation 1."""
    x = _patches(arrays, np.float64(images))
    has_token = "cls" in arrays
    if has_token:
        x = np.concatenate([np.broadcast_to(np.float64(arrays["cls"]), (len(x), 1, x.shape[-1])), x], 1)
    x = x + _positions(np.float64(arrays["Transformer/posembed_input/pos_embedding"]), x.shape[1], has_token)
    if "Transformer/registers" in arrays:
        registers = np.repeat(np.float64(arrays["Transformer/registers"]), len(x), 0)
        x = np.concatenate([x[:, : int(has_token)], registers, x[:, int(has_token) :]], 1)
    return x


def attention_weights(arrays: Mapping[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """Returns the (batch, heads, tokens, tokens) attention weights of every layer."""
    return _encode(arrays, images, "tanh", 1e-6)[1]


def _encode(arrays, images, gelu, epsilon):
    x, weights = _tokens(arrays, images), []
    layers = sum(name.endswith("LayerNorm_2/scale") for name in arrays)
    for layer in range(layers):
        name = f"Transformer/encoderblock_{layer}"
        y, of_layer = _attention(
            arrays, f"{name}/MultiHeadDotProductAttention_1", _norm(arrays, f"{name}/LayerNorm_0", x, epsilon)
        )
        x = x + y
        weights.append(of_layer)
        y = _dense(arrays, f"{name}/MlpBlock_3/Dense_0", _norm(arrays, f"{name}/LayerNorm_2", x, epsilon))
        x = x + _dense(arrays, f"{name}/MlpBlock_3/Dense_1", GELUS[gelu](y))
    return x, weights


def _positions(table, tokens, has_token):
    """Returns a (1, tokens, D) table from a (1, N, D) one, bilinear with aligned corners."""
    token, grid = table[:, : int(has_token)], table[0, int(has_token) :]
    old, new = round(len(grid) ** 0.5), round((tokens - has_token) ** 0.5)
    at = np.linspace(0, old - 1, new)
    # Interpolation is linear: the columns of its matrix are the interpolated unit vectors.
    matrix = np.stack([np.interp(at, np.arange(old), unit) for unit in np.eye(old)], 1)
    grid = np.einsum("ai,bj,ijd->abd", matrix, matrix, grid.reshape(old, old, -1), optimize=True)
    return np.concatenate([token, grid.reshape(1, new * new, -1)], 1)


def _patches(arrays, images):
    kernel = np.float64(arrays["embedding/kernel"])
    patch, width = kernel.shape[0], kernel.shape[-1]
    batch, grid = len(images), images.shape[1] // patch
    x = images.reshape(batch, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, grid * grid, -1) @ kernel.reshape(-1, width) + arrays["embedding/bias"]


def _dense(arrays, name, x):
    return x @ np.float64(arrays[f"{name}/kernel"]) + arrays[f"{name}/bias"]


def _norm(arrays, name, x, epsilon):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon) * arrays[f"{name}/scale"] + arrays[f"{name}/bias"]


def _projections(arrays, name, x):
    return (
        np.einsum("btd,dhe->bhte", x, np.float64(arrays[f"{name}/{part}/kernel"]), optimize=True)
        + arrays[f"{name}/{part}/bias"][None, :, None]
        for part in ("query", "key", "value")
    )


def _softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _attention(arrays, name, x):
    query, key, value = _projections(arrays, name, x)
    weights = _softmax(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]))
    out = np.float64(arrays[f"{name}/out/kernel"])
    return np.einsum("bhte,hed->btd", weights @ value, out, optimize=True) + arrays[f"{name}/out/bias"], weights
