"""TrainState, the training step and the evaluation step: the only place that names pmap."""

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
from animesion_jax.training.losses import Objective, training_objective
from animesion_jax.training.optim import split_params, update_average
from animesion_jax.training.state import Batch, Sums, TrainState


def check_batch_size(
    name: str, batch_size: int, num_devices: int, accumulation: int = 1, *, paired: bool = False
) -> None:
    """Raises InputError unless the global batch divides evenly among all devices and the parts each takes it in.

    Where examples are `paired`, to be mixed, the parts must be even.
    """
    multiple = num_devices * accumulation * (2 if paired else 1)
    if batch_size < 1 or batch_size % multiple:
        parts = f" x {accumulation} parts (grad_accumulation)" if accumulation > 1 else ""
        parts += " x pairs (mixup, cutmix)" if paired else ""
        raise InputError(
            f"{name} {batch_size} does not divide among {num_devices} devices{parts}; allowed: a multiple of {multiple}"
        )


def check_train_batch(config: ml_collections.ConfigDict, num_devices: int) -> None:
    """Raises InputError unless the devices can share a batch of a config's training."""
    check_batch_size("batch_size", config.batch_size, num_devices, config.grad_accumulation, paired=is_mixed(config))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    train_mode: bool = True,
    rebalancing: bool = False,
    objective: Objective | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """Returns `train_step(state, batch) -> (state, sums)`; the old state is donated.

    The batch has a leading device axis: "image" (devices, batch, S + margin, S + margin, 3) uint8, "label"
    (devices, batch) int32, "mask" (devices, batch) float32; or one of `resident.ResidentData`. `sums` are those of
    `gradients.make_gradients` over the global batch before the update, and "nonfinite": how many numbers of the
    gradient, the updated parameters and the batch statistics are not finite. Random numbers depend on (config.seed,
    step, place in the global batch) only.

    Layers run in evaluation mode, BatchNorm on its running statistics, which stay as they are, and no dropout, where
    `train_mode` is false, and where `config.trainable` is "head": then nothing but the classifier gets a gradient. Only
    where `config.eval_mode_after_epochs` reproduces the paper's runs does a frozen body begin in training mode.

    With `rebalancing` it is a step of the second stage: it trains the classifier of the variables that are evaluated,
    all else frozen and in evaluation mode, on images that are not mixed. `objective` None is that of the config.
    """
    trainable = "head" if rebalancing else config.trainable
    in_train_mode = train_mode and not rebalancing and (trainable == "all" or config.eval_mode_after_epochs > 0)
    gradients_of = make_gradients(
        model, config, objective or training_objective(config), mixed=is_mixed(config) and not rebalancing,
        train_mode=in_train_mode,
    )  # fmt: skip

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        batch = take(batch, state.step)
        local_batch = batch["label"].shape[0]
        positions = jax.lax.axis_index(AXIS) * local_batch + jnp.arange(local_batch)
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        variables = state.evaluated if rebalancing else state.variables
        trained, frozen = split_params(variables["params"], trainable)
        gradients, (sums, batch_stats) = gradients_of(
            trained, variables.get("batch_stats", {}), frozen, key, {**batch, "position": positions}
        )
        gradients = jax.lax.pmean(gradients, AXIS)
        stage = {"rebalancing_step": state.step} if rebalancing else {}
        deltas, opt_state = optimizer.update(gradients, state.opt_state, trained, **stage)
        updated = optax.apply_updates(trained, deltas)
        new_state = _advance(state, {**frozen, **updated}, batch_stats, opt_state, config.ema_decay, rebalancing)
        # What has left float32's range, in the gradient or by the update.
        nonfinite = sum(jnp.sum(~jnp.isfinite(leaf)) for leaf in jax.tree.leaves((gradients, updated, batch_stats)))
        return new_state, jax.lax.psum(sums, AXIS) | {"nonfinite": nonfinite}

    return jax.pmap(
        train_step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )


def _advance(
    state: TrainState, params: Any, batch_stats: Any, opt_state: optax.OptState, ema_decay: float, rebalancing: bool
) -> TrainState:
    """Returns the state after an update; where there are averages, re-balancing changes them alone."""
    values = {"params": params, "batch_stats": batch_stats}
    new_state = state.replace(step=state.step + 1, opt_state=opt_state)
    if state.average is None:
        return new_state.replace(**values)
    if rebalancing:
        return new_state.replace(average=values)
    return new_state.replace(**values, average=update_average(state.average, values, ema_decay, state.step))


def make_eval_step(
    model: nn.Module, config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Callable[[dict[str, Any], Batch], Sums]:
    """Returns `eval_step(variables, batch) -> sums` over the global batch.

    The batch has a leading device axis: "image" (devices, batch, S, S, 3) uint8, "label" int32 and "mask" float32
    (devices, batch). Masked examples count for nothing.
    """

    def eval_step(variables: dict[str, Any], batch: Batch) -> Sums:
        logits = model.apply(variables, normalize(batch["image"], config.mean, config.std))
        return jax.lax.psum(metric_sums(logits, batch["label"], batch["mask"]), AXIS)

    return jax.pmap(eval_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)


def make_classify_step(
    model: nn.Module, config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Callable[[dict[str, Any], Batch], tuple[Sums, dict[str, jax.Array]]]:
    """Returns `classify_step(variables, batch)` -> (what the evaluation step returns, each example's outcome).

    The outcome is {"label", "mask", "predicted", "rank"}, each (global batch,), in the order of the batch before it was
    put on the devices: "predicted" is the int32 class id of the highest logit, "rank" the `metrics.label_ranks` of the
    true class; neither means anything where the mask is 0. The batch is that of `make_eval_step`.
    """

    def classify_step(variables: dict[str, Any], batch: Batch) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model.apply(variables, normalize(batch["image"], config.mean, config.std))
        each = {
            "label": batch["label"],
            "mask": batch["mask"],
            "predicted": jnp.argmax(logits, axis=-1).astype(jnp.int32),
            "rank": label_ranks(logits, batch["label"]),
        }
        sums = metric_sums(logits, batch["label"], batch["mask"])
        return jax.lax.psum(sums, AXIS), jax.lax.all_gather(each, AXIS, tiled=True)

    return jax.pmap(classify_step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), devices=devices)
