"""Added tokens of a vocabulary for which the weights have no row.

BART's summarizers (``facebook/bart-large-cnn``) were published without the row of ``<mask>``, which
their vocabulary still has. No text contains a special token, so it can be left out. A text with
another added token is refused: without that token it would be others, unknown ones among them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend


def rows_of_table(fields: Mapping[str, Any]) -> int | None:
    """Return the rows of a model's table of tokens by ``config.json``; None where unknown."""
    num_rows = fields.get("vocab_size")
    return num_rows if type(num_rows) is int else None


def drop_tokens_without_rows(backend: Backend, num_rows: int | None) -> Backend:
    """Leave out the added tokens that a table of tokens has no row for.

    Args:
        backend: The vocabulary.
        num_rows: Rows of the table; None where it is unknown, and all tokens stay.

    Returns:
        A vocabulary without them; the same one where there are none. All other tokens stay.
    """
    if num_rows is None:
        return backend
    added = backend.get_added_tokens_decoder()
    outside = {token.content for number, token in added.items() if number >= num_rows}
    return _without(backend, outside) if outside else backend


def warn_of_texts_with_missing_rows(backend: Backend, num_rows: int | None, folder: Path) -> None:
    """Warn of the added tokens, special ones left out, that no text can have.

    Args:
        backend: The vocabulary.
        num_rows: Rows of the table; None where it is unknown.
        folder: Folder that names them.
    """
    if num_rows is None:
        return
    added = backend.get_added_tokens_decoder().items()
    outside = [repr(t.content) for number, t in added if number >= num_rows and not t.special]
    if outside:
        warnings.warn(
            f"{folder}: the added tokens {', '.join(outside[:10])} have no row in the model, which "
            f"has {num_rows:,}: a text with one of them is refused.",
            stacklevel=4,
        )


def _without(backend: Backend, names: Collection[str]) -> Backend:
    """Return a vocabulary without some of its added tokens."""
    content = json.loads(backend.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in names]
    vocab = content["model"]["vocab"]
    if isinstance(vocab, dict):  # Unigram has a list, in which the index is the id
        content["model"]["vocab"] = {piece: vocab[piece] for piece in vocab if piece not in names}
    return Backend.from_str(json.dumps(content))


def warn_of_missing_rows(path: Path, kind: str, tokens: Sequence[str], num_rows: int) -> None:
    """Warn that tokens are left out because the table of the weights has no row for them.

    Args:
        path: Folder or file that names them.
        kind: What they are, before the first one.
        tokens: The first ten are named; without any nothing is warned of.
        num_rows: Rows of the table.
    """
    if tokens:
        warnings.warn(
            f"{path}: {kind}{', '.join(tokens[:10])} left out: the model has {num_rows:,} tokens.",
            stacklevel=4,
        )
