"""BatchNorm with PyTorch's settings, which ResNets and ShallowNet share."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn


def make_batch_norm(model: nn.Module, train: bool) -> Callable[..., nn.BatchNorm]:
    """Returns the constructor of a model's BatchNorm layers: epsilon 1e-5, 0.9 of the running averages is kept.

    Args:
      model: has `dtype`, the compute dtype, and `axis_name`, the pmap axis of the training statistics. The axis is not
        used while the model is initialised.
      train: whether to normalise by the statistics of the batch.
    """
    return partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=model.dtype,
        axis_name=model.axis_name if train and not model.is_initializing() else None,
    )
