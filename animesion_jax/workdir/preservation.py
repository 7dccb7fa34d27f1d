"""Which checkpoints stay: the last ones and the best."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orbax.checkpoint.checkpoint_managers import PreservationPolicy

BEST_METRIC = "top1_accuracy"


@dataclass
class LatestAndBest(PreservationPolicy):
    """Keeps the last `latest` checkpoints and the best of those with a score; the later of equals.

    A score is (whether the checkpoint is of the last stage, accuracy). Earlier stages only prepare the last one, which
    may have the lower accuracy: one that balances the classes trades frequent characters for rare ones.
    """

    latest: int
    scores: dict[int, tuple[bool, float]] = field(default_factory=dict)

    def best(self, steps: Sequence[int]) -> int | None:
        """Returns the best of the given steps; None if none of them has a score."""
        scored = [(self.scores[step], step) for step in steps if step in self.scores]
        return max(scored)[1] if scored else None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Returns for each checkpoint, in ascending order of steps, whether to keep it."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self.latest :], self.best(steps)}
        return [step in kept for step in steps]
