"""Checkpoints of a run, by Orbax: the last ones, and the best by validation top-1."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from animesion_jax import hosts
from animesion_jax.errors import InputError, first_line
from animesion_jax.steps import TrainState
from animesion_jax.workdir import read_rows

FOLDER = "checkpoints"
# Where checkpoints that cannot be read are moved to, for whoever wants to look at them.
DAMAGED_FOLDER = "damaged_checkpoints"
BEST_METRIC = "top1_accuracy"
WEIGHTS = ("best", "last")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What training goes on from.

    Attributes:
      step: number of updates behind the state.
      state: the state, on the devices.
      progress: what else was handed to `Checkpoints.save`.
    """

    step: int
    state: TrainState
    progress: dict[str, Any]


@dataclass
class LatestAndBest(PreservationPolicy):
    """Keeps the last `latest` checkpoints and the best of those that have a score, the later of equally good ones."""

    latest: int
    scores: dict[int, float] = field(default_factory=dict)

    def best(self, steps: Sequence[int]) -> int | None:
        """Returns the best of the given steps; None where none of them has a score."""
        scored = [(self.scores[step], step) for step in steps if step in self.scores]
        return max(scored)[1] if scored else None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Returns for each checkpoint, in ascending order of steps, whether it stays."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self.latest :], self.best(steps)}
        return [step in kept for step in steps]


class Checkpoints:
    """The checkpoints in `workdir/checkpoints`, saved in the background; a save appears whole or not at all.

    Which one is the best is read off the validation rows of metrics.jsonl, so that a checkpoint can be saved before
    it is evaluated. With several processes all of them take part, and all must see the same workdir.
    """

    def __init__(self, workdir: str, *, keep_last: int = 2, read_only: bool = False):
        self._workdir = epath.Path(workdir).expanduser().resolve()
        folder = self._workdir / FOLDER
        if read_only and not folder.exists():
            raise InputError(f"no checkpoint in {self._workdir}; allowed: the --workdir of a training run")
        self._policy = LatestAndBest(keep_last)
        for row in read_rows(workdir):
            if row["split"] == "validation":
                self.score(row["step"], row)
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            preservation_policy=self._policy,
            # What a killed save has left.
            cleanup_tmp_directories=not read_only,
        )
        # With the handler named, the shapes in a checkpoint can be read before its arrays are.
        self._manager = ocp.CheckpointManager(folder, item_handlers=ocp.StandardCheckpointHandler(), options=options)

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Starts saving the state, and what JSON can hold of the progress made; InputError if the last save failed."""
        state = hosts.to_global(state)
        try:
            self._manager.save(step, args=ocp.args.StandardSave(state), custom_metadata=progress)
        except Exception as error:
            raise self._not_saved(error) from error

    def score(self, step: int, metrics: dict[str, float]) -> None:
        """Ranks the checkpoint of a step by its metrics on the validation split."""
        self._policy.scores[step] = metrics[BEST_METRIC]

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    def step_of(self, weights: str) -> int | None:
        """Returns the step of the "last" or "best" checkpoint, the later of equally good ones; None without any.

        Where no checkpoint has validation metrics, the best is the last.
        """
        if weights not in WEIGHTS:
            raise InputError(f"unknown weights '{weights}'; allowed: {', '.join(WEIGHTS)}")
        steps = self.steps()
        last = steps[-1] if steps else None
        return last if weights == "last" else self._policy.best(steps) or last

    def restore(self, step: int, like: TrainState, devices: Sequence[jax.Device] | None = None) -> TrainState:
        """Returns the state saved at `step`, on every device.

        Args:
          step: a step that was saved.
          like: state, abstract or not, that gives the structure, shapes and dtypes.
          devices: where to put every array; None takes the first local device.

        Raises:
          InputError: the checkpoint is damaged, or of a model or optimizer of another shape.
        """
        try:
            return self._restore(step, like, devices)
        except _Damaged as error:
            raise InputError(
                f"checkpoint {step} of {self._workdir} is damaged ({error}); start the training again, which goes on "
                "from the one before, or take other --weights"
            ) from error

    def restore_newest(self, like: TrainState, devices: Sequence[jax.Device]) -> Restored:
        """Returns the newest checkpoint that can be read; those after it are reported and moved out of the way.

        Raises:
          InputError: none can be read, or the newest is of a model or optimizer of another shape.
        """
        damaged = {}
        for step in reversed(self.steps()):
            try:
                state = self._restore(step, like, devices)
                restored = Restored(step, state, self._progress(step))
            except _Damaged as error:
                damaged[step] = str(error)
                continue
            for each, reason in damaged.items():
                log.warning(
                    "checkpoint %d is damaged (%s): moved to %s, going on from step %d",
                    each, reason, self._workdir / DAMAGED_FOLDER / str(each), step,
                )  # fmt: skip
            self._move_away(damaged)
            return restored
        reasons = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
        raise InputError(
            f"every checkpoint of {self._workdir} is damaged ({reasons}); restore a copy or take another --workdir"
        )

    def wait(self) -> None:
        """Blocks until what was handed to `save` is on disk; InputError if it cannot be."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def close(self) -> None:
        """Waits for the last save and lets go of the folder."""
        self._manager.close()

    def _restore(self, step: int, like: TrainState, devices: Sequence[jax.Device] | None) -> TrainState:
        wanted = hosts.abstract_global(like, devices)
        try:
            self._check_shapes(step, like)
            state = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
        except InputError:
            raise
        except Exception as error:  # Orbax, tensorstore and json raise a dozen types on damaged files
            raise _Damaged(first_line(error)[:200]) from error
        return hosts.to_local(state, devices)

    def _progress(self, step: int) -> dict[str, Any]:
        # Orbax only warns where the file that holds it is missing or cannot be read.
        progress = self._manager.metadata(step).custom_metadata
        if not progress:
            raise _Damaged("how far it came is missing from _CHECKPOINT_METADATA")
        return dict(progress)

    def _check_shapes(self, step: int, like: TrainState) -> None:
        """Raises InputError where the saved arrays are not those of `like`, which is no damage."""
        trees = (self._manager.item_metadata(step).tree, ocp.tree.serialize_tree(like))
        saved, wanted = (
            {
                jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
                # Orbax describes an empty dict or tuple by a leaf without a shape.
                if getattr(leaf, "shape", None) is not None
            }
            for tree in trees
        )
        if differing := sorted(name for name in saved | wanted if saved.get(name) != wanted.get(name)):
            name = differing[0]
            raise InputError(
                f"checkpoint {step} of {self._workdir} is of another model or optimizer: {name} is "
                f"{saved.get(name, 'absent')} there, {wanted.get(name, 'absent')} by the config; allowed: the model "
                "and the trainable part it was begun with, or another --workdir"
            )

    def _move_away(self, steps: Sequence[int]) -> None:
        if steps and hosts.is_first():
            folder = self._workdir / DAMAGED_FOLDER
            folder.mkdir(exist_ok=True)
            for step in steps:
                target = folder / str(step)
                if target.exists():
                    target.rmtree()
                (self._workdir / FOLDER / str(step)).rename(target)
        if steps:
            hosts.wait_for_all("damaged checkpoints are moved")
            self._manager.reload()

    def _not_saved(self, error: Exception) -> InputError:
        return InputError(
            f"a checkpoint cannot be written to {self._workdir / FOLDER} ({_reason(error)}); those before are whole: "
            "make room or mend the folder, and start again to go on from there"
        )


class _Damaged(Exception):
    """A checkpoint cannot be read."""


def _reason(error: BaseException) -> str:
    """Returns what the file system said, which tensorstore buries in a line of its own sources and addresses."""
    text = str(error)
    for reason in (
        "No space left on device",
        "Disk quota exceeded",
        "Permission denied",
        "Read-only file system",
        "File too large",
    ):
        if reason in text:
            return reason
    return first_line(error)[:200]


def latest_step(workdir: str) -> int | None:
    """Returns the step of the newest checkpoint of a workdir; None without any, and nothing is created."""
    folder = epath.Path(workdir).expanduser() / FOLDER
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.exists() else None
