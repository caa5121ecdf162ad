"""The two callables that training a language model receives: its loss and its evaluator."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from regard.data.stream import StreamBatches, TextBatch, TokenStream
from regard.models import Decoder
from regard.tasks.next_token import NextTokenLoss
from regard.training.averaging import WeightAverage
from regard.training.loop import Evaluation

EVALUATED_TOKENS = 4096  # in a batch of an evaluation


class LanguageModelLoss(NextTokenLoss):
    """The training objective: cross-entropy of the next token of running text."""

    nothing = -1

    def hidden(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``."""
        assert isinstance(model, Decoder)
        if batch.before is None:
            return model.hidden(batch.ids)
        return model.hidden_after(batch.before, batch.ids)


class LanguageModelEvaluator:
    """Evaluates averaged weights by the loss on held-out text.

    Args:
        model: Whose copy is evaluated, in its compute type throughout.
        stream: Token ids of the text.
        length: Of a segment, in tokens; the first tokens of each have little before them.
        num_bytes: Of the text.
    """

    def __init__(
        self, model: Decoder[Any], stream: TokenStream, *, length: int, num_bytes: int
    ) -> None:
        self._copy = copy.deepcopy(model).to(model.compute_dtype).eval()
        self._batches = evaluation_batches(model, stream, length)
        self._num_bytes = num_bytes

    def __call__(self, average: WeightAverage) -> Evaluation:
        """Evaluate the averaged weights."""
        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                parameter.copy_(average.tensors[name])
        measures = text_measures(self._copy, self._batches, self._num_bytes)
        return Evaluation(measures=measures, score_name="loss", is_loss=True)


def evaluation_batches(model: Decoder[Any], stream: TokenStream, length: int) -> StreamBatches:
    """Lay a text out for an evaluation, with the memory that the model's family has."""
    return StreamBatches(
        stream, length=length, batch_tokens=EVALUATED_TOKENS, context=model.memory_length
    )


@torch.no_grad()
def text_measures(model: nn.Module, batches: StreamBatches, num_bytes: int) -> dict[str, float]:
    """Measure how well a model predicts a text.

    Args:
        model: In evaluation mode.
        batches: Of the text.
        num_bytes: Of the text in UTF-8.

    Returns:
        ``loss`` in nats a token, ``perplexity``, its exponential, and ``bits_per_byte``, which
        does not depend on the vocabulary.
    """
    objective, total, num_tokens = LanguageModelLoss(label_smoothing=0.0), 0.0, 0
    for rows in batches.in_sequence():
        found = objective(model, batches.batch(rows))
        total += float(found.nll) * found.num_tokens
        num_tokens += found.num_tokens
    loss = total / num_tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": total / math.log(2) / num_bytes,
    }
