"""A prediction whose outputs are taken together: one score for the probability of all of them."""

from __future__ import annotations

from torch import Tensor

from regard.explain.prediction import Baseline, Output, Prediction


class WholeOutput(Prediction):
    """All outputs of a prediction as one, whose score is the sum of theirs.

    Args:
        prediction: The parts.
    """

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self.unit = prediction.unit
        self.num_values = len(prediction.outputs) * prediction.num_values
        text = "".join(output.text for output in prediction.outputs)
        total = sum(output.score for output in prediction.outputs)
        super().__init__(
            prediction.model,
            prediction.features,
            (Output(text=text, score=total),),
            stacks=prediction.stacks,
            readout=prediction.readout.mean(0, keepdim=True),
        )

    @property
    def reads(self) -> Tensor:
        """Which features any output depends on, ``[1, features]``."""
        return self._prediction.reads.any(0, keepdim=True)

    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute the sum of the scores of all outputs; see `Prediction`."""
        total = self._prediction.scores(weights, baseline=baseline).sum(-1)  # [rows]
        return total[:, None] if outputs is None else total  # [rows, 1]: one output
