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
from animesion_jax.metrics import cross_entropy, label_ranks, metric_sums
from animesion_jax.optim import split_params

AXIS = "batch"
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


def check_batch_size(name: str, batch_size: int, num_devices: int) -> None:
    """Raises InputError unless the global batch divides evenly among all devices."""
    if batch_size < 1 or batch_size % num_devices:
        raise InputError(
            f"{name} {batch_size} does not divide among {num_devices} devices; allowed: a multiple of {num_devices}"
        )


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding that puts a whole array on every device."""
    return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())


def on_devices(
    batches: Iterable[dict[str, np.ndarray]], devices: Sequence[jax.Device]
) -> Iterator[dict[str, jax.Array]]:
    """Yields each batch as arrays with a leading device axis, put on the local devices two batches ahead."""
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
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """Returns `train_step(state, batch) -> (state, sums)`; the old state is donated.

    The batch has a leading device axis: "image" (devices, batch, S + margin, S + margin, 3) uint8, "label"
    (devices, batch) int32, "mask" (devices, batch) float32. `sums` are `metrics.metric_sums` of the global batch
    before the update. Random numbers depend on (config.seed, step, place in the global batch) only.

    Where `config.trainable` is "head", nothing but the classifier gets a gradient, and the rest runs in evaluation
    mode: BatchNorm on its running statistics, which stay as they are, and no dropout.
    """
    augmentation = Augmentation(**config.augment)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        local_batch = batch["label"].shape[0]
        positions = jax.lax.axis_index(AXIS) * local_batch + jnp.arange(local_batch)
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state.step))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(augment_key, positions)
        images = normalize(augment(keys, batch["image"], config.image_size, augmentation), config.mean, config.std)

        trained, frozen = split_params(state.params, config.trainable)

        def loss_of(trained):
            variables = state.replace(params={**frozen, **trained}).variables
            logits, updates = model.apply(
                variables, images, train=not frozen, positions=positions,
                rngs={"dropout": dropout_key}, mutable=["batch_stats"],
            )  # fmt: skip
            return cross_entropy(logits, batch["label"]).mean(), (logits, updates)

        gradients, (logits, updates) = jax.grad(loss_of, has_aux=True)(trained)
        gradients = jax.lax.pmean(gradients, AXIS)
        deltas, opt_state = optimizer.update(gradients, state.opt_state, trained)
        sums = jax.lax.psum(metric_sums(logits, batch["label"], batch["mask"]), AXIS)
        new_state = TrainState(
            step=state.step + 1,
            params={**frozen, **optax.apply_updates(trained, deltas)},
            batch_stats=updates.get("batch_stats", state.batch_stats),
            opt_state=opt_state,
        )
        return new_state, sums

    return jax.pmap(
        train_step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )


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
) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
    """Returns `classify_step(variables, batch)` -> {"predicted", "rank"}, both (global batch,) int32.

    "predicted" is the class id of the highest logit, "rank" the `metrics.label_ranks` of the true class, in the order
    of the batch before it was put on the devices. The batch is that of `make_eval_step`; what comes out for masked
    examples means nothing.
    """

    def classify_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits = model.apply(variables, normalize(batch["image"], config.mean, config.std))
        each = {
            "predicted": jnp.argmax(logits, axis=-1).astype(jnp.int32),
            "rank": label_ranks(logits, batch["label"]),
        }
        return jax.lax.all_gather(each, AXIS, tiled=True)

    return jax.pmap(classify_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
