"""Inference with a trained classifier that gives a text any number of labels."""

from __future__ import annotations

from torch import Tensor

from regard.data.labeled_text import LabeledTextBatches, LabeledTexts
from regard.data.multi_labeled_text import MultiLabeledTexts, check_known_label_sets
from regard.data.readers.source import DataSource
from regard.errors import ConfigError
from regard.models.base.checkpoint_format import USUAL_THRESHOLD
from regard.settings.validation import require_number
from regard.tasks.classification.predictor import (
    CLASSIFIED_TOKENS,
    Classification,
    TextClassifier,
)
from regard.tasks.multi_label_classification.data import read_held_out_texts

THRESHOLD = "label_threshold"
"""The name of the threshold in ``calibration.json``."""


class MultiLabelClassifier(TextClassifier):
    """A classifier that gives a text every label whose probability is above a threshold."""

    _threshold: float = USUAL_THRESHOLD

    @property
    def threshold(self) -> float:
        """Probability above which a text has a label; that of the best F1 on validation data.

        Raises:
            ConfigError: It is set to something else than a number from 0 to 1.
        """
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        require_number("threshold", value)
        if not 0 <= value <= 1:
            raise ConfigError(f"`threshold`: a number from 0 to 1 was expected, not {value}.")
        self._threshold = float(value)

    @staticmethod
    def probabilities_of(logits: Tensor) -> Tensor:
        """Compute the probability of each label from its logit, both ``[batch, labels]``."""
        return logits.sigmoid()

    def result_of(self, probabilities: dict[str, float], truncated: int) -> Classification:
        """Return the labels of a text.

        Args:
            probabilities: Of all labels, most probable first.
            truncated: Tokens of the text that were cut off.
        """
        labels = tuple(name for name, value in probabilities.items() if value > self.threshold)
        return Classification(
            label=labels[0] if labels else "",
            probability=next(iter(probabilities.values())),
            probabilities=probabilities,
            labels=labels,
            truncated=truncated,
        )

    def batches(
        self, rows: LabeledTexts, *, batch_tokens: int = CLASSIFIED_TOKENS, seed: int = 0
    ) -> LabeledTextBatches:
        """Arrange texts with any number of labels in batches of at most `batch_tokens` tokens."""
        assert isinstance(rows, MultiLabeledTexts)
        return self._batches(rows.texts, rows.targets(self.labels), batch_tokens, seed)

    def read_test(self, data: DataSource) -> MultiLabeledTexts:
        """Read texts with any number of labels; raise DataError where they cannot be used."""
        rows = read_held_out_texts(data, self.config.data)
        train_path = self.config.data.path or "the training data"
        check_known_label_sets(rows, self.labels, train_path)
        return rows
