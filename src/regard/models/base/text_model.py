"""The base of models of text: a vocabulary, and logits from hidden states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention.readable import is_readable
from regard.attention.resolve_lengths import lengths_on_device
from regard.errors import ShapeError
from regard.layers.initialization import fill_normal
from regard.models.base.model import Model
from regard.option_checks import require_whole

PAD_ID = 0


class TextModel(Model):
    """A model that computes logits of tokens.

    Args:
        vocab_size: Number of token ids, 1 or more.
        dim: Size of its hidden states.

    Raises:
        ConfigError: The number of token ids is out of range.
    """

    output_weight: nn.Parameter
    """Maps the last hidden states to logits, ``[vocab, dim]``."""

    has_output_map = True
    """Whether `output_weight` maps states to logits; else a head of the model uses it."""

    has_plain_logits = True
    """Whether logits are the last hidden states times `output_weight`, and nothing else."""

    def __init__(self, vocab_size: int, *, dim: int) -> None:
        super().__init__(dim=dim)
        require_whole("vocab_size", vocab_size, 1)
        self.vocab_size = vocab_size

    @property
    def output_name(self) -> str:
        """Logits of tokens."""
        return f"logits of {self.vocab_size:,} tokens"

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states ``[batch, length, dim]`` (any leading axes) to ``[..., vocab]``."""
        return F.linear(hidden, self.output_weight.to(hidden.dtype))


def token_table(vocab_size: int, dim: int) -> nn.Parameter:
    """Return a table of token embeddings, ``[vocab, dim]``, with entries of variance ``1 / dim``.

    Times ``sqrt(dim)`` they embed with variance 1; as they are they map to logits of variance 1.
    """
    return nn.Parameter(fill_normal(torch.empty(vocab_size, dim), dim**-0.5))


def token_lengths(ids: Tensor, lengths: Tensor | None = None, *, pad_id: int = PAD_ID) -> Tensor:
    """Return the number of tokens of each row: the one rule of padding, for all models.

    Rows are padded on the right. Without `lengths` a row ends with its last token that is not
    `pad_id`; within a text `pad_id` is a token like any other.

    Args:
        ids: ``[batch, length]``.
        lengths: Tokens of each row, ``[batch]`` whole numbers, where they are known.
        pad_id: Token that fills up rows.

    Returns:
        ``[batch]``.

    Raises:
        ShapeError: The lengths are not those of such rows.

    >>> token_lengths(torch.tensor([[5, 0, 6, 0], [5, 0, 0, 0]])).tolist()
    [3, 1]
    """
    if lengths is None:
        num_filled = (ids == pad_id).flip(1).long().cumprod(1).sum(1)
        return ids.shape[1] - num_filled
    if lengths.shape != ids.shape[:1] or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ShapeError(
            f"lengths are {list(lengths.shape)} {str(lengths.dtype).removeprefix('torch.')}; "
            f"[{ids.shape[0]}] whole numbers are expected, the tokens of each row.  "
            "Of a mask: lengths=mask_lengths(mask)."
        )
    if is_readable(lengths) and bool(((lengths < 0) | (lengths > ids.shape[1])).any()):
        raise ShapeError(f"lengths must be 0 to {ids.shape[1]}, not {lengths.tolist()}.")
    return lengths


def lengths_of_padded(
    ids: Tensor, lengths: Tensor | None = None, *, pad_id: int = PAD_ID
) -> Tensor | None:
    """Return `token_lengths`, or None where it is known that no row is padded.

    Args:
        ids: ``[batch, length]``.
        lengths: Tokens of each row, ``[batch]``, where they are known; in main memory they are
            looked at without waiting for the device of the ids.
        pad_id: Token that fills up rows.

    Returns:
        ``[batch]``, on the device of the ids; never None where they cannot be read, as in a graph
        that is compiled for all inputs.
    """
    lengths = token_lengths(ids, lengths, pad_id=pad_id)
    if not is_readable(lengths):
        return lengths
    is_padded = bool((lengths < ids.shape[1]).any())  # which waits for no device for known lengths
    return lengths_on_device(lengths, ids.device) if is_padded else None


def mask_lengths(mask: Tensor) -> Tensor:
    """Return the lengths that an attention mask describes.

    Args:
        mask: ``[batch, length]``, True or 1 at tokens and False or 0 at padding, on the right.

    Returns:
        ``[batch]`` whole numbers.

    Raises:
        ShapeError: Padding is on the left or within a text.

    >>> mask_lengths(torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist()
    [2, 3]
    """
    if mask.dim() != 2:
        raise ShapeError(f"the mask is {list(mask.shape)}; [batch, length] is expected.")
    is_token = mask != 0
    lengths = is_token.sum(1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    if is_readable(mask) and bool((is_token != (positions < lengths[:, None])).any()):
        raise ShapeError("the mask has padding before tokens.  Pad on the right of each row.")
    return lengths
