"""TrainState, the training step and the evaluation step: the only place that names pmap."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from animesion_jax.augment import Augmentation, augment, normalize
from animesion_jax.errors import InputError
from animesion_jax.hosts import AXIS, own
from animesion_jax.metrics import SUMS, cross_entropy, label_ranks, metric_sums
from animesion_jax.optim import split_params

BATCHES_IN_FLIGHT = 2

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes; no device axis.

    Attributes:
      step: int32 number of updates done.
      params: float32 parameters.
      batch_stats: float32 running statistics of BatchNorm; empty for models without.
      opt_state: state of the optax transformation.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to hand to `model.apply`."""
        return {"params": self.params} | ({"batch_stats": self.batch_stats} if self.batch_stats else {})


def create_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, trainable: str = "all"
) -> TrainState:
    """Returns the state before the first step; the optimizer keeps nothing for frozen parameters."""
    params = variables["params"]
    trained, _ = split_params(params, trainable)
    return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(trained))


def abstract_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, trainable: str = "all"
) -> TrainState:
    """Returns the shapes and dtypes of `create_state`; `variables` may be abstract too."""
    return jax.eval_shape(lambda variables: create_state(variables, optimizer, trainable), variables)


def check_batch_size(name: str, batch_size: int, num_devices: int, accumulation: int = 1) -> None:
    """Raises InputError unless the global batch divides evenly among all devices and the parts each takes it in."""
    multiple = num_devices * accumulation
    if batch_size < 1 or batch_size % multiple:
        parts = f" x {accumulation} parts (grad_accumulation)" if accumulation > 1 else ""
        raise InputError(
            f"{name} {batch_size} does not divide among {num_devices} devices{parts}; allowed: a multiple of {multiple}"
        )


def on_devices(
    batches: Iterable[dict[str, np.ndarray]], devices: Sequence[jax.Device]
) -> Iterator[dict[str, jax.Array]]:
    """Yields each batch as arrays with a leading device axis, put on this process's devices two batches ahead.

    A batch is this process's share of the global one.
    """
    devices = own(devices)
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))

    def put(batch: dict[str, np.ndarray]) -> Batch:
        return jax.device_put(
            {name: array.reshape(len(devices), -1, *array.shape[1:]) for name, array in batch.items()},
            sharding,
        )

    waiting: collections.deque[Batch] = collections.deque()
    for batch in batches:
        waiting.append(put(batch))
        if len(waiting) >= BATCHES_IN_FLIGHT:
            yield waiting.popleft()
    yield from waiting


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    train_mode: bool = True,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """Returns `train_step(state, batch) -> (state, sums)`; the old state is donated.

    The batch has a leading device axis: "image" (devices, batch, S + margin, S + margin, 3) uint8, "label"
    (devices, batch) int32, "mask" (devices, batch) float32. `sums` are `metrics.metric_sums` of the global batch
    before the update, and "nonfinite": how many numbers of the gradient, the updated parameters and the batch
    statistics are not finite. Random numbers depend on (config.seed, step, place in the global batch) only.

    Layers run in evaluation mode, BatchNorm on its running statistics, which stay as they are, and no dropout, where
    `train_mode` is false, and where `config.trainable` is "head": then nothing but the classifier gets a gradient. Only
    where `config.eval_mode_after_epochs` reproduces the paper's runs does a frozen body begin in training mode.

    Each device takes its share of the batch in `config.grad_accumulation` parts, so that only one part's activations
    are in memory. Gradients, augmentation and dropout are those of the whole batch. BatchNorm is not: each part is
    normalised by its own statistics, over all devices, and the running ones are updated once per part.
    """
    augmentation = Augmentation(**config.augment)
    accumulation = config.grad_accumulation

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        local_batch = batch["label"].shape[0]
        positions = jax.lax.axis_index(AXIS) * local_batch + jnp.arange(local_batch)
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step))
        trained, frozen = split_params(state.params, config.trainable)
        in_train_mode = train_mode and (not frozen or config.eval_mode_after_epochs > 0)

        def loss_of(trained, batch_stats, part):
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(augment_key, part["position"])
            images = normalize(augment(keys, part["image"], config.image_size, augmentation), config.mean, config.std)
            variables = state.replace(params={**frozen, **trained}, batch_stats=batch_stats).variables
            logits, updates = model.apply(
                variables, images, train=in_train_mode, positions=part["position"],
                rngs={"dropout": dropout_key}, mutable=["batch_stats"],
            )  # fmt: skip
            sums = metric_sums(logits, part["label"], part["mask"])
            return cross_entropy(logits, part["label"]).mean(), (sums, updates.get("batch_stats", batch_stats))

        gradients_of = jax.grad(loss_of, has_aux=True)
        whole = {**batch, "position": positions}
        if accumulation == 1:
            gradients, (sums, batch_stats) = gradients_of(trained, state.batch_stats, whole)
        else:
            gradients, (sums, batch_stats) = _accumulate(gradients_of, trained, state.batch_stats, whole, accumulation)
        gradients = jax.lax.pmean(gradients, AXIS)
        deltas, opt_state = optimizer.update(gradients, state.opt_state, trained)
        updated = optax.apply_updates(trained, deltas)
        new_state = TrainState(
            step=state.step + 1,
            params={**frozen, **updated},
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
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


def _accumulate(
    gradients_of: Callable[..., tuple[Any, tuple[Sums, Any]]], trained: Any, batch_stats: Any, whole: Batch, parts: int
) -> tuple[Any, tuple[Sums, Any]]:
    """Returns what gradients_of(trained, batch_stats, whole) does, taking the batch in parts one after the other."""

    def add_part(carry, part):
        gradients, sums, batch_stats = carry
        more_gradients, (more_sums, batch_stats) = gradients_of(trained, batch_stats, part)
        return (*jax.tree.map(jnp.add, (gradients, sums), (more_gradients, more_sums)), batch_stats), None

    no_sums = dict.fromkeys((*SUMS, "examples"), jnp.zeros(()))
    start = (jax.tree.map(jnp.zeros_like, trained), no_sums, batch_stats)
    in_parts = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), whole)
    (gradients, sums, batch_stats), _ = jax.lax.scan(add_part, start, in_parts)
    return jax.tree.map(lambda leaf: leaf / parts, gradients), (sums, batch_stats)


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
