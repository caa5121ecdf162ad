"""The label that a classifier gives an image, a recording or a series."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.explain.prediction import Baseline, ClassPrediction, Feature, Stack
from regard.models import Vit, VitConfig


class ClassifiedInput(ClassPrediction):
    """A label, predicted from the patches of an image or the rows of a recording or series.

    Features weaken towards the mean of the training data, 0 in standardized values; this is both
    baselines.

    Args:
        model: In evaluation mode.
        labels: Names of the labels, in the order of the logits.
        inputs: Standardized, ``[1, channels, height, width]`` or ``[1, length, features]``.
        label: The label that is explained, an index; None is the most probable.
        contrast: The label that it is compared with, an index; None compares with nothing.
        seconds_per_row: From one row of a recording to the next; None names rows by number.
    """

    model: Vit

    def __init__(
        self,
        model: Vit,
        labels: Sequence[str],
        inputs: Tensor,
        *,
        label: int | None = None,
        contrast: int | None = None,
        seconds_per_row: float | None = None,
    ) -> None:
        self._labels, self._inputs, config = tuple(labels), inputs.to(model.device), model.config
        names = _feature_names(config, inputs.shape[1], seconds_per_row)
        part = "image" if config.input == "image" else "rows"
        features = [Feature("class token", part, is_special=True)]
        features += [Feature(name, part) for name in names]
        if label is None:
            with torch.inference_mode():
                label = int(model(self._inputs).argmax())
        readout = torch.eye(1, len(features))  # [1, positions]
        if config.pooling != "first":
            readout = (1 - readout) / len(names)
        super().__init__(
            model,
            tuple(features),
            output_classes=torch.tensor([label]),
            contrast=None if contrast is None else torch.tensor([contrast]),
            stacks=(Stack("encoder", tuple(model.layers()), 0, len(features)),),
            readout=readout,
        )

    def class_text(self, index: int) -> str:
        """Return a label."""
        return self._labels[index]

    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",  # noqa: ARG002 - zeros are the mean of training
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities of all labels; see `ClassPrediction`."""
        config = self.model.config
        weights = weights.mean(-1) if weights.dim() == 3 else weights
        weights = weights[:, 1:]  # without the class token
        if config.input == "image":
            rows = config.height // config.patch_height
            weights = weights.unflatten(1, (rows, -1))
            weights = weights.repeat_interleave(config.patch_height, 1)
            weights = weights.repeat_interleave(config.patch_width, 2)[:, None]
        else:
            weights = weights[..., None]
        logits = self.model(self._inputs * weights.to(self._inputs))
        logits = logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))
        log_probabilities = logits.log_softmax(-1)  # [rows, labels]
        return log_probabilities if outputs is not None else log_probabilities[:, None]


def _feature_names(config: VitConfig, num_rows: int, seconds_per_row: float | None) -> list[str]:
    """Return the names of the patches of an image, or of the rows of another input."""
    if config.input == "image":
        across = config.width // config.patch_width
        return [
            f"patch {1 + index // across}, {1 + index % across}"
            for index in range(config.num_positions)
        ]
    if seconds_per_row is not None:
        return [f"{index * seconds_per_row:.2f} s" for index in range(num_rows)]
    return [f"row {1 + index}" for index in range(num_rows)]
