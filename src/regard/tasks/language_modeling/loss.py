"""The loss of a language model, and its measures of a text."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regard.data.token_stream import StreamBatches, TextBatch, TokenStream
from regard.models import Decoder
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World
from regard.training.evaluation_loop import total_loss
from regard.training.token_loss import TokenLoss

EVALUATED_TOKENS = 4096  # in a batch of an evaluation
_LARGEST_EXPONENT = 700.0  # exp is finite in float64
_MOST_LOGITS = 1 << 24  # computed together: 64 MB


class LanguageModelLoss(TokenLoss[Decoder]):
    """Cross-entropy of the next token of running text."""

    ignore_index = -1

    def hidden_states(self, model: Decoder, batch: TextBatch) -> Tensor:
        """Compute the last hidden states, ``[batch, length, dim]``."""
        batch = move_batch(batch, model)
        if batch.before is None:
            return model.hidden_states(batch.ids)
        return model.hidden_states_after(batch.before, batch.ids)


def evaluation_batches(model: Decoder, stream: TokenStream, length: int) -> StreamBatches:
    """Cut a text into segments of `length` tokens, with the memory of the model's family."""
    return StreamBatches(
        stream, length=length, batch_tokens=EVALUATED_TOKENS, context=model.memory_length
    )


def perplexity(loss: float) -> float:
    """Compute the exponential of a mean loss in nats, large but finite."""
    return math.exp(min(loss, _LARGEST_EXPONENT))


def text_measures(
    model: Decoder, batches: StreamBatches, num_bytes: int, world: World = ALONE
) -> dict[str, float]:
    """Compute how well a model predicts a text.

    Args:
        model: Model in evaluation mode.
        batches: The segments of the text.
        num_bytes: Size of the text in UTF-8.
        world: The processes that share the batches.

    Returns:
        ``loss`` in nats per token, ``perplexity``, its exponential, and ``bits_per_byte``, which
        does not depend on the vocabulary.
    """
    total, num_tokens = total_loss(LanguageModelLoss(label_smoothing=0.0), model, batches, world)
    loss = total / num_tokens
    return {
        "loss": loss,
        "perplexity": perplexity(loss),
        "bits_per_byte": total / math.log(2) / num_bytes,
    }


class TokenPredictions(NamedTuple):
    """How the tokens of a text are predicted, all but the first; ``[predicted]`` each.

    Args:
        positions: Index of each token in the text.
        losses: Loss of each, in nats.
        probabilities: Probability of the most probable token in its place, 0 to 1.
        is_correct: Whether the most probable token is the one of the text.
    """

    positions: NDArray[np.int64]
    losses: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    is_correct: NDArray[np.bool_]


@torch.no_grad()
def predict_tokens(
    model: Decoder, batches: StreamBatches, world: World = ALONE
) -> TokenPredictions:
    """Return how a model predicts each token of a text.

    Args:
        model: Model in evaluation mode.
        batches: The segments of the text.
        world: The processes that share the batches.
    """
    loss_function = LanguageModelLoss(label_smoothing=0.0)
    chunk = max(1, _MOST_LOGITS // model.vocab_size)

    def predict(rows: NDArray[np.int64]) -> list[NDArray]:
        batch = move_batch(batches.batch(rows), model)
        is_label = batch.labels != loss_function.ignore_index  # [batch, length]
        hidden, labels = loss_function.hidden_states(model, batch)[is_label], batch.labels[is_label]
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        for states, targets in zip(hidden.split(chunk), labels.split(chunk), strict=True):
            logits = model.logits(states).float()  # [chunk, vocab]
            losses = F.cross_entropy(logits, targets, reduction="none")
            best = logits.softmax(-1).max(-1)
            columns.append((losses, best.values, best.indices == targets))
        positions = 1 + rows[:, None] + np.arange(batches.length)
        parts = [torch.cat(column).cpu().numpy() for column in zip(*columns, strict=True)]
        return [positions[is_label.cpu().numpy()], *parts]

    results = zip(*world.map(predict, batches.in_sequence()), strict=True)
    positions, losses, probabilities, is_correct = map(np.concatenate, results)
    return TokenPredictions(
        positions, losses.astype(np.float64), probabilities.astype(np.float64), is_correct
    )
