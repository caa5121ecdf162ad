"""Added tokens of a vocabulary for which the weights have no row.

BART's summarizers (``facebook/bart-large-cnn``) were published without the row of ``<mask>``, which
their vocabulary still has. No text contains a special token, so it can be left out; a text with
another added token is split into other tokens without it, of which a warning says so.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Backend


def drop_tokens_without_rows(backend: Backend, num_rows: Any, folder: Path = Path()) -> Backend:
    """Leave out the added tokens that a table of tokens has no row for.

    Args:
        backend: The vocabulary.
        num_rows: Rows of the table, as a file has it; where that is not a number, all tokens stay.
        folder: Folder, for the warning.

    Returns:
        A vocabulary without them; the same one where there are none. All other tokens stay.
    """
    if type(num_rows) is not int or isinstance(backend.model, models.Unigram):
        return backend
    added = backend.get_added_tokens_decoder()
    outside = [token for number, token in added.items() if number >= num_rows]
    texts = [repr(token.content) for token in outside if not token.special]
    warn_of_missing_rows(folder, "the added tokens ", texts, num_rows)
    return _without(backend, outside) if outside else backend


def _without(backend: Backend, tokens: Iterable[AddedToken]) -> Backend:
    """Return a vocabulary without some of its added tokens."""
    names, content = {token.content for token in tokens}, json.loads(backend.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in names]
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {piece: vocab[piece] for piece in vocab if piece not in names}
    return Backend.from_str(json.dumps(content))


def warn_of_missing_rows(path: Path, kind: str, tokens: Sequence[str], num_rows: int) -> None:
    """Warn that tokens are left out because the table of the weights has no row for them.

    Args:
        path: Folder or file that names them.
        kind: What they are, before the first one.
        tokens: The first ten are named; without any there is no warning.
        num_rows: Rows of the table.
    """
    if tokens:
        warnings.warn(
            f"{path}: {kind}{', '.join(tokens[:10])} left out: the model has {num_rows:,} tokens.",
            stacklevel=4,
        )
