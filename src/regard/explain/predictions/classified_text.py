"""The label that a classifier gives a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.explain.prediction import (
    Baseline,
    ClassPrediction,
    Stack,
    replace_outputs,
    weaken,
)
from regard.explain.predictions.reference_tokens import (
    embed_baseline,
    reference_id,
    replace_tokens,
    split_special,
    token_features,
)
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Classifier


class ClassifiedText(ClassPrediction):
    """A label, predicted from all tokens of a text.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        labels: Names of the labels, in the order of the logits.
        ids: Token ids of the text with its special tokens.
        label: The label that is explained, an index; None is the most probable.
        contrast: The label that it is compared with, an index; None compares with nothing.
    """

    first_method = "integrated_gradients"
    model: Classifier

    def __init__(
        self,
        model: Classifier,
        tokenizer: AnyTokenizer,
        labels: Sequence[str],
        ids: Sequence[int],
        *,
        label: int | None = None,
        contrast: int | None = None,
    ) -> None:
        self._labels, self._ids = tuple(labels), torch.tensor([ids])
        self._lengths = torch.tensor([len(ids)])
        begin, row, end = split_special(tokenizer, ids)
        features = token_features(tokenizer, row, "text", before=begin, after=end)
        self._reference_ids = replace_tokens(self._ids, features, reference_id(tokenizer))
        self.model = model
        self.refresh()
        if label is None:
            with torch.inference_mode():
                label = int(self._logits(self._ids, self._lengths).argmax())
        readout = torch.full((1, len(ids)), 1 / len(ids))
        if model.encoder.config.pooling == "first":
            readout = torch.eye(1, len(ids))
        super().__init__(
            model,
            tuple(features),
            output_classes=torch.tensor([label]),
            contrast=None if contrast is None else torch.tensor([contrast]),
            stacks=(Stack("encoder", tuple(model.layers()), 0, len(ids)),),
            readout=readout,
        )

    def refresh(self) -> None:
        """Embed the reference tokens by the weights of the model as they are now."""
        baselines = embed_baseline(
            self.model.embedded_inputs(),
            lambda: self._logits(self._reference_ids, self._lengths),
        )
        self._baseline = baselines["text"]

    def _logits(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Compute the logits of the labels, ``[batch, labels]``, on the model's device."""
        device = self.model.device
        return self.model(ids.to(device), lengths=lengths.to(device)).cpu()

    def class_text(self, index: int) -> str:
        """Return a label."""
        return self._labels[index]

    def log_probabilities(
        self,
        weights: Tensor,
        *,
        baseline: Baseline = "reference",
        outputs: Tensor | None = None,
    ) -> Tensor:
        """Compute log-probabilities of all labels; see `ClassPrediction`."""
        rows = len(weights)
        (layer,) = self.model.embedded_inputs().values()
        vector = self._baseline if baseline == "reference" else torch.zeros_like(self._baseline)
        with replace_outputs({layer: lambda embeddings: weaken(embeddings, weights, vector)}):
            logits = self._logits(self._ids.expand(rows, -1), self._lengths.expand(rows))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_probabilities = self._normalize(logits)  # [rows, labels]
        return log_probabilities if outputs is not None else log_probabilities[:, None]

    @staticmethod
    def _normalize(logits: Tensor) -> Tensor:
        """Return log-probabilities from logits, both of shape ``[rows, labels]``."""
        return logits.log_softmax(-1)


class MultiLabeledText(ClassifiedText):
    """A label of a text that may have any number of them, each with a probability of its own."""

    @staticmethod
    def _normalize(logits: Tensor) -> Tensor:
        """Return log-probabilities from logits, both of shape ``[rows, labels]``."""
        return F.logsigmoid(logits)
