"""The loss of an encoder that predicts hidden tokens, and its measures."""

from __future__ import annotations

from torch import Tensor

from regard.data.masking import MaskedBatches
from regard.data.token_stream import TextBatch
from regard.models import Encoder
from regard.models.base.text_model import token_lengths
from regard.tasks.language_modeling.loss import perplexity
from regard.training.device import move_batch
from regard.training.distribution import ALONE, World
from regard.training.evaluation_loop import total_loss
from regard.training.token_loss import TokenLoss


class MaskedTokenLoss(TokenLoss[Encoder]):
    """Cross-entropy of the hidden tokens."""

    ignore_index = -1

    def hidden_states(self, model: Encoder, batch: TextBatch) -> Tensor:
        """Compute the last hidden states, ``[batch, length, dim]``."""
        if model.device.type == "cpu":
            return model.hidden_states(batch.ids)
        # Lengths are counted where they are known without waiting.
        lengths = token_lengths(batch.ids, pad_id=model.config.pad_id)
        return model.hidden_states(move_batch(batch, model).ids, lengths=lengths)


def masked_measures(
    model: Encoder, batches: MaskedBatches, world: World = ALONE
) -> dict[str, float]:
    """Compute how well a model predicts hidden tokens.

    Args:
        model: Model in evaluation mode.
        batches: Segments of the text with hidden tokens.
        world: The processes that share the batches.

    Returns:
        ``loss`` in nats per hidden token, and ``perplexity``, its exponential.
    """
    total, num_tokens = total_loss(MaskedTokenLoss(label_smoothing=0.0), model, batches, world)
    loss = total / num_tokens
    return {"loss": loss, "perplexity": perplexity(loss)}
