"""What an encoder learns from hidden tokens, and how well it predicts them."""

from __future__ import annotations

import math

from torch import Tensor, nn

from regard.data.masking import MaskedBatches
from regard.data.token_stream import TextBatch
from regard.models import Encoder
from regard.training.evaluation_loop import total_loss
from regard.training.token_loss import TokenLoss


class MaskedTokenLoss(TokenLoss):
    """The training objective: cross-entropy of the hidden tokens."""

    nothing = -1

    def hidden_states(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """Compute the last states, ``[batch, length, dim]``."""
        assert isinstance(model, Encoder)
        return model.hidden_states(batch.ids)


def masked_measures(model: Encoder, batches: MaskedBatches) -> dict[str, float]:
    """Measure how well a model predicts hidden tokens.

    Args:
        model: In evaluation mode.
        batches: Of the text.

    Returns:
        ``loss`` in nats a hidden token, and ``perplexity``, its exponential.
    """
    total, num_tokens = total_loss(MaskedTokenLoss(label_smoothing=0.0), model, batches)
    loss = total / num_tokens
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
