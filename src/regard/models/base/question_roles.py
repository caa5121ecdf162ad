"""Roles of the tokens of a question and its text: which words of the text are in the question, too.

Exact match of Chen et al. 2017, "Reading Wikipedia to Answer Open-Domain Questions", section 3.2. A
model then learns to look near words of the question without having to learn each word.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regard.attention.exporting import is_exporting

OF_QUESTION, OF_CONTEXT, IN_BOTH = range(3)
"""Roles of tokens: of the question or special; of the context; its word is in the question, too."""
NUM_ROLES = 3
ROLE_WIDTH = 9
"""Tokens whose roles a vector depends on: four on either side."""


def find_roles(ids: Tensor, separator_id: int, lengths: Tensor | None) -> Tensor:
    """Find the roles of tokens by their ids: a token of the text matches one of the question.

    Cost: length times the longest question, in an exported graph times the length.

    Args:
        ids: ``[batch, length]``; a question ends at the first separator, and its text follows. A
            row without a separator has no text.
        separator_id: The separator.
        lengths: Tokens of each row, ``[batch]``; None where no row is padded.

    Returns:
        ``[batch, length]``, -1 for padding.

    >>> find_roles(torch.tensor([[5, 6, 2, 7, 5, 2]]), 2, None).tolist()
    [[0, 0, 0, 1, 2, 0]]
    """
    is_separator = ids == separator_id
    is_question = is_separator.cumsum(1) == 0
    is_text = ~is_question & ~is_separator
    if is_exporting():
        num_asked = ids.shape[1]  # a number of the tokens would be one of the example
    else:
        has_text = is_text.any(1, keepdim=True)
        num_asked = int((is_question & has_text).sum(1).amax()) if len(ids) else 0
    # A token outside the question must not equal one of another row: no token has the id -1.
    asked = ids[:, :num_asked].masked_fill(~is_question[:, :num_asked], -1)
    is_in_both = is_text & (ids[:, :, None] == asked[:, None]).any(2)
    roles = is_text.long() * OF_CONTEXT + is_in_both.long() * (IN_BOTH - OF_CONTEXT)
    if lengths is not None:
        is_padding = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        roles = roles.masked_fill(is_padding, -1)
    return roles
