"""Vocabularies: exact round trip for every string, sizes, tags."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.tokenizer import Tokenizer, TokenizerConfig, check_tags, suggest_vocab_size
from regard.errors import ConfigError, WeightsError

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "敏捷的棕色狐狸跳过懒狗。",
    "12 apples and 34 pears",
] * 20
KINDS = ("bpe", "unigram", "word", "character", "byte")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    config = TokenizerConfig(kind=request.param, vocab_size=400, tags=("<de>", "<fr>"))
    return Tokenizer.train(TEXTS, config)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_every_unicode_string_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


@pytest.mark.parametrize(
    "text",
    ["", " ", "  two  spaces  ", "\ttab\r\n", "▁ Ġ", "</s> <pad>", "\x00", "é e\u0301", "🏳️‍🌈 ﷽"],
)
def test_awkward_strings_come_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


def test_no_text_has_the_ids_of_pad_begin_or_end(tokenizer):
    rows = tokenizer.encode(["<pad> <s> </s>", *TEXTS[:4]])
    assert min(min(row) for row in rows) > 2


def test_ids_lie_within_the_vocabulary(tokenizer):
    assert max(max(row) for row in tokenizer.encode(TEXTS)) < len(tokenizer)


def test_a_tag_at_the_beginning_of_a_text_is_found(tokenizer):
    assert set(tokenizer.language_tags) == {"<de>", "<fr>"}
    texts = ("<fr> red", "<de>red", "red <de>", "<es> red", " <de> red", "")
    assert list(map(tokenizer.language_tag, texts)) == ["<fr>", "<de>", "", "", "", ""]
    again = Tokenizer.from_json(tokenizer.to_json(), name="tokenizer.json")
    assert again.language_tag("<fr> red") == "<fr>"


def test_the_tag_of_hidden_tokens_is_of_no_language():
    config = TokenizerConfig(vocab_size=400, tags=("<mask>", "<de>"))
    tokenizer = Tokenizer.train(TEXTS, config)
    assert (tokenizer.language_tags, tokenizer.language_tag("<mask> red")) == (("<de>",), "")


def test_the_vocabulary_has_at_most_the_size_asked_for_and_the_tags(tokenizer):
    assert 259 + 2 <= len(tokenizer) <= 400 + 2


def test_a_tag_is_one_token(tokenizer):
    (row,) = tokenizer.encode(["<de> 12"])
    assert tokenizer.pieces(row)[1] == "<de>" or tokenizer.pieces(row)[0] == "<de>"
    assert sum(piece == "<de>" for piece in tokenizer.pieces(row)) == 1


def test_a_saved_vocabulary_encodes_the_same(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json(), name="tokenizer.json")
    assert again.encode(TEXTS[:4]) == tokenizer.encode(TEXTS[:4])
    assert again.decode(again.encode(["</s>  x"])) == ["</s>  x"]


def test_frequent_words_are_one_token_in_a_word_vocabulary():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(kind="word", vocab_size=400))
    assert tokenizer.pieces(tokenizer.encode(["quick brown"])[0]) == [" quick", " brown"]
    assert len(tokenizer.encode(["zzz"])[0]) == 4


def test_characters_are_one_token_in_a_character_vocabulary():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(kind="character", vocab_size=400))
    assert tokenizer.pieces(tokenizer.encode(["狐狸ü"])[0]) == [" ", "狐", "狸", "ü"]


def test_bytes_are_all_there_is_in_a_byte_vocabulary():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(kind="byte"))
    assert len(tokenizer) == 259
    assert len(tokenizer.encode(["ü"])[0]) == 3


def test_digits_are_single_tokens(tokenizer):
    pieces = tokenizer.pieces(tokenizer.encode(["1234"])[0])
    assert [piece for piece in pieces if piece.strip()] == ["1", "2", "3", "4"]


def test_pieces_of_a_split_character_are_shown_as_bytes():
    tokenizer = Tokenizer.train(TEXTS, TokenizerConfig(kind="byte"))
    assert tokenizer.pieces(tokenizer.encode(["ü"])[0])[1:] == ["\\xc3", "\\xbc"]


@pytest.mark.slow
def test_the_suggested_size_grows_with_the_text():
    assert suggest_vocab_size(["x" * 1000]) == 500
    assert suggest_vocab_size(["x" * 1_000_000]) == 1500
    assert suggest_vocab_size(["x" * 1_000_000_000]) == 16_000


def test_a_file_that_is_no_vocabulary_is_refused_by_name():
    with pytest.raises(WeightsError, match=r"^ende/tokenizer\.json: not a tokenizer file"):
        Tokenizer.from_json("{}", name="ende/tokenizer.json")


def test_a_tag_with_a_space_is_refused():
    with pytest.raises(ConfigError, match="a tag is one word, such as <de>"):
        check_tags(TokenizerConfig(tags=("< de >",)))


def test_a_vocabulary_below_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="vocab_size must be 300 or more, not 10"):
        TokenizerConfig(vocab_size=10)
