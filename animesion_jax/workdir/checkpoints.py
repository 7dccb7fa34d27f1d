"""Checkpoints of a run, by Orbax: the last ones, and the best by validation top-1."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from animesion_jax import distributed
from animesion_jax.errors import InputError, Stopped, first_line
from animesion_jax.training.state import TrainState
from animesion_jax.workdir.metrics_log import read_rows

FOLDER = "checkpoints"
# Where checkpoints that cannot be read are moved to, for whoever wants to look at them.
DAMAGED_FOLDER = "damaged_checkpoints"
# Where Orbax puts the arrays of a checkpoint that has nothing else.
ITEM = "default"
BEST_METRIC = "top1_accuracy"
# What tensorstore and XLA say where a checkpoint may well be whole.
NO_DAMAGE = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "PERMISSION_DENIED", "UNAUTHENTICATED", "DEADLINE_EXCEEDED")
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
    """Keeps the last `latest` checkpoints and the best of those that have a score, the later of equally good ones.

    A score is a pair, of whether the checkpoint is of the second stage, and its accuracy: the first stage only leads up
    to the second, which may well have the lower accuracy over all images, for it gives every character the same weight.
    """

    latest: int
    scores: dict[int, tuple[bool, float]] = field(default_factory=dict)

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
    it is evaluated; as soon as there are some of the second stage (config.rebalance_epochs), after
    `first_stage_epochs`, it is one of those. With several processes all of them take part, and all must see the same
    workdir.
    """

    def __init__(
        self, workdir: str, *, keep_last: int = 2, read_only: bool = False, first_stage_epochs: float = math.inf
    ):
        self._workdir = epath.Path(workdir).expanduser().resolve()
        folder = self._workdir / FOLDER
        if read_only and not folder.exists():
            raise InputError(f"no checkpoint in {self._workdir}; allowed: the --workdir of a training run")
        self._policy = LatestAndBest(keep_last)
        self._first_stage_epochs = first_stage_epochs
        self._failure: InputError | None = None
        for row in read_rows(workdir):
            if row["split"] == "validation":
                self.score(row["step"], row["epoch"], row)
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            preservation_policy=self._policy,
            # What a killed save has left.
            cleanup_tmp_directories=not read_only,
        )
        # With the handler named, the shapes in a checkpoint can be read before its arrays are.
        self._manager = ocp.CheckpointManager(folder, item_handlers=ocp.StandardCheckpointHandler(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if kind is None or issubclass(kind, Stopped):
            self.close()
        else:
            # What went wrong before is what the user has to know.
            with contextlib.suppress(Exception):
                self.close()

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Starts saving the state, and what JSON can hold of the progress made; InputError if the last save failed."""
        arrays = distributed.to_global(state.arrays)
        with self._naming_failure():
            self._manager.save(step, args=ocp.args.StandardSave(arrays), custom_metadata=progress)

    def score(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        """Ranks the checkpoint of a step, `epoch` epochs from the beginning, by its metrics on the validation split."""
        self._policy.scores[step] = (epoch > self._first_stage_epochs, metrics[BEST_METRIC])

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    def step_of(self, weights: str, without: Sequence[int] = ()) -> int | None:
        """Returns the step of the "last" or "best" checkpoint, the later of equally good ones; None without any.

        Where no checkpoint has validation metrics, the best is the last. Steps of `without` do not count.
        """
        if weights not in WEIGHTS:
            raise InputError(f"unknown weights '{weights}'; allowed: {', '.join(WEIGHTS)}")
        steps = [step for step in self.steps() if step not in without]
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
                f"checkpoint {step} of {self._workdir} is damaged ({error}); take other --weights, or start the "
                "training again, which goes on from the newest whole one"
            ) from error

    def restore_newest(self, like: TrainState, devices: Sequence[jax.Device]) -> Restored:
        """Returns the newest checkpoint that can be read; those after it are reported and moved out of the way.

        Raises:
          InputError: none can be read, or the newest is of a model or optimizer of another shape.
        """
        restored = self._first_whole(sorted(self.steps(), reverse=True), like, devices)
        # Rows after it will be written again.
        self._policy.scores = {step: score for step, score in self._policy.scores.items() if step <= restored.step}
        return restored

    def restore_weights(self, weights: str, like: TrainState, devices: Sequence[jax.Device]) -> Restored:
        """Returns the "last" or "best" checkpoint, or the next in that order where it is damaged, which is reported."""
        ranking = []
        while len(ranking) < len(self.steps()):
            ranking.append(self.step_of(weights, ranking))
        return self._first_whole(ranking, like, devices)

    def wait(self) -> None:
        """Blocks until what was handed to `save` is on disk; InputError if it cannot be."""
        with self._naming_failure():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save, InputError if it failed, and lets go of the folder."""
        try:
            self.wait()
        finally:
            # Orbax may raise here what `wait` has raised already.
            with contextlib.suppress(Exception):
                self._manager.close()

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        """Turns what Orbax raises within into an InputError, and goes on to raise that: Orbax tells only once."""
        if self._failure:
            raise self._failure
        try:
            yield
        except Exception as error:
            self._failure = InputError(
                f"a checkpoint cannot be written to {self._workdir / FOLDER} ({_reason(error)}); those before are "
                "whole: make room or mend the folder, and start again to go on from there"
            )
            raise self._failure from error

    def _first_whole(self, steps: Sequence[int], like: TrainState, devices: Sequence[jax.Device]) -> Restored:
        damaged = {}
        for step in steps:
            reason, restored = "", None
            try:
                restored = Restored(step, self._restore(step, like, devices), self._progress(step))
            except _Damaged as error:
                reason = str(error)
            if not distributed.any_process(restored is None):
                self._move_away(damaged, step)
                return restored
            damaged[step] = reason or "another process cannot read it"
        reasons = "; ".join(dict.fromkeys(damaged.values()))
        which = f"{', '.join(map(str, damaged))}: {reasons}"
        raise InputError(
            f"every checkpoint of {self._workdir} is damaged ({which}); restore a copy or take another --workdir"
        )

    def _restore(self, step: int, like: TrainState, devices: Sequence[jax.Device] | None) -> TrainState:
        wanted = distributed.abstract_global(like.arrays, devices)
        try:
            if not (self._workdir / FOLDER / str(step) / ITEM).exists():
                raise FileNotFoundError("its arrays are missing")
            self._check_shapes(step, like)
            arrays = self._manager.restore(step, args=ocp.args.StandardRestore(wanted))
        except (InputError, MemoryError, PermissionError, ConnectionError, TimeoutError):
            raise
        except Exception as error:  # Orbax, tensorstore and json raise a dozen types on damaged files
            if any(passing in str(error) for passing in NO_DAMAGE):
                raise
            raise _Damaged(first_line(error)[:200]) from error
        return TrainState(**distributed.to_local(arrays, devices))

    def _progress(self, step: int) -> dict[str, Any]:
        metadata = self._manager.metadata(step)
        # Orbax only warns where the file that holds it is missing or cannot be read, and then knows nothing.
        if metadata.init_timestamp_nsecs is None:
            raise _Damaged("_CHECKPOINT_METADATA is missing or cannot be read")
        # Checkpoints of earlier versions have none, and are of the ends of epochs.
        return dict(metadata.custom_metadata or {})

    def _check_shapes(self, step: int, like: TrainState) -> None:
        """Raises InputError where the saved arrays are not those of `like`, which is no damage."""
        trees = (self._manager.item_metadata(step).tree, ocp.tree.serialize_tree(like.arrays, keep_empty_nodes=True))
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

    def _move_away(self, damaged: dict[int, str], used: int) -> None:
        """Reports damaged checkpoints, {step: reason}, and moves them to `DAMAGED_FOLDER`."""
        if not damaged:
            return
        folder = self._workdir / DAMAGED_FOLDER
        if distributed.is_first():
            folder.mkdir(exist_ok=True)
            for step in damaged:
                target = folder / str(step)
                if target.exists():
                    target.rmtree()
                (self._workdir / FOLDER / str(step)).rename(target)
        for step, reason in damaged.items():
            log.warning("checkpoint %d is damaged (%s): moved to %s, taking %d", step, reason, folder / str(step), used)
        distributed.wait_for_all("damaged checkpoints are moved")
        self._manager.reload()


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
