"""A prediction with a part of its outputs, where all of them would take too long."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regard.explain.prediction import Baseline, Prediction


class SelectedOutputs(Prediction):
    """Some outputs of a prediction.

    Args:
        prediction: The whole.
        indices: Indices of the outputs, ``[n]``.
    """

    def __init__(self, prediction: Prediction, indices: Tensor) -> None:
        self._prediction, self._indices = prediction, indices
        self.unit = prediction.unit
        num_computed = len(prediction.outputs) * prediction.num_values  # also where not selected
        self.num_values = math.ceil(num_computed / max(len(indices), 1))
        super().__init__(
            prediction.model,
            prediction.features,
            tuple(prediction.outputs[index] for index in indices.tolist()),
            stacks=prediction.stacks,
            readout=prediction.readout[indices],
        )

    @property
    def reads(self) -> Tensor:
        """Which features each output depends on, ``[outputs, features]``."""
        return self._prediction.reads[self._indices]

    def refresh(self) -> None:
        """Compute again what depends on the weights of the model."""
        self._prediction.refresh()

    def scores(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute the scores of these outputs; see `Prediction`."""
        if outputs is None:
            scores = self._prediction.scores(weights, baseline=baseline)
            return scores[:, self._indices]  # [rows, outputs]
        return self._prediction.scores(weights, baseline=baseline, outputs=self._indices[outputs])

    def effect_scale(self, scores: Tensor) -> Tensor:
        """Return scores on the scale on which faithfulness compares them."""
        return self._prediction.effect_scale(scores)


def spread_indices(count: int, most: int) -> Tensor:
    """Return evenly spread indices, the first and the last among them, all where they are few.

    Args:
        count: Number of all indices.
        most: Most of them, 1 or more.

    >>> spread_indices(10, 4).tolist()
    [0, 3, 6, 9]
    >>> spread_indices(3, 4).tolist()
    [0, 1, 2]
    """
    if count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most).round().long()
