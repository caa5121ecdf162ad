"""The loss of a language model, and its measures of a text."""

from __future__ import annotations

import math

from torch import Tensor

from regard.data.token_stream import StreamBatches, TextBatch, TokenStream
from regard.models import Decoder
from regard.training.evaluation_loop import total_loss
from regard.training.token_loss import TokenLoss

EVALUATED_TOKENS = 4096  # in a batch of an evaluation
_LARGEST_EXPONENT = 700.0  # exp is finite in float64


class LanguageModelLoss(TokenLoss[Decoder]):
    """Cross-entropy of the next token of running text."""

    nothing = -1

    def hidden_states(self, model: Decoder, batch: TextBatch) -> Tensor:
        """Compute the last hidden states, ``[batch, length, dim]``."""
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


def text_measures(model: Decoder, batches: StreamBatches, num_bytes: int) -> dict[str, float]:
    """Compute how well a model predicts a text.

    Args:
        model: In evaluation mode.
        batches: The segments of the text.
        num_bytes: Size of the text in UTF-8.

    Returns:
        ``loss`` in nats per token, ``perplexity``, its exponential, and ``bits_per_byte``, which
        does not depend on the vocabulary.
    """
    total, num_tokens = total_loss(LanguageModelLoss(label_smoothing=0.0), model, batches)
    loss = total / num_tokens
    return {
        "loss": loss,
        "perplexity": perplexity(loss),
        "bits_per_byte": total / math.log(2) / num_bytes,
    }
