"""A trained encoder in use: vectors of texts, and candidates for masked tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.models import Encoder
from regard.setup.config import RunConfig


@dataclass(eq=False, repr=False)
class TextEncoder:
    """An encoder of texts in use.

    Args:
        model: In evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run; None where they are unknown.
    """

    model: Encoder
    tokenizer: AnyTokenizer
    config: RunConfig | None = None

    @torch.inference_mode()
    def embed(self, texts: str | Sequence[str]) -> Tensor:
        """Compute one vector for each text: the mean of its last hidden states.

        Args:
            texts: One or more; each is cut to the positions of the model.

        Returns:
            ``[texts, dim]``; of one string, ``[dim]``.
        """
        if isinstance(texts, str):
            return self.embed([texts])[0]
        longest = self.model.config.max_positions
        rows = self.tokenizer.encode_whole(texts, max_length=longest)
        return torch.cat([self.model.hidden_states(torch.tensor([row])).mean(1) for row in rows])

    @torch.inference_mode()
    def fill(self, text: str, *, num: int = 5) -> list[list[tuple[str, float]]]:
        """Compute the most probable tokens for every mask of a text.

        Args:
            text: With the vocabulary's mask, such as ``[MASK]``.
            num: Number of candidates for each mask.

        Returns:
            For each mask, the most probable tokens with their probabilities.

        Raises:
            ConfigError: The text has no mask, or the model no head for masked tokens.
        """
        row = self.tokenizer.encode_masked(text)
        masked = [index for index, token in enumerate(row) if token == self.tokenizer.mask_id]
        if not masked:
            raise ConfigError(
                f"text={text!r}: no mask in it.  Write <mask>, [MASK] or what the model has."
            )
        logits = self.model(torch.tensor([row]))[0, masked]  # [masks, vocab]
        unused = torch.tensor(self.tokenizer.unused_ids(self.model.vocab_size), dtype=torch.long)
        logits = logits.index_fill(-1, unused, -torch.inf)
        probabilities, tokens = logits.softmax(-1).topk(num)  # [masks, num] each
        return [
            list(zip(self.tokenizer.pieces(ids), values, strict=True))
            for ids, values in zip(tokens.tolist(), probabilities.tolist(), strict=True)
        ]
