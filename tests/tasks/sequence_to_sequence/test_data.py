"""Pairs of texts become token ids a part at a time, cut and left out where they are too long."""

import pytest

from regard.data import batching
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import DataError
from regard.tasks.sequence_to_sequence.data import encode_pairs

SOURCES = ["one two", "a longer source than others", "three", "four five six"]
TARGETS = ["eins zwei", "kurz", "ein viel längeres Ziel als andere", "vier"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([*SOURCES, *TARGETS], TokenizerConfig(kind="character"))


@pytest.fixture
def pairs():
    return ParallelCorpus(path="a.tsv", sources=SOURCES, targets=TARGETS, lines=[1, 2, 3, 4])


def texts_of(tokenizer, rows):
    return tokenizer.decode([rows[row].tolist() for row in range(len(rows))])


def test_few_texts_are_encoded_together(tokenizer, pairs, monkeypatch):
    monkeypatch.setattr(batching, "_PART_CHARS", 12)
    sizes, encode = [], tokenizer.encode
    monkeypatch.setattr(
        tokenizer, "encode", lambda texts: sizes.append(len(texts)) or encode(texts)
    )
    encoded = encode_pairs(pairs, tokenizer, max_length=100)
    assert texts_of(tokenizer, encoded.sources) == SOURCES
    assert texts_of(tokenizer, encoded.targets) == TARGETS
    assert sizes == [1, 1, 1, 1] * 2


def test_a_pair_with_a_side_that_is_too_long_is_left_out(tokenizer, pairs):
    encoded = encode_pairs(pairs, tokenizer, max_length=20)
    assert texts_of(tokenizer, encoded.sources) == encoded.text.sources == [SOURCES[0], SOURCES[3]]
    assert texts_of(tokenizer, encoded.targets) == encoded.text.targets == [TARGETS[0], TARGETS[3]]
    assert [(row.line, row.reason) for row in encoded.dropped] == [
        (2, "longer than 20 tokens"),
        (3, "longer than 20 tokens"),
    ]
    assert encoded.longest_source == 1 + len(SOURCES[1])  # a space begins a text


def test_sources_are_cut_and_pairs_with_long_targets_left_out(tokenizer, pairs):
    encoded = encode_pairs(pairs, tokenizer, max_length=20, max_source_length=11)
    kept = [SOURCES[0], SOURCES[1], SOURCES[3]]
    assert texts_of(tokenizer, encoded.sources) == [text[:10] for text in kept]
    assert [(row.line, row.reason) for row in encoded.dropped] == [
        (3, "target longer than 20 tokens")
    ]
    assert [(row.line, row.reason) for row in encoded.truncated] == [
        (2, "cut to 11 tokens"),
        (4, "cut to 11 tokens"),
    ]


def test_pairs_that_are_all_too_long_are_refused(tokenizer, pairs):
    with pytest.raises(DataError, match=r"every pair is longer than 3 tokens.*data\.max_length"):
        encode_pairs(pairs, tokenizer, max_length=3)
