"""Running text with hidden tokens, as BERT is trained on (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from regard.data.masking import MASK, MaskedBatches
from regard.data.token_stream import TokenStream
from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Encoder


def masked_batches(
    stream: TokenStream,
    model: Encoder,
    tokenizer: AnyTokenizer,
    *,
    length: int,
    batch_tokens: int,
    seed: int,
) -> MaskedBatches:
    """Cut a text into segments, and hide tokens of them.

    Args:
        stream: Of tokens.
        model: That is to predict them.
        tokenizer: Has a mask.
        length: Most tokens of a segment; the model's positions limit it, too.
        batch_tokens: Most tokens of a batch.
        seed: Of what is hidden.

    Raises:
        ConfigError: The vocabulary has no mask.
    """
    if tokenizer.mask_id is None:
        raise ConfigError(f"tokenizer.tags: the vocabulary has no mask.  Add {MASK}.")
    return MaskedBatches(
        stream,
        length=min(length, model.config.max_positions),
        batch_tokens=batch_tokens,
        mask_id=tokenizer.mask_id,
        vocab_size=len(tokenizer),
        seed=seed,
        pad_id=model.config.pad_id,
    )
