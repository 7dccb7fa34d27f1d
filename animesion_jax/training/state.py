"""TrainState: everything that training changes."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from animesion_jax.training.optim import split_params

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
      average: running averages {"params", "batch_stats"} of a run with `ema_decay`; None in others.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to hand to `model.apply` in training."""
        return _variables(self.params, self.batch_stats)

    @property
    def evaluated(self) -> dict[str, Any]:
        """The variables that are evaluated and exported: the averages where there are some."""
        return self.variables if self.average is None else _variables(**self.average)

    @property
    def arrays(self) -> dict[str, Any]:
        """What a checkpoint holds: the fields, without an average where there is none, as before there were any."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}


def _variables(params: Any, batch_stats: Any) -> dict[str, Any]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def create_state(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    trainable: str = "all",
    *,
    averaged: bool = False,
) -> TrainState:
    """Returns the state before the first step; the optimizer keeps nothing for frozen parameters."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    trained, _ = split_params(params, trainable)
    # Copies, for the state is donated, and no array can be twice.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if averaged else None
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(trained), average)


def abstract_state(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    trainable: str = "all",
    *,
    averaged: bool = False,
) -> TrainState:
    """Returns the shapes and dtypes of `create_state`; `variables` may be abstract too."""
    return jax.eval_shape(lambda variables: create_state(variables, optimizer, trainable, averaged=averaged), variables)
