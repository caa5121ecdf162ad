"""Settings of a folder that change its vocabulary: the tokens are those of ``transformers``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.hub.hugging_face.test_published_tokenizer import MERGES, PAIRS, WORDS
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.published_tokenizer import read_tokenizer
from regard.hub.hugging_face.sentencepiece_tokenizer import read_any_tokenizer
from regard.hub.hugging_face.tokenizer_overrides import tokenizer_class
from regard.models import CHECKPOINT_FORMATS

TEXTS = ["the Cat running", " cat", "é <x> cat<x>the", "", "the the cats runs the cat"]


def write(folder: Path, backend: Backend, *, rows: int = 99, **settings: Any) -> Path:
    """Write a vocabulary with settings; `settings` names the class."""
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model_type = "gpt2" if isinstance(backend.model, models.BPE) else "bert"
    fields = {"model_type": model_type, "vocab_size": rows}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def byte_pairs(*, has_prefix: bool = False, begins: bool = False) -> Backend:
    merges = [tuple(line.split()) for line in MERGES.splitlines()[1:]]
    backend = Backend(models.BPE({piece: index for index, piece in enumerate(PAIRS)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=has_prefix)
    backend.decoder = decoders.ByteLevel()
    if begins:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return backend


def word_pieces(*, lowercase: bool = True) -> Backend:
    words = {word: index for index, word in enumerate([*WORDS, "Cat"])}
    backend = Backend(models.WordPiece(words, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def unigram(*, first: str = "<s>") -> Backend:
    """Return a vocabulary of SentencePiece's, whose ids begin with `first`."""
    specials = [first, "<pad>", "</s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in specials]
    pieces += [
        (piece, -float(rank)) for rank, piece in enumerate(["▁the", "▁", *"acehrst", "▁cat"])
    ]
    pieces += [("<s>", 0.0)] * (first != "<s>") + [("<mask>", 0.0)]
    backend = Backend(models.Unigram(pieces, unk_id=3))
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    tokens = [AddedToken(piece, normalized=False) for piece in {*specials, "<s>"}]
    backend.add_special_tokens([*tokens, AddedToken("<mask>", lstrip=True, normalized=False)])
    return backend


def assert_same(folder: Path, transformers: Any, texts=TEXTS) -> Any:
    """Compare tokens with and without special ones; return our tokenizer."""
    ours, theirs = read_any_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for adds_specials in (True, False):
        expected = theirs(list(texts), add_special_tokens=adds_specials)["input_ids"]
        assert ours.encode(texts, adds_specials=adds_specials) == expected
    return ours


@pytest.mark.parametrize(
    "settings", [{}, {"do_lower_case": False}, {"do_lower_case": True}, {"strip_accents": False}]
)
@pytest.mark.parametrize("lowercase", [True, False])
def test_bert_reads_in_the_case_that_the_settings_name(settings, lowercase, transformers, tmp_path):
    backend = word_pieces(lowercase=lowercase)
    write(tmp_path, backend, tokenizer_class="BertTokenizer", **settings)
    ours = assert_same(tmp_path, transformers)
    reads_case = settings.get("do_lower_case") is False
    assert ours.encode(["Cat"]) == [[12 if reads_case else 6]]


@pytest.mark.parametrize("wanted", [True, False, None])
@pytest.mark.parametrize("has_prefix", [True, False])
@pytest.mark.parametrize("name", ["GPT2Tokenizer", "RobertaTokenizerFast"])
def test_byte_pairs_begin_with_a_space_where_the_settings_say_so(
    name, wanted, has_prefix, transformers, tmp_path
):
    settings = {} if wanted is None else {"add_prefix_space": wanted}
    backend = byte_pairs(has_prefix=has_prefix)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    write(tmp_path, backend, tokenizer_class=name, unk_token="<s>", **settings)
    ours = read_any_tokenizer(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.encode(["cat"]) == [theirs("cat", add_special_tokens=False)["input_ids"]]
    assert ours.encode(["cat"]) == [[12 if wanted else 11]]


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<s>"}


@pytest.mark.parametrize(
    ("settings", "around"),
    [
        ({"add_bos_token": True}, ([0], [])),
        ({"add_bos_token": False}, ([], [])),
        ({"add_bos_token": True, "add_eos_token": True}, ([0], [2])),
        ({"add_eos_token": True}, ([], [2])),
        ({"add_bos_token": None}, ([], [])),
        ({}, ([], [])),
    ],
)
def test_a_vocabulary_has_the_tokens_around_a_text_that_the_settings_ask_for(
    settings, around, transformers, tmp_path
):
    write(tmp_path, byte_pairs(), tokenizer_class="GPT2Tokenizer", **NAMES, **settings)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(dict(zip(PAIRS, range(99), strict=False))))
    (tmp_path / "merges.txt").write_text(MERGES)
    ours = assert_same(tmp_path, transformers, ["cat", " cat"])
    assert (list(ours.begin_ids), list(ours.end_ids)) == around


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("name", ["GPT2Tokenizer", "PreTrainedTokenizerFast"])
def test_a_tokenizer_file_counts_before_the_settings(name, wanted, begins, transformers, tmp_path):
    settings = NAMES | {"tokenizer_class": name, "add_bos_token": wanted}
    write(tmp_path, byte_pairs(begins=begins), **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = read_tokenizer(tmp_path)
    expected = transformers.AutoTokenizer.from_pretrained(tmp_path)("cat")["input_ids"]
    assert ours.encode(["cat"], adds_specials=True) == [expected]
    assert ["ignored: tokenizer.json" in str(entry.message) for entry in caught] == (
        [] if wanted == begins else [True]
    )


@pytest.mark.parametrize("post_processor", [None, processors.ByteLevel(trim_offsets=False)])
@pytest.mark.parametrize("name", ["BertTokenizer", "RobertaTokenizer", "BartTokenizerFast", None])
def test_classes_of_bert_and_roberta_put_their_tokens_around_a_text_whatever_the_file_says(
    name, post_processor, transformers, tmp_path
):
    backend = byte_pairs() if name and name.startswith(("Ro", "Ba")) else word_pieces()
    backend.post_processor = post_processor
    write(tmp_path, backend, **({"tokenizer_class": name} if name else {}))
    ours = assert_same(tmp_path, transformers)
    assert (len(ours.begin_ids), len(ours.end_ids)) == (1, 1)


@pytest.mark.parametrize(
    ("name", "first"), [("XLMRobertaTokenizer", "<s>"), ("CamembertTokenizerFast", "<s>NOTUSED")]
)
def test_vocabularies_of_sentencepiece_in_a_tokenizer_file_have_roberta_s_tokens(
    name, first, transformers, tmp_path
):
    write(tmp_path, unigram(first=first), tokenizer_class=name)
    ours = assert_same(tmp_path, transformers, [*TEXTS, "  the\tcats "])
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ours.encode_masked("the <mask> cat") == theirs("the <mask> cat")["input_ids"]
    begin, between, end, _ = ours.pair_template
    pair = theirs("cat", "the")["input_ids"]
    cat, the = ours.encode(["cat", "the"])
    assert [*begin, *cat, *between, *the, *end] == pair
    assert len(between) == 2


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize("has_added", [True, False])
def test_the_file_of_special_tokens_counts_before_settings_without_added_tokens(
    has_added, has_file, transformers, tmp_path
):
    added = {"added_tokens_decoder": {}} if has_added else {}
    write(tmp_path, word_pieces(), tokenizer_class="BertTokenizer", cls_token="the", **added)
    if not has_file:
        (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"cls_token": "cat"}))
    ours = assert_same(tmp_path, transformers, ["running"])
    assert ours.begin_ids == ((5,) if has_added else (6,))


def test_a_token_around_a_text_that_the_vocabulary_lacks_is_left_out(tmp_path):
    write(tmp_path, byte_pairs(), tokenizer_class="GPT2Tokenizer", add_bos_token=True)
    assert read_tokenizer(tmp_path).begin_ids == ()


@pytest.mark.parametrize("flag", [True, False])
def test_added_tokens_of_the_settings_are_tokens(flag, transformers, tmp_path):
    fields = {"content": "<x>", "special": False, "lstrip": flag, "rstrip": False}
    fields |= {"normalized": False, "single_word": False}
    size = len(WORDS) + 1
    added = {str(size): fields}
    write(tmp_path, word_pieces(), tokenizer_class="BertTokenizer", added_tokens_decoder=added)
    ours = assert_same(tmp_path, transformers)
    assert ours.encode(["the<x>cat"]) == [[5, size, 6]]


def test_added_tokens_of_an_old_file_are_tokens(transformers, tmp_path):
    write(tmp_path, word_pieces(), tokenizer_class="BertTokenizer")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<x>": len(WORDS) + 1}))
    ours = assert_same(tmp_path, transformers)
    assert ours.encode(["the <x>"]) == [[5, len(WORDS) + 1]]


def test_an_added_token_with_another_id_is_refused(tmp_path):
    write(tmp_path, word_pieces())
    (tmp_path / "added_tokens.json").write_text('{"<x>": 50}')
    with pytest.raises(WeightsError, match=r"'<x>' has id 50, the vocabulary gives it 13"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [{"3": 4}, {"x": {"content": "a"}}, {"3": {}}, [1]])
def test_added_tokens_that_cannot_be_read_are_named(content, tmp_path):
    write(tmp_path, word_pieces(), added_tokens_decoder=content)
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json: the added tokens cannot"):
        read_tokenizer(tmp_path)


def test_a_special_token_without_its_text_is_named(tmp_path):
    write(tmp_path, word_pieces(), tokenizer_class="BertTokenizer", additional_special_tokens=[{}])
    (tmp_path / "added_tokens.json").write_text('{"<x>": 9}')
    with pytest.raises(WeightsError, match=r"added_tokens.json: the added tokens cannot be read"):
        read_tokenizer(tmp_path)


def test_a_text_with_an_added_token_without_a_row_is_refused(tmp_path):
    size = len(WORDS) + 1
    write(tmp_path, word_pieces(), rows=size)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"cats": size}))
    with pytest.warns(UserWarning, match=r"'cats' have no row in the model, which has 13: a text"):
        tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.encode(["the cat"]) == [[5, 6]]
    with pytest.raises(WeightsError, match=r"13 rows .* such as 'cats'.*leave the token out"):
        tokenizer.encode(["the cats"])


def test_two_added_tokens_with_one_id_are_refused(tmp_path):
    write(tmp_path, word_pieces())
    (tmp_path / "added_tokens.json").write_text('{"<x>": 13, "<y>": 13}')
    with pytest.raises(WeightsError, match=r"added_tokens.json: .*'<x>' and '<y>' have one id, 13"):
        read_tokenizer(tmp_path)


def test_a_token_of_a_text_without_a_row_is_refused_by_its_name(tmp_path):
    tokenizer = read_tokenizer(write(tmp_path, word_pieces(), rows=11))
    assert tokenizer.encode(["the cat"]) == [[5, 6]]
    with pytest.raises(WeightsError, match=r"have 11 rows .* 13 tokens, .* such as '##s'"):
        tokenizer.encode(["the cats"])


@pytest.mark.parametrize(("length", "limit"), [(7, 7), (1e30, None), (None, None), (True, None)])
def test_the_longest_text_is_that_of_the_settings(length, limit, tmp_path):
    write(tmp_path, word_pieces(), model_max_length=length)
    assert read_tokenizer(tmp_path).max_length == limit


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_long_text_is_cut_where_transformers_cuts_it(side, transformers, tmp_path):
    write(tmp_path, word_pieces(), tokenizer_class="BertTokenizer", truncation_side=side)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for length in (3, 5, 6, 20):
        expected = theirs(TEXTS, truncation=True, max_length=length)["input_ids"]
        assert read_tokenizer(tmp_path).encode_truncated(TEXTS, max_length=length) == expected


def test_a_long_text_without_an_end_is_cut_behind_its_last_token(transformers, tmp_path):
    write(tmp_path, byte_pairs(begins=True), tokenizer_class="PreTrainedTokenizerFast")
    rows = read_tokenizer(tmp_path).encode_truncated(["cat at"], max_length=3)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert rows == [theirs("cat at", truncation=True, max_length=3)["input_ids"]]


def test_a_vocabulary_that_is_split_in_another_way_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    settings = {"tokenizer_class": "BertJapaneseTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="tokenizer_class=BertJapaneseTokenizer: splits texts in"):
        read_tokenizer(tmp_path)


def test_a_space_before_a_text_that_file_and_settings_disagree_about_is_refused(tmp_path):
    backend = byte_pairs()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    settings = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": True}
    read_tokenizer(write(tmp_path, backend, **settings))
    write(tmp_path, backend, **settings | {"add_prefix_space": False})
    with pytest.raises(ConfigError, match=r"add_prefix_space=false: tokenizer\.json puts a space"):
        read_tokenizer(tmp_path)


def test_spaces_before_punctuation_are_cleaned_where_the_settings_say_so(tmp_path):
    backend = Backend(models.WordLevel({"the": 0, "?": 1, "n't": 2}, unk_token="the"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(tmp_path, backend, clean_up_tokenization_spaces=True, **settings)
    assert read_tokenizer(tmp_path).decode([[0, 2, 1]]) == ["then't?"]
    write(tmp_path, backend, clean_up_tokenization_spaces=False, **settings)
    assert read_tokenizer(tmp_path).decode([[0, 2, 1]]) == ["the n't ?"]


def test_the_class_of_a_folder_that_names_none_is_that_of_its_format(monkeypatch):
    own = CHECKPOINT_FORMATS["bert"]._replace(tokenizer_class="OwnTokenizer")
    monkeypatch.setitem(CHECKPOINT_FORMATS, "own", own)
    classes = [tokenizer_class({}, name) for name in ("own", "roberta", "marian", "rwkv", None)]
    others = ["PreTrainedTokenizer"] * 3
    assert classes == ["OwnTokenizer", "RobertaTokenizer", *others]
    assert tokenizer_class({"tokenizer_class": "GPT2TokenizerFast"}, "own") == "GPT2Tokenizer"


def with_part(backend: Backend, **parts: Any) -> Backend:
    """Replace parts of a tokenizer, such as its decoder."""
    for name, part in parts.items():
        setattr(backend, name, part)
    return backend


METASPACE = {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="always")}
OTHER_PIPELINES = {
    "GPT2Tokenizer": (byte_pairs, {"normalizer": normalizers.Strip()}, "normalizer"),
    "RobertaTokenizer": (word_pieces, {}, "model, normalizer, pre_tokenizer, decoder"),
    "BertTokenizer": (word_pieces, {"decoder": decoders.WordPiece(cleanup=False)}, "decoder"),
    "DistilBertTokenizer": (
        word_pieces,
        {"pre_tokenizer": pre_tokenizers.WhitespaceSplit()},
        "pre_tokenizer",
    ),
    "LlamaTokenizer": (byte_pairs, METASPACE, "pre_tokenizer"),
    "XLMRobertaTokenizer": (unigram, METASPACE, "pre_tokenizer"),
}


@pytest.mark.parametrize("name", OTHER_PIPELINES)
def test_a_file_that_reads_texts_otherwise_than_its_class_counts_aloud(name, tmp_path):
    make, parts, differing = OTHER_PIPELINES[name]
    write(tmp_path, with_part(make(), **parts), tokenizer_class=f"{name}Fast")
    message = rf"tokenizer\.json: {differing}: not as in {name}, .* Here the file counts"
    with pytest.warns(UserWarning, match=message):
        ours = read_tokenizer(tmp_path)
    write(tmp_path, with_part(make(), **parts), tokenizer_class="PreTrainedTokenizerFast")
    assert ours.encode(TEXTS[:2]) == read_tokenizer(tmp_path).encode(TEXTS[:2])


def test_a_file_of_byte_pairs_counts_under_the_class_of_llama(transformers, tmp_path):
    write(tmp_path, byte_pairs(), tokenizer_class="LlamaTokenizer")
    assert_same(tmp_path, transformers)
