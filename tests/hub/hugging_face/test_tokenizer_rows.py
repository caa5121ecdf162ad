"""Special tokens without a row are left out of a vocabulary, and others stay."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from regard.hub.hugging_face.published_tokenizer import read_tokenizer
from regard.hub.hugging_face.tokenizer_rows import drop_tokens_without_rows

VOCAB = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "<mask>": 4}


@pytest.fixture
def backend():
    made = Backend(models.WordLevel(VOCAB, unk_token="</s>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<s>", "</s>", "<mask>"])
    return made


def test_a_special_token_without_a_row_is_left_out(backend):
    found = drop_tokens_without_rows(backend, 4)
    assert found is not None
    assert found.get_vocab() == {"<s>": 0, "</s>": 1, "a": 2, "b": 3}
    assert found.encode("a b").ids == backend.encode("a b").ids == [2, 3]


@pytest.mark.parametrize("num_rows", [5, 9, None, "4"])
def test_a_vocabulary_with_all_its_rows_stays(backend, num_rows):
    assert drop_tokens_without_rows(backend, num_rows) is backend


def test_a_token_that_texts_are_made_of_stays(backend):
    found = drop_tokens_without_rows(backend, 3)
    assert found is not None
    assert "b" in found.get_vocab()


def test_the_rows_are_those_that_the_configuration_tells(backend, tmp_path):
    backend.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "</s>", "mask_token": "<mask>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"vocab_size": 4}')
    found = read_tokenizer(tmp_path)
    assert (len(found), found.eos_id, found.mask_id) == (4, 1, None)
