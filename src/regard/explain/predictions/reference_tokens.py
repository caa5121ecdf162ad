"""Tokens as features, and the token that says nothing, which the baseline has in place of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.explain.prediction import Feature, record_outputs
from regard.explain.unseen_text import name_unseen
from regard.hub.any_tokenizer import AnyTokenizer

_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")
_ROLES = ("mask", "unk", "pad")
_OF_TEXT = ("mask", "unk")  # special tokens that are in place of a word of the text


def reference_id(tokenizer: AnyTokenizer) -> int:
    """Return the token that says least: of masked text, else of unknown text, else of padding.

    >>> from regard.data.tokenizer import Tokenizer, TokenizerConfig
    >>> reference_id(Tokenizer.train(["a cat"], TokenizerConfig()))
    0
    """
    special_ids = tokenizer.special_ids
    return next((special_ids[role] for role in _ROLES if role in special_ids), 0)


def token_features(
    tokenizer: AnyTokenizer,
    ids: Sequence[int],
    part: str,
    *,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> list[Feature]:
    """Return the features of tokens with the special tokens around them.

    Args:
        tokenizer: Their vocabulary.
        ids: The tokens.
        part: Which input they are of.
        before: Special tokens before them.
        after: Special tokens after them.
    """
    pieces = name_bytes(tokenizer.pieces([*before, *ids, *after]))
    first, last = len(before), len(before) + len(ids)
    return [
        Feature(piece, part, is_special=not first <= index < last)
        for index, piece in enumerate(pieces)
    ]


def name_bytes(pieces: Sequence[str]) -> list[str]:
    """Return tokens with those that are bytes of a character named by that character.

    Args:
        pieces: Tokens as text, bytes of a split character as ``\\xNN``.

    >>> name_bytes(["a", "\\\\xf0\\\\x9f", "\\\\x99", "\\\\x82", "\\\\xff"])
    ['a', '🙂·1', '🙂·2', '🙂·3', '\\\\xff']
    """
    named, start = list(pieces), 0
    while start < len(pieces):
        content, stop = b"", start
        while stop < len(pieces) and _BYTES.fullmatch(pieces[stop].strip(" ")):
            content += bytes.fromhex(pieces[stop].strip(" ").replace("\\x", ""))
            stop += 1
            try:
                text = content.decode()
            except UnicodeDecodeError:
                continue
            name = name_unseen(text).replace(" ", "")
            for index in range(start, stop):
                space = pieces[index].partition("\\")[0]
                named[index] = f"{space}{name}·{index - start + 1}"
            break
        start = max(stop, start + 1)
    return named


def replace_tokens(ids: Tensor, features: Sequence[Feature], reference: int) -> Tensor:
    """Return token ids with the reference token in place of all that are not special.

    Args:
        ids: ``[1, length]``.
        features: Features of these tokens.
        reference: The reference token.
    """
    is_special = torch.tensor([[feature.is_special for feature in features]])
    return torch.where(is_special, ids, reference)


def embed_baseline(layers: Mapping[str, nn.Module], run: Callable[[], object]) -> dict[str, Tensor]:
    """Return the embeddings of the reference tokens, ``[length, dim]``, by the input's name.

    Args:
        layers: From ``model.embedded_inputs()``.
        run: Runs the model on one row of reference tokens.
    """
    return {name: output[0] for name, output in record_outputs(layers, run).items()}


def split_special(
    tokenizer: AnyTokenizer, ids: Sequence[int], begin: Sequence[int] = ()
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Divide the token ids of a text into special tokens before it, its own, and those after it.

    Args:
        tokenizer: Its vocabulary.
        ids: The text with its special tokens.
        begin: Tokens that count as special at the beginning.

    Returns:
        The three parts in this order; each may be empty.
    """
    special = {token for role, token in tokenizer.special_ids.items() if role not in _OF_TEXT}
    if begin and list(ids[: len(begin)]) == list(begin):
        return ids[: len(begin)], ids[len(begin) :], ()
    own = [index for index, token in enumerate(ids) if token not in special]
    first, last = (own[0], own[-1] + 1) if own else (len(ids), len(ids))
    return ids[:first], ids[first:last], ids[last:]


def first_difference(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the first index where two rows of tokens differ.

    Raises:
        ConfigError: One of them begins with the other.
    """
    pairs = enumerate(zip(first, second, strict=False))
    index = next((number for number, (one, other) in pairs if one != other), None)
    if index is None:
        raise ConfigError("the contrast does not differ from the output.  Name another one.")
    return index
