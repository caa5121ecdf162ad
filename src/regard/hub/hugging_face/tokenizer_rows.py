"""Added tokens of a vocabulary for which the weights have no row.

BART's summarizers (``facebook/bart-large-cnn``) were published without the row of ``<mask>``, which
their vocabulary still has. No text contains a special token, so it can be left out; a text with
another added token is split into other tokens without it, of which a warning says so.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend


def drop_tokens_without_rows(
    backend: Backend | None, num_rows: Any, folder: Path = Path()
) -> Backend | None:
    """Leave out the added tokens that a table of tokens has no row for.

    Args:
        backend: The vocabulary; None stays None.
        num_rows: Rows of the table, as a file has it; where that is not a number, all tokens stay.
        folder: Folder, for the warning.

    Returns:
        A vocabulary without them; the same one where there are none. All other tokens stay.
    """
    if backend is None or type(num_rows) is not int:
        return backend
    outside = {
        token.content: token.special
        for number, token in backend.get_added_tokens_decoder().items()
        if number >= num_rows
    }
    content = json.loads(backend.to_str()) if outside else {}
    if not outside or not isinstance(content["model"].get("vocab"), dict):
        return backend
    if texts := [token for token, is_special in outside.items() if not is_special]:
        warnings.warn(
            f"{folder}: the added tokens {', '.join(map(repr, texts[:10]))} left out: the model "
            f"has {num_rows:,} tokens.",
            stacklevel=3,
        )
    content["added_tokens"] = [
        token for token in content["added_tokens"] if token["content"] not in outside
    ]
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {piece: vocab[piece] for piece in vocab if piece not in outside}
    return Backend.from_str(json.dumps(content))
