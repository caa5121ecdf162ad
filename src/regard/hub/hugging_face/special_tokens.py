"""Special tokens of a published folder by their roles, such as eos and mask."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from regard.hub.file_names import GENERATION_CONFIG
from regard.hub.hugging_face.older_vocabularies import ROLES, WORD_PIECE_TOKENS, named_tokens
from regard.hub.hugging_face.tokenizer_rows import warn_of_missing_rows
from regard.hub.hugging_face.weight_files import as_list, is_whole_number, read_optional_json

_ROLES_OF_IDS = {"stop": "eos", "first": "bos"}
"""Roles of the ids that end and begin a continuation, as ``generation_config.json`` names them."""
_ROLES_OF_TOKENS = {"<mask>": "mask"} | {token: role for role, token in WORD_PIECE_TOKENS.items()}


def declared_ids(
    folder: Path, config: Mapping[str, Any], num_rows: int | None
) -> dict[str, list[int]]:
    """Read the ids of special tokens in ``config.json``, without those that have no row.

    Args:
        folder: Folder with ``generation_config.json``, whose ids count for ``stop`` and ``first``.
        config: Fields of ``config.json``.
        num_rows: Rows of the model's table of tokens; None where it is unknown.

    Returns:
        The ids by role; those of ``stop`` end a continuation, that of ``first`` begins one.
    """
    generation = read_optional_json(folder / GENERATION_CONFIG)
    sources = dict.fromkeys((*ROLES, "stop"), config) | {"first": generation}
    table = range(sys.maxsize if num_rows is None else num_rows)
    declared: dict[str, list[int]] = {}
    outside: dict[int, str] = {}
    if "eos_token_id" in generation:
        sources["stop"], declared["stop"] = generation, []
    for role, fields in sources.items():
        name = f"{_ROLES_OF_IDS.get(role, role)}_token_id"
        for token in filter(is_whole_number, as_list(fields.get(name))):
            if token in table:
                declared.setdefault(role, []).append(token)
            else:
                outside.setdefault(token, f"{name}={token}")
    warn_of_missing_rows(folder, "", list(outside.values()), len(table))
    return declared


def special_ids_of(
    declared: Mapping[str, list[int]], settings: Mapping[str, Any], backend: Backend | None
) -> dict[str, int]:
    """Return the ids of special tokens; those of the tokenizer count before ``config.json``.

    Args:
        declared: The ids of ``config.json`` by role, see `declared_ids`.
        settings: The content of ``tokenizer_config.json``.
        backend: The vocabulary; None where the folder has none.

    Returns:
        One id for each role.
    """
    ids = {role: declared[role][0] for role in ROLES if role in declared}
    if backend is None:
        return ids
    vocab = backend.get_vocab(with_added_tokens=True)
    named = {role: vocab[token] for role, token in named_tokens(settings).items() if token in vocab}
    added = backend.get_added_tokens_decoder()
    special = {token.content: token_id for token_id, token in added.items() if token.special}
    usual = {role: special[token] for token, role in _ROLES_OF_TOKENS.items() if token in special}
    return usual | ids | named
