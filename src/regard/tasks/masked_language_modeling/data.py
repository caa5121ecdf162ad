"""Segments of running text with hidden tokens (Devlin et al. 2019, section 3.1)."""

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
    """Return batches of segments of a text, ``[batch, length]``, some of their tokens hidden.

    Args:
        stream: The tokens of the text.
        model: The encoder that predicts them.
        tokenizer: A vocabulary with a mask.
        length: Maximum number of tokens in a segment; limited by the positions of the model too.
        batch_tokens: Maximum number of tokens in a batch.
        seed: Seed of the hidden tokens.

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
