"""Added tokens without a row are left out of a vocabulary, and texts with them are refused."""

from __future__ import annotations

import json
import re
import warnings

import pytest
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from regard.errors import WeightsError
from regard.hub.hugging_face.published_tokenizer import read_tokenizer
from regard.hub.hugging_face.tokenizer_rows import drop_tokens_without_rows, rows_of_table

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


@pytest.mark.parametrize("num_rows", [5, 9, None])
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


def test_rows_that_are_no_number_are_unknown():
    assert [rows_of_table({"vocab_size": rows}) for rows in (4, "4", True)] == [4, None, None]
    assert rows_of_table({}) is None


MODELS = {
    "word pieces": lambda: models.WordPiece({**VOCAB, "[UNK]": 5}, unk_token="[UNK]"),
    "words": lambda: models.WordLevel(VOCAB, unk_token="</s>"),
    "byte pairs": lambda: models.BPE(VOCAB, [], unk_token="</s>"),
    "unigram": lambda: models.Unigram([(piece, -1.0) for piece in VOCAB], unk_id=1),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("is_special", [False, True])
def test_a_text_with_a_token_without_a_row_is_refused_and_special_tokens_are_text(
    kind, is_special, tmp_path
):
    backend = Backend(MODELS[kind]())
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    size = backend.get_vocab_size()
    backend.add_tokens([AddedToken("b@a", special=is_special, normalized=False)])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = read_tokenizer(tmp_path)
    assert len(tokenizer) == size
    assert "b@a" not in tokenizer.to_json()
    assert tokenizer.encode(["a b"]) == [[2, 3]]
    refused = pytest.raises(WeightsError, match=rf"{size} rows of tokens, .* such as 'b@a'")
    if is_special:
        assert caught == []
        assert size not in tokenizer.encode(["a b@a"])[0]
    else:
        expected = rf"the added tokens 'b@a' have no row in the model, which has {size}: a text"
        assert re.search(expected, str(caught[0].message))
        with refused:
            tokenizer.encode(["a b@a"])
        with refused:
            tokenizer.encode_with_offsets(["a b@a"])
    with refused:
        tokenizer.encode(["a b@a"], reads_specials=True)
