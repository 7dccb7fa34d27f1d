"""The training step and the evaluation step: the place, beside the votes in distributed.py, that calls pmap."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from animesion_jax.distributed import AXIS
from animesion_jax.errors import InputError
from animesion_jax.metrics import label_ranks, metric_sums
from animesion_jax.preprocessing import normalize
from animesion_jax.training.device_data import take
from animesion_jax.training.gradients import is_mixed, make_gradients
from animesion_jax.training.losses import Loss
from animesion_jax.training.optim import split_params, update_average
from animesion_jax.training.state import Batch, Sums, TrainState


def check_batch_size(
    name: str, batch_size: int, num_devices: int, accumulation: int = 1, *, paired: bool = False
) -> None:
    """Raises InputError unless the global batch divides evenly among all devices and their parts of it.

    If examples are `paired`, to be mixed, the parts must be even.
    """
    multiple = num_devices * accumulation * (2 if paired else 1)
    if batch_size < 1 or batch_size % multiple:
        parts = f" x {accumulation} parts (grad_accumulation)" if accumulation > 1 else ""
        parts += " x pairs (mixup, cutmix)" if paired else ""
        raise InputError(
            f"{name} {batch_size} does not divide among {num_devices} devices{parts}; allowed: a multiple of {multiple}"
        )


def check_train_batch(config: ml_collections.ConfigDict, num_devices: int) -> None:
    """Raises InputError unless the devices can share a batch of a stage."""
    check_batch_size("batch_size", config.batch_size, num_devices, config.grad_accumulation, paired=is_mixed(config))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    loss: Loss,
    devices: Sequence[jax.Device] | None = None,
    *,
    train_mode: bool = True,
    first_step: int = 0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """Returns `train_step(state, batch) -> (state, sums)`; it donates the old state.

    The batch has a leading device axis: "image" (devices, batch, S + margin, S + margin, 3) uint8, "label"
    (devices, batch) int32, "mask" (devices, batch) float32; or it is one of `device_data.ResidentData`. `sums` are
    those of `gradients.make_gradients` over the global batch before the update, and "nonfinite": how many numbers of
    the gradient, the updated parameters and the batch statistics are not finite. Random numbers depend only on
    (config.seed, step, place in the global batch).

    Args:
      model: from `create_model`, with `axis_name=AXIS`.
      optimizer: from `make_optimizer`.
      config: of a stage.
      loss: from `make_loss`.
      devices: devices of all processes; None for all there are.
      train_mode: whether layers may train. In evaluation mode, and with `config.trainable` "head", there is no dropout,
        and BatchNorm uses its running statistics and leaves them alone. A frozen body begins in training mode only if
        `config.eval_mode_after_epochs` reproduces the paper's runs.
      first_step: number of updates before the stage.
    """
    in_train_mode = train_mode and (config.trainable == "all" or config.eval_mode_after_epochs > 0)
    gradients_of = make_gradients(model, config, loss, train_mode=in_train_mode)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        batch = take(batch, state.step)
        local_batch = batch["label"].shape[0]
        positions = jax.lax.axis_index(AXIS) * local_batch + jnp.arange(local_batch)
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        trained, frozen = split_params(state.params, config.trainable)
        gradients, (sums, batch_stats) = gradients_of(
            trained, state.batch_stats, frozen, key, {**batch, "position": positions}
        )
        gradients = jax.lax.pmean(gradients, AXIS)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trained)
        updated = optax.apply_updates(trained, updates)
        values = {"params": {**frozen, **updated}, "batch_stats": batch_stats}
        average = state.average
        if average is not None:
            average = update_average(average, values, config.ema_decay, state.step - first_step)
        # Numbers beyond float32's range, in the gradient or after the update.
        nonfinite = sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves((gradients, updated, batch_stats)))
        new_state = state.replace(step=state.step + 1, **values, opt_state=opt_state, average=average)
        return new_state, jax.lax.psum(sums, AXIS) | {"nonfinite": nonfinite}

    return jax.pmap(
        train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), devices=devices, donate_argnums=0
    )


def make_eval_step(
    model: nn.Module, config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Callable[[dict[str, Any], Batch], tuple[Sums, dict[str, jax.Array]]]:
    """Returns `eval_step(variables, batch) -> (sums, examples)` over the global batch.

    The batch has a leading device axis: "image" (devices, batch, S, S, 3) uint8, "label" int32 and "mask" float32
    (devices, batch). `sums` are `metrics.metric_sums`; masked examples count for nothing. `examples` are {"label",
    "mask", "predicted", "rank"}, each (global batch,), in the order of the batch before it was put on the devices:
    "predicted" is the int32 class id of the highest logit, "rank" the `metrics.label_ranks` of the true class. Ignore
    both where the mask is 0.
    """

    def eval_step(variables: dict[str, Any], batch: Batch) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model.apply(variables, normalize(batch["image"], config.mean, config.std))
        examples = {
            "label": batch["label"],
            "mask": batch["mask"],
            "predicted": jnp.argmax(logits, axis=-1).astype(jnp.int32),
            "rank": label_ranks(logits, batch["label"]),
        }
        sums = metric_sums(logits, batch["label"], batch["mask"])
        return jax.lax.psum(sums, AXIS), jax.lax.all_gather(examples, AXIS, tiled=True)

    return jax.pmap(eval_step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), devices=devices)
