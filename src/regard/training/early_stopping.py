"""Early stopping: a run ends when evaluations no longer improve (Prechelt 1998).

A gain is the best score so far, or a validation loss clearly below the lowest so far: a score such
as chrF is noise while a model is untrained, and its loss falls nevertheless. Of two equal scores
the one with the lower loss is better: the chrF of an untrained model is often exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from regard.training.checkpoint import Counters

_MIN_GAIN = 1e-3  # of the validation loss, relative


@dataclass(frozen=True)
class EarlyStopping:
    """Counts evaluations without a gain; its state is in the counters of the checkpoint.

    Args:
        patience: Evaluations without a gain after which a run ends; None never ends one.
        min_steps: Fewest steps without a gain after which it ends. A pass over few rows is a few
            steps, too few to learn from, above all while the learning rate still rises.
    """

    patience: int | None
    min_steps: int = 0

    def should_stop(self, counters: Counters) -> bool:
        """Return whether patience is exhausted."""
        if self.patience is None or counters.evaluations_without_gain < self.patience:
            return False
        return counters.step - counters.gained_step >= self.min_steps

    def update(self, counters: Counters, score: float, loss: float | None) -> bool:
        """Count an evaluation.

        Args:
            counters: Of the run; they are changed.
            score: The figure that decides; higher is better.
            loss: On the validation data; None where none is measured.

        Returns:
            Whether the evaluation is the best so far.
        """
        is_higher = counters.best_score is None or score > counters.best_score
        best_loss = counters.best_measures.get("loss")
        is_best = is_higher or (
            score == counters.best_score
            and loss is not None
            and best_loss is not None
            and loss < best_loss
        )
        lowest = counters.lowest_loss
        is_lower = loss is not None and (lowest is None or loss < (1 - _MIN_GAIN) * lowest)
        if is_lower:
            counters.lowest_loss = loss
        if is_best:
            counters.best_score, counters.best_step = score, counters.step
        gained = is_higher or is_lower  # a loss that is hardly lower is not a gain
        counters.evaluations_without_gain = 0 if gained else counters.evaluations_without_gain + 1
        if gained:
            counters.gained_step = counters.step
        return is_best
