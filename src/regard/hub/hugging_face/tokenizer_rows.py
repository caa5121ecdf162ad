"""Special tokens of a vocabulary for which the weights have no row.

BART's summarizers (``facebook/bart-large-cnn``) were published without the row of ``<mask>``, which
their vocabulary still has. No text contains such a token, so it can be left out.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as Backend


def drop_tokens_without_rows(backend: Backend | None, num_rows: Any) -> Backend | None:
    """Leave out the special tokens that a table of tokens has no row for.

    Args:
        backend: The vocabulary; None stays None.
        num_rows: Rows of the table, as a file has it; where that is not a number, all tokens stay.

    Returns:
        A vocabulary without them; the same one where there are none. All other tokens stay.
    """
    if backend is None or type(num_rows) is not int:
        return backend
    special = {
        token.content
        for number, token in backend.get_added_tokens_decoder().items()
        if token.special and number >= num_rows
    }
    content = json.loads(backend.to_str()) if special else {}
    if not special or not isinstance(content["model"].get("vocab"), dict):
        return backend
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] not in special
    ]
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {piece: vocab[piece] for piece in vocab if piece not in special}
    return Backend.from_str(json.dumps(content))
