"""PyTorch's names of parameters and layouts of kernels."""

import numpy as np

# Leaf names by the number of dimensions of the array: a "weight" is a kernel or a norm's scale.
LEAVES = {
    ("weight", 4): "params/{}/kernel",
    ("weight", 2): "params/{}/kernel",
    ("weight", 1): "params/{}/scale",
    ("bias", 1): "params/{}/bias",
    ("running_mean", 1): "batch_stats/{}/mean",
    ("running_var", 1): "batch_stats/{}/var",
}
# PyTorch's leaf names by ours.
TORCH_LEAVES = {template.rpartition("/")[2]: leaf for (leaf, _), template in LEAVES.items()}
# OIHW to HWIO, and (out, in) to (in, out).
TRANSPOSES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


def from_torch_layout(array: np.ndarray) -> np.ndarray:
    """Returns a kernel (OIHW, or (out, in)) or a vector in our layout."""
    return np.ascontiguousarray(array.transpose(TRANSPOSES[array.ndim]))


def to_torch_layout(array: np.ndarray) -> np.ndarray:
    """Returns a kernel (HWIO, or (in, out)) or a vector in PyTorch's layout."""
    return np.ascontiguousarray(array.transpose(np.argsort(TRANSPOSES[array.ndim])))
