"""Expressions of published vocabularies: taken where they are quick on any text."""

from __future__ import annotations

import json

import pytest

from regard.data.tokenizer_patterns import check_patterns
from regard.errors import WeightsError

EXPRESSIONS_IN_USE = [
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""(?i:'s|'t|'re|'ve)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n]*|\s*[\r\n]+""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lm}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    " {2,}",
]
COSTLY_EXPRESSIONS = [
    r"(a+)+$",
    r"(a|aa)+$",
    r"(\w+\s?)*x",
    r"(?:(?:a+))+b",
    r"((a{1,5}){1,50}){1,50}b",
    r"(a?){60}a{60}",
    r"a*a*a*a*b",
    r"(a)\1",
    r"(?x) (a+) +$",
    "a{1,100000}",
    "(" * 100 + "a" + ")" * 100,
]


def tokenizer_with(expression: str) -> str:
    pattern = {"type": "Split", "pattern": {"Regex": expression}}
    return json.dumps({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [pattern]}})


@pytest.mark.parametrize("expression", EXPRESSIONS_IN_USE)
def test_expressions_of_published_vocabularies_are_taken(expression):
    assert check_patterns(tokenizer_with(expression), name="tokenizer.json") is None


@pytest.mark.parametrize("expression", COSTLY_EXPRESSIONS)
def test_an_expression_that_could_take_forever_is_refused(expression):
    with pytest.raises(WeightsError, match="could take forever"):
        check_patterns(tokenizer_with(expression), name="tokenizer.json")
