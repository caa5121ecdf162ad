"""The loss of a language model, and its measures of a text."""

from __future__ import annotations

import math

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


@torch.no_grad()
def best_tokens(
    model: Decoder, batches: StreamBatches, world: World = ALONE
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute the probability of the most probable token after each part of a text.

    Args:
        model: In evaluation mode.
        batches: The segments of the text.
        world: The processes that share the batches.

    Returns:
        The probabilities, 0 to 1, and whether each is the token that follows, ``[tokens]`` each.
    """
    loss_function = LanguageModelLoss(label_smoothing=0.0)
    chunk = max(1, _MOST_LOGITS // model.vocab_size)

    def predict(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        batch = move_batch(batches.batch(rows), model)
        is_label = batch.labels != loss_function.ignore_index  # [batch, length]
        hidden, labels = loss_function.hidden_states(model, batch)[is_label], batch.labels[is_label]
        probabilities: list[Tensor] = []
        is_correct: list[Tensor] = []
        for states, targets in zip(hidden.split(chunk), labels.split(chunk), strict=True):
            best = model.logits(states).float().softmax(-1).max(-1)
            probabilities.append(best.values)
            is_correct.append(best.indices == targets)
        return torch.cat(probabilities).cpu().numpy(), torch.cat(is_correct).cpu().numpy()

    results = world.map(predict, batches.in_sequence())
    if not results:
        return np.zeros(0), np.zeros(0, dtype=bool)
    probabilities, is_correct = zip(*results, strict=True)
    return np.concatenate(probabilities).astype(np.float64), np.concatenate(is_correct)


@torch.no_grad()
def token_losses(
    model: Decoder, batches: StreamBatches, world: World = ALONE
) -> NDArray[np.float64]:
    """Compute the loss of each token of a text.

    Args:
        model: Model in evaluation mode.
        batches: The segments of the text.
        world: The processes that share the batches.

    Returns:
        Nats of each token, ``[tokens]``; 0 for the first, which nothing predicts.
    """
    losses = np.zeros(len(batches.stream))
    loss_function = LanguageModelLoss(label_smoothing=0.0)
    chunk = max(1, _MOST_LOGITS // model.vocab_size)

    def batch_losses(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        batch = move_batch(batches.batch(rows), model)
        is_label = batch.labels != loss_function.ignore_index  # [batch, length]
        hidden, labels = loss_function.hidden_states(model, batch)[is_label], batch.labels[is_label]
        parts = [
            F.cross_entropy(model.logits(states).float(), targets, reduction="none")
            for states, targets in zip(hidden.split(chunk), labels.split(chunk), strict=True)
        ]
        positions = 1 + rows[:, None] + np.arange(batches.length)
        return positions[is_label.cpu().numpy()], torch.cat(parts).cpu().numpy()

    for positions, values in world.map(batch_losses, batches.in_sequence()):
        losses[positions] = values
    return losses
