"""Checkpoints of a run, by Orbax: the last ones, and the best by validation top-1."""

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from animesion_jax.errors import InputError
from animesion_jax.steps import TrainState

FOLDER = "checkpoints"
BEST_METRIC = "top1_accuracy"
WEIGHTS = ("best", "last")


def latest_step(workdir: str) -> int | None:
    """Returns the step of the newest checkpoint of a workdir; None without any, and nothing is created."""
    if not (epath.Path(workdir).expanduser() / FOLDER).exists():
        return None
    checkpoints = Checkpoints(workdir, read_only=True)
    step = checkpoints.step_of("last")
    checkpoints.close()
    return step


class Checkpoints:
    """The checkpoints in `workdir/checkpoints`, saved in the background; a save appears whole or not at all."""

    def __init__(self, workdir: str, *, keep_last: int = 2, read_only: bool = False):
        folder = epath.Path(workdir).expanduser().resolve() / FOLDER
        if read_only and not folder.exists():
            raise InputError(f"no checkpoint in {folder.parent}; allowed: the --workdir of a training run")

        def validation_top1(metrics: dict[str, float]) -> float:
            return metrics[BEST_METRIC]

        best = BestN(get_metric_fn=validation_top1, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
            # Without it Orbax does not write the metrics, and a resumed run would forget which one is the best.
            best_fn=validation_top1,
        )
        self._manager = ocp.CheckpointManager(folder, options=options)

    def save(self, step: int, state: TrainState, metrics: dict[str, float] | None) -> None:
        """Starts saving the state; `metrics` of the validation split rank it, None leaves it unranked."""
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def step_of(self, weights: str) -> int | None:
        """Returns the step of the "last" or "best" checkpoint, the later of equally good ones; None without any.

        Where no checkpoint has validation metrics, the best is the last.
        """
        if weights not in WEIGHTS:
            raise InputError(f"unknown weights '{weights}'; allowed: {', '.join(WEIGHTS)}")
        steps = sorted(self._manager.all_steps())
        if weights == "best":
            ranked = [(metrics[BEST_METRIC], step) for step in steps if (metrics := self._manager.metrics(step))]
            if ranked:
                return max(ranked)[1]
        return steps[-1] if steps else None

    def restore(self, step: int, like: TrainState, sharding: jax.sharding.Sharding | None = None) -> TrainState:
        """Returns the state saved at `step`.

        Args:
          step: a step that was saved.
          like: state, abstract or not, that gives the structure, shapes and dtypes.
          sharding: where to put every array; None takes the first local device.
        """
        sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(wanted))

    def wait(self) -> None:
        """Blocks until what was handed to `save` is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and lets go of the folder."""
        self._manager.close()
