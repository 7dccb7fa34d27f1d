"""Checkpoints of a run, by Orbax: the last ones, and the best by validation top-1.

A checkpoint has two items: `WEIGHTS`, the variables that are evaluated and exported, and `REST`, which training also
needs to resume. So `evaluate` and `export` read the weights alone.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from animesion_jax import distributed
from animesion_jax.errors import InputError, Stopped
from animesion_jax.workdir.faults import Damaged, check_shapes, os_error, reading, writing
from animesion_jax.workdir.lock import check_path
from animesion_jax.workdir.names import REST, WEIGHTS
from animesion_jax.workdir.preservation import BEST_METRIC, LatestAndBest
from animesion_jax.workdir.rows import read_rows

FOLDER = "checkpoints"
# Unreadable checkpoints are moved here, for inspection.
DAMAGED_FOLDER = "damaged_checkpoints"
CHOICES = ("best", "last")

log = logging.getLogger(__name__)

# Arrays by item, as trees of arrays or of `jax.ShapeDtypeStruct`.
Items = dict[str, Any]


class Restored(NamedTuple):
    """A checkpoint that was read: its step, arrays and the JSON that was saved with them."""

    step: int
    items: Items
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints in `workdir/checkpoints`, saved in the background, each atomically.

    The validation rows of metrics.jsonl decide which one is the best, so save a checkpoint before it is evaluated. With
    several processes, all of them call every method and share the workdir.
    """

    def __init__(self, workdir: str, *, keep_last: int = 2, read_only: bool = False, last_stage_epoch: float = 0.0):
        """Opens the folder.

        Args:
          workdir: of the run; InputError if it cannot be written to, or is `read_only` and has no checkpoints.
          keep_last: how many checkpoints to keep besides the best.
          read_only: whether to change nothing in the folder.
          last_stage_epoch: number of epochs before the last stage.
        """
        self._workdir = check_path(workdir)
        folder = self._workdir / FOLDER
        if read_only and not folder.exists():
            raise InputError(f"no checkpoint in {self._workdir}; allowed: the --workdir of a training run")
        self._policy = LatestAndBest(keep_last)
        self._last_stage_epoch = last_stage_epoch
        self._failure: InputError | None = None
        for row in read_rows(workdir):
            if row["split"] == "validation" and BEST_METRIC in row:
                self.score(row["step"], row["epoch"], row)
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            preservation_policy=self._policy,
            cleanup_tmp_directories=not read_only,  # left by killed saves
        )
        handlers = {item: ocp.StandardCheckpointHandler() for item in (WEIGHTS, REST)}
        with writing(workdir):
            self._manager = ocp.CheckpointManager(folder, item_handlers=handlers, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if kind is None or issubclass(kind, Stopped):
            self.close()
        else:
            # The first error is the one that the user has to see.
            with contextlib.suppress(InputError):
                self.close()

    def save(self, step: int, items: Items, progress: dict[str, Any]) -> None:
        """Starts saving arrays, and JSON about the progress; InputError if this or the last save failed."""
        items = {item: ocp.args.StandardSave(distributed.to_global(tree)) for item, tree in items.items()}
        with self._naming_failure():
            self._manager.save(step, args=ocp.args.Composite(**items), custom_metadata=progress)

    def score(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        """Ranks the checkpoint of a step, `epoch` epochs from the start, by its validation metrics."""
        self._policy.scores[step] = (epoch > self._last_stage_epoch, metrics[BEST_METRIC])

    def steps(self) -> list[int]:
        """Returns the steps of all checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    def step_of(self, choice: str, without: Sequence[int] = ()) -> int | None:
        """Returns the step of the "last" or "best" checkpoint, the later of equals; None without any.

        If no checkpoint has validation metrics, the best is the last. Steps in `without` do not count.
        """
        if choice not in CHOICES:
            raise InputError(f"unknown weights '{choice}'; allowed: {', '.join(CHOICES)}")
        steps = [step for step in self.steps() if step not in without]
        last = steps[-1] if steps else None
        return last if choice == "last" else self._policy.best(steps) or last

    def restore(self, step: int, like: Items) -> Items:
        """Returns the items of `like`, by shape and dtype, that were saved at a step; other items are not read.

        Raises:
          InputError: the checkpoint is damaged or deleted, or of a model or optimizer of another shape.
        """
        try:
            return self._restore(step, like, None)
        except Exception as error:
            if not (self._workdir / FOLDER / str(step)).exists():
                raise InputError(
                    f"checkpoint {step} of {self._workdir} was deleted while it was read, by a training that is "
                    "running there; try again"
                ) from error
            if not isinstance(error, Damaged):
                raise
            raise InputError(
                f"checkpoint {step} of {self._workdir} is damaged ({error}); take other --weights, or start the "
                "training again: it resumes from the newest intact one"
            ) from error

    def restore_newest(self, like: Callable[[int], Items], devices: Sequence[jax.Device]) -> Restored:
        """Returns the newest readable checkpoint; reports later ones and moves them to `DAMAGED_FOLDER`.

        Args:
          like: from a step to the structure, shapes and dtypes of the items saved there.
          devices: where to put every array.

        Raises:
          InputError: none is readable, or the newest is of a model or optimizer of another shape.
        """
        restored = self._first_whole(sorted(self.steps(), reverse=True), like, devices)
        # Rows after it will be written again.
        self._policy.scores = {step: score for step, score in self._policy.scores.items() if step <= restored.step}
        return restored

    def restore_weights(self, choice: str, like: Any, devices: Sequence[jax.Device]) -> tuple[int, Any]:
        """Returns step and weights of the "last" or "best" checkpoint; if damaged, of the next in that order."""
        ranking = []
        while len(ranking) < len(self.steps()):
            ranking.append(self.step_of(choice, ranking))
        restored = self._first_whole(ranking, lambda _: {WEIGHTS: like}, devices)
        return restored.step, restored.items[WEIGHTS]

    def wait(self) -> None:
        """Blocks until every save is on disk; InputError if one failed."""
        with self._naming_failure():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and releases the folder; InputError if the save failed."""
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        """Turns an error of the file system in the block into an InputError, and raises it again at every later call.

        Orbax reports a failed save only once.
        """
        if self._failure:
            raise self._failure
        try:
            yield
        except Exception as error:
            reason = os_error(error)
            if reason is None:
                raise
            self._failure = InputError(
                f"a checkpoint cannot be written to {self._workdir / FOLDER} ({reason}); earlier checkpoints are "
                "intact; free disk space or fix the folder's permissions, and start again to resume from them"
            )
            raise self._failure from error

    def _first_whole(
        self, steps: Sequence[int], like: Callable[[int], Items], devices: Sequence[jax.Device]
    ) -> Restored:
        damaged = {}
        for step in steps:
            reason, restored = "", None
            try:
                restored = Restored(step, self._restore(step, like(step), devices), self._progress(step))
            except Damaged as error:
                reason = str(error)
            if not distributed.any_process(restored is None):
                self._move_away(damaged, step)
                return restored
            damaged[step] = reason or "another process cannot read it"
        which = f"{', '.join(map(str, damaged))}: {'; '.join(dict.fromkeys(damaged.values()))}"
        raise InputError(
            f"every checkpoint of {self._workdir} is damaged ({which}); restore a copy or take another --workdir"
        )

    def _restore(self, step: int, like: Items, devices: Sequence[jax.Device] | None) -> Items:
        wanted = {item: distributed.abstract_global(tree, devices) for item, tree in like.items()}
        with reading():
            for item, tree in like.items():
                check_shapes(self._workdir / FOLDER / str(step) / item, tree)
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore(tree) for item, tree in wanted.items()})
            items = self._manager.restore(step, args=args)
        return {item: distributed.to_local(items[item], devices) for item in like}

    def _progress(self, step: int) -> dict[str, Any]:
        metadata = self._manager.metadata(step)
        # Orbax only warns about a missing or unreadable file.
        if metadata.init_timestamp_nsecs is None:
            raise Damaged("_CHECKPOINT_METADATA is missing or unreadable")
        return dict(metadata.custom_metadata)

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


def latest_step(workdir: str) -> int | None:
    """Returns the step of the newest checkpoint of a workdir, None without any; creates nothing."""
    folder = check_path(workdir) / FOLDER
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.exists() else None
