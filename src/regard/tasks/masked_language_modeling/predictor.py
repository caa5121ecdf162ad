"""Inference with a trained encoder: vectors of texts, and candidates for masked tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers.normalizers import Lowercase
from torch import Tensor
from torch.nn.functional import normalize

from regard.errors import ConfigError
from regard.hub.any_tokenizer import AnyTokenizer
from regard.hub.hugging_face.sentence_transformers import PoolingMode, SentencePooling
from regard.models import Encoder
from regard.option_checks import require_whole
from regard.settings.validation import require_texts
from regard.setup.base_predictor import BasePredictor
from regard.setup.config import RunConfig
from regard.training.distribution import ALONE, World


def _weighted_mean(states: Tensor) -> Tensor:
    length = states.shape[1]  # of [batch, length, dim]
    weights = torch.arange(1.0, 1 + length, device=states.device)
    return torch.einsum("bld,l->bd", states, weights / weights.sum())


# From the states of texts of one length, ``[texts, length, dim]``, to ``[texts, dim]``.
_POOLING: dict[PoolingMode, Callable[[Tensor], Tensor]] = {
    "cls": lambda states: states[:, 0],
    "max": lambda states: states.amax(1),
    "mean": lambda states: states.mean(1),
    "mean_sqrt_len_tokens": lambda states: states.sum(1) / states.shape[1] ** 0.5,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda states: states[:, -1],
}


def pool_states(states: Tensor, pooling: SentencePooling) -> Tensor:
    """Compute the vectors of texts of one length.

    Args:
        states: Their last hidden states, ``[texts, length, dim]``.
        pooling: How.

    Returns:
        ``[texts, dim]``, or as many dimensions for each of several ways of pooling.
    """
    vectors = torch.cat([_POOLING[mode](states) for mode in pooling.modes], dim=-1)
    return normalize(vectors, dim=-1) if pooling.is_normalized else vectors


@dataclass(eq=False, repr=False)
class TextEncoder(BasePredictor):
    """A trained encoder of texts.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its vocabulary.
        config: The settings of its run.
        pooling: How the states of a text become its vector.
        world: The processes that share its evaluation; `embed` and `fill` are computed by each.
    """

    verb = "embed"
    model: Encoder
    tokenizer: AnyTokenizer
    config: RunConfig
    pooling: SentencePooling = field(default_factory=SentencePooling)
    world: World = ALONE

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of a text that a vector is computed of."""
        limits = (self.model.config.max_positions, self.pooling.max_length)
        if self.pooling.max_length is None:
            limits = (self.model.config.max_positions, self.tokenizer.max_length)
        return min(limit for limit in limits if limit is not None)

    @torch.inference_mode()
    def embed(self, texts: str | Sequence[str]) -> Tensor:
        """Compute one vector for each text: the mean of its last hidden states.

        A folder of sentence-transformers has a `pooling` of its own.

        Args:
            texts: One or more; each is cut to `max_length` tokens.

        Returns:
            ``[texts, dim]``, or as many dimensions for each of several ways of pooling; of one
            string, ``[dim]``.

        Raises:
            ConfigError: One of them is not a text.
        """
        if isinstance(texts, str):
            return self.embed([texts])[0]
        prepared = list(map(self.prepare, require_texts(texts, "texts")))
        if not prepared:
            dim = self.model.config.dim * len(self.pooling.modes)
            return torch.empty(0, dim, device=self.model.device)
        rows = self.tokenizer.encode_truncated(prepared, max_length=self.max_length)
        ids = (torch.tensor([row], device=self.model.device) for row in rows)
        return torch.cat([pool_states(self.model.hidden_states(row), self.pooling) for row in ids])

    def prepare(self, text: str) -> str:
        """Return a text as a vector is computed of it: behind the prompt, in lower case if so."""
        text = self.pooling.prompt + text
        return Lowercase().normalize_str(text) if self.pooling.lowercases else text

    @torch.inference_mode()
    def fill(self, text: str, *, num: int = 5) -> list[list[tuple[str, float]]]:
        """Compute the most probable tokens for every mask of a text.

        Args:
            text: With the vocabulary's mask, such as ``[MASK]``.
            num: Number of candidates for each mask.

        Returns:
            For each mask, the most probable tokens with their probabilities.

        Raises:
            ConfigError: The text has no mask, is longer than the model's positions or is not a
                text, the number is below 1, or the model has no head for masked tokens.
        """
        require_texts([text], "text")
        require_whole("num", num, 1, most=self.model.vocab_size)
        row = self.tokenizer.encode_masked(text)
        masked = [index for index, token in enumerate(row) if token == self.tokenizer.mask_id]
        if not masked:
            raise ConfigError(
                f"text={text!r}: no mask in it.  Write <mask>, [MASK] or what the model has."
            )
        if len(row) > self.model.config.max_positions:
            raise ConfigError(
                f"the text has {len(row):,} tokens, the model {self.model.config.max_positions:,} "
                "positions.  Cut it around its masks."
            )
        ids = torch.tensor([row], device=self.model.device)
        logits = self.model(ids)[0, masked].cpu()  # [masks, vocab]
        unused = torch.tensor(self.tokenizer.unused_ids(self.model.vocab_size), dtype=torch.long)
        logits = logits.index_fill(-1, unused, -torch.inf)
        probabilities, tokens = logits.softmax(-1).topk(num)  # [masks, num] each
        return [
            list(zip(self.tokenizer.pieces(ids), values, strict=True))
            for ids, values in zip(tokens.tolist(), probabilities.tolist(), strict=True)
        ]
