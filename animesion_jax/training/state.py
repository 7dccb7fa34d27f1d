"""The state of training: step, parameters, statistics, optimizer state and averages."""

from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from animesion_jax.training.optim import split_params
from animesion_jax.workdir.names import REST, WEIGHTS

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything that training changes, without a device axis.

    Attributes:
      step: int32 number of updates done.
      params: float32 parameters.
      batch_stats: float32 running statistics of BatchNorm; empty for models without.
      opt_state: state of the stage's optax transformation.
      average: moving averages {"params", "batch_stats"} in a stage with `ema_decay`; else None.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that training updates, for `model.apply`."""
        return _variables(self.params, self.batch_stats)

    @property
    def evaluated(self) -> dict[str, Any]:
        """The variables that are evaluated and exported: the averages if there are any."""
        return self.variables if self.average is None else _variables(**self.average)

    @property
    def items(self) -> dict[str, Any]:
        """The two items of a checkpoint: the evaluated variables, and the rest of the state."""
        rest = {"step": self.step, "opt_state": self.opt_state}
        if self.average is not None:
            rest["variables"] = self.variables
        return {WEIGHTS: self.evaluated, REST: rest}


def from_items(items: dict[str, Any]) -> TrainState:
    """Returns the state of a checkpoint's items; the inverse of `TrainState.items`."""
    weights, rest = items[WEIGHTS], items[REST]
    trained = rest.get("variables", weights)
    average = _with_statistics(weights) if "variables" in rest else None
    return TrainState(rest["step"], **_with_statistics(trained), opt_state=rest["opt_state"], average=average)


def create_state(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    trainable: str = "all",
    *,
    averaged: bool = False,
    step: int | jax.Array = 0,
) -> TrainState:
    """Returns the state at the start of a stage.

    Args:
      variables: {"params", "batch_stats" if the model has them}.
      optimizer: of the stage; it keeps nothing for frozen parameters.
      trainable: a member of `config.fields.TRAINABLE`.
      averaged: whether to keep moving averages.
      step: number of updates done.
    """
    trained, _ = split_params(variables["params"], trainable)
    # Copies: the state is donated, so no array may be in it twice.
    average = jax.tree.map(jnp.copy, _with_statistics(variables)) if averaged else None
    return TrainState(
        jnp.asarray(step, jnp.int32), **_with_statistics(variables), opt_state=optimizer.init(trained), average=average
    )


def _variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def _with_statistics(variables: dict[str, Any]) -> dict[str, Any]:
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


@dataclass(frozen=True, eq=False)
class Start:
    """Where training begins or resumes.

    Attributes:
      step: number of updates done.
      state: on the devices.
      progress: the JSON of the checkpoint; empty at the beginning of a run.
    """

    step: int
    state: TrainState
    progress: dict[str, Any]
