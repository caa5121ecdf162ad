"""What a language model learns from, and how well it predicts a text."""

from __future__ import annotations

import math

from torch import Tensor, nn

from regard.data.token_stream import StreamBatches, TextBatch, TokenStream
from regard.models import Decoder
from regard.training.evaluation_loop import total_loss
from regard.training.token_loss import TokenLoss

EVALUATED_TOKENS = 4096  # in a batch of an evaluation


class LanguageModelLoss(TokenLoss):
    """The training objective: cross-entropy of the next token of running text."""

    nothing = -1

    def hidden_states(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``."""
        assert isinstance(model, Decoder)
        if batch.before is None:
            return model.hidden_states(batch.ids)
        return model.hidden_states_after(batch.before, batch.ids)


def evaluation_batches(model: Decoder, stream: TokenStream, length: int) -> StreamBatches:
    """Lay a text out for an evaluation, with the memory that the model's family has."""
    return StreamBatches(
        stream, length=length, batch_tokens=EVALUATED_TOKENS, context=model.memory_length
    )


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
    total, num_tokens = total_loss(LanguageModelLoss(label_smoothing=0.0), model, batches)
    loss = total / num_tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": total / math.log(2) / num_bytes,
    }
