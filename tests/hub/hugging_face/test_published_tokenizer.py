"""Tokenizers as they are published: every form of file, and folders that have none."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel

from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.errors import WeightsError
from regard.hub.any_tokenizer import prepend_special_tokens
from regard.hub.hugging_face.published_tokenizer import (
    read_tokenizer,
    vocabulary_files,
)

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "run",
    "##ning",
    "é",
    "e",
    "##s",
]
PAIRS = ["<s>", "<pad>", "</s>", "<mask>", "c", "a", "t", "Ġ", "Ã", "©", "ca", "cat", "Ġcat"]
MERGES = "#version: 0.2\nc a\nca t\nĠ cat\n"


@pytest.fixture(scope="module")
def transformers():
    library = pytest.importorskip("transformers")
    names = ("BertTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer")
    return SimpleNamespace(**{name: getattr(library, name) for name in names})


@pytest.fixture
def word_piece(tmp_path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def byte_pairs(tmp_path) -> Path:
    vocab = {piece: place for place, piece in enumerate(PAIRS)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    return tmp_path


def settle(folder: Path, **settings) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_word_pieces_are_those_of_the_vocabulary(word_piece):
    tokenizer = read_tokenizer(word_piece)
    ids = tokenizer.encode(["The cats running"])
    assert ids == [[5, 6, 11, 7, 8]]
    assert tokenizer.pieces(ids[0]) == ["the", "cat", "##s", "run", "##ning"]
    assert tokenizer.decode(ids) == ["the cats running"]
    assert len(tokenizer) == 12


def test_special_tokens_are_added_where_asked_for(word_piece):
    tokenizer = read_tokenizer(word_piece)
    assert tokenizer.encode(["the cat"], adds_specials=True) == [[2, 5, 6, 3]]
    assert tokenizer.decode([[2, 5, 6, 3]]) == ["the cat"]


def test_a_special_token_that_is_spelled_out_is_text_unless_asked_for(word_piece):
    tokenizer = read_tokenizer(word_piece)
    assert tokenizer.encode(["the [MASK]"], reads_specials=True) == [[5, 4]]
    assert 4 not in tokenizer.encode(["the [MASK]"])[0]


@pytest.mark.parametrize(("lower", "ids"), [(True, [[5, 10]]), (False, [[1, 9]])])
def test_lower_case_is_as_the_settings_say(word_piece, lower, ids):
    settle(word_piece, do_lower_case=lower)
    assert read_tokenizer(word_piece).encode(["The é"]) == ids


def test_a_guess_that_capitals_do_not_count_is_said_where_pieces_have_some(word_piece):
    path = word_piece / "vocab.txt"
    path.write_text("\n".join([*WORDS, "[unused1]", "Br", "Cl"]) + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="lower case.* so 2 of its pieces .* such as 'Br'"):
        read_tokenizer(word_piece)
    settle(word_piece, do_lower_case=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_tokenizer(word_piece)


def test_byte_pairs_are_merged_in_their_order(byte_pairs):
    tokenizer = read_tokenizer(byte_pairs)
    ids = tokenizer.encode(["cat caté"])
    assert ids == [[11, 12, 8, 9]]
    assert tokenizer.decode(ids) == ["cat caté"]
    assert tokenizer.pieces(ids[0]) == ["cat", " cat", "\\xc3", "\\xa9"]


def test_byte_pairs_have_special_tokens_around_where_the_settings_name_them(byte_pairs):
    settle(byte_pairs, cls_token="<s>", sep_token={"content": "</s>"}, mask_token="<mask>")
    tokenizer = read_tokenizer(byte_pairs)
    assert tokenizer.encode(["cat"], adds_specials=True) == [[0, 11, 2]]
    assert tokenizer.special_ids["mask"] == 3


def test_byte_pairs_with_the_special_tokens_of_roberta_have_them_around_by_default(byte_pairs):
    tokenizer = read_tokenizer(byte_pairs)
    assert tokenizer.encode(["cat"], adds_specials=True) == [[0, 11, 2]]
    assert tokenizer.begin_ids == (0,)
    assert tokenizer.decode([[0, 11, 2]]) == ["cat"]


def test_rows_begin_with_what_a_published_vocabulary_puts_there(byte_pairs):
    assert prepend_special_tokens(read_tokenizer(byte_pairs), [[11], []]) == [[0, 11], [0]]
    own = Tokenizer.train(["a cat"], TokenizerConfig(kind="byte"))
    assert prepend_special_tokens(own, [[11], []]) == [[11], []]


def test_ids_beyond_the_vocabulary_are_shown_as_nothing(byte_pairs):
    tokenizer = read_tokenizer(byte_pairs)
    assert tokenizer.pieces([11, 99]) == ["cat", ""]
    assert tokenizer.decode([[11, 99]]) == ["cat"]


def test_a_tokenizer_file_goes_before_others_and_neither_pads_nor_cuts(word_piece):
    backend = json.loads(read_tokenizer(word_piece).to_json())
    backend["truncation"] = {
        "direction": "Right",
        "max_length": 1,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    backend["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (word_piece / "tokenizer.json").write_text(json.dumps(backend))
    (word_piece / "vocab.txt").write_text("other\n")
    assert read_tokenizer(word_piece).encode(["the cat", "the"]) == [[5, 6], [5]]


def test_a_tokenizer_of_ours_is_read_as_published(tmp_path):
    ours = Tokenizer.train(["the red cat"] * 3, TokenizerConfig())
    (tmp_path / "tokenizer.json").write_text(ours.to_json())
    published, text = read_tokenizer(tmp_path), "the naïve cat"
    ids = ours.encode([text])
    assert published.encode([text]) == ids
    assert published.decode(ids) == [text]
    assert published.pieces(ids[0]) == ours.pieces(ids[0])


def test_special_ids_are_found_in_every_file(byte_pairs):
    (byte_pairs / "config.json").write_text(json.dumps({"bos_token_id": 7, "eos_token_id": [2, 9]}))
    (byte_pairs / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>"}))
    settle(byte_pairs, pad_token={"content": "<pad>", "special": True})
    tokenizer = read_tokenizer(byte_pairs)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 2, 1)


def test_special_ids_that_no_file_has_are_none(byte_pairs):
    tokenizer = read_tokenizer(byte_pairs)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, None, None)


def test_a_folder_without_a_tokenizer_raises_in_methods_of_text_alone(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": 1}))
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, None, None)
    for method in (
        lambda: tokenizer.encode(["x"]),
        lambda: tokenizer.decode([[1]]),
        lambda: tokenizer.pieces([1]),
        lambda: len(tokenizer),
    ):
        with pytest.raises(WeightsError) as caught:
            method()
        assert str(caught.value) == (
            f"{tmp_path}/tokenizer.json: missing, so text cannot be read or written; token ids can."
        )


def test_a_tokenizer_file_of_a_newer_version_is_not_called_damaged(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "New"}}')
    with pytest.raises(WeightsError, match=r"not read by tokenizers [\d.]+, .* -U tokenizers$"):
        read_tokenizer(tmp_path)


def test_a_damaged_tokenizer_file_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError) as caught:
        read_tokenizer(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/tokenizer.json: not a tokenizer file (")


def test_damaged_byte_pairs_are_refused(byte_pairs):
    (byte_pairs / "merges.txt").write_text("x y\n")
    with pytest.raises(WeightsError) as caught:
        read_tokenizer(byte_pairs)
    start = f"{byte_pairs}: vocab.json or merges.txt is damaged ("
    assert str(caught.value).startswith(start)


def test_a_vocabulary_that_is_not_utf_8_is_refused(word_piece):
    (word_piece / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(WeightsError) as caught:
        read_tokenizer(word_piece)
    assert str(caught.value).startswith(f"{word_piece}/vocab.txt: cannot be read (")


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}], ids=str)
def test_word_pieces_are_those_of_transformers(
    word_piece, settings, tmp_path_factory, transformers
):
    settle(word_piece, tokenizer_class="BertTokenizer", **settings)
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(word_piece, copy, dirs_exist_ok=True)
    theirs = transformers.BertTokenizer.from_pretrained(copy)
    for text in ("The cats  running é", "Running,the cat's 猫", ""):
        expected = theirs(text).input_ids
        assert read_tokenizer(word_piece).encode([text], adds_specials=True) == [expected]


def test_byte_pairs_are_those_of_transformers(byte_pairs, transformers):
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    settle(byte_pairs, tokenizer_class="GPT2Tokenizer", **special)
    theirs = transformers.GPT2Tokenizer.from_pretrained(byte_pairs)
    for text in ("cat cat", "catcaté", "ta c"):
        assert read_tokenizer(byte_pairs).encode([text]) == [theirs(text).input_ids]


@pytest.mark.parametrize("has_file", [True, False])
def test_the_vocabulary_of_qwen_is_that_of_transformers(
    has_file, transformers, tmp_path, tmp_path_factory
):
    pieces = [*sorted(ByteLevel.alphabet()), "ca", "cat", "Ġcat", "<|endoftext|>"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text(MERGES, encoding="utf-8")
    specials = ("<|im_start|>", "<|im_end|>")
    added = {
        str(len(vocab) + number): {"content": token, "special": True, "normalized": False}
        for number, token in enumerate(specials)
    }
    settle(
        tmp_path,
        tokenizer_class="Qwen2Tokenizer",
        added_tokens_decoder=added,
        bos_token=None,
        eos_token="<|im_end|>",
        add_prefix_space=False,
    )
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(tmp_path, copy, dirs_exist_ok=True)
    theirs = transformers.Qwen2Tokenizer.from_pretrained(copy)
    if has_file:
        theirs.save_pretrained(tmp_path)
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, theirs.eos_token_id)
    for text in ("cat  Cat's 12345\r\n\n  x", "cafe\u0301 caf\u00e9", "<|im_start|>cat<|im_end|>"):
        expected = theirs(text).input_ids
        assert tokenizer.encode([text], reads_specials=True) == [expected]
        assert tokenizer.decode([expected]) == [theirs.decode(expected, skip_special_tokens=True)]


def test_ids_without_a_token_are_known(byte_pairs):
    vocab = json.loads((byte_pairs / "vocab.json").read_text(encoding="utf-8"))
    vocab["Ġcat"] = 15  # with 12, 13 and 14 left out
    (byte_pairs / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    tokenizer = read_tokenizer(byte_pairs)
    assert len(tokenizer) == 16
    assert tokenizer.unused_ids(18) == (12, 13, 14, 16, 17)


def test_the_rows_behind_a_vocabulary_of_ones_own_have_no_token():
    tokenizer = Tokenizer.train(["a b"], TokenizerConfig(kind="byte"))
    size = len(tokenizer)
    assert tokenizer.unused_ids(size + 2) == (size, size + 1)
    assert tokenizer.unused_ids(size) == ()


def test_a_mask_goes_out_with_a_vocabulary(tmp_path):
    tokenizer = Tokenizer.train(["a b"], TokenizerConfig(kind="byte", tags=("<mask>",)))
    for name, content in vocabulary_files(tokenizer).items():
        assert isinstance(content, str)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_tokenizer(tmp_path).mask_id == tokenizer.mask_id


def write_pieces(folder: Path, *specials: str) -> None:
    """Write a vocabulary of the unigram model, in whose pieces special tokens are, too."""
    pieces = [*specials, "▁a", "▁", *"</s>abpd", "▁</"]
    backend = Backend(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(list(specials))
    backend.save(str(folder / "tokenizer.json"))


def test_a_special_token_among_pieces_of_the_unigram_model_is_text_unless_asked_for(tmp_path):
    write_pieces(tmp_path, "<pad>", "<unk>", "</s>")
    tokenizer, texts = read_tokenizer(tmp_path), ["a </s> b", "</s>", "a<pad>ab", "</s", "s>"]
    rows = tokenizer.encode(texts)
    assert [tokenizer.pieces(row) for row in rows] == [
        [" a", " </", "s", ">", " ", "b"],
        [" </", "s", ">"],
        [" a", "<", "p", "a", "d", ">", "a", "b"],
        [" </", "s"],
        [" ", "s", ">"],
    ]
    assert tokenizer.decode(rows) == texts
    assert [row.ids for row in tokenizer.encode_with_offsets(texts)] == rows
    assert tokenizer.encode(["</s>"], reads_specials=True) == [[2]]
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(tokenizer.to_json()) == written


def test_a_sentinel_among_pieces_of_the_unigram_model_is_a_token(tmp_path):
    write_pieces(tmp_path, "<pad>", "<unk>", "</s>", "<extra_id_0>")
    tokenizer = read_tokenizer(tmp_path)
    row = tokenizer.encode(["a <extra_id_0> </s>"])[0]
    assert [tokenizer.token_string(token) for token in row].count("<extra_id_0>") == 1
    assert not {0, 2} & set(row)


def test_special_tokens_of_usual_names_are_known_where_no_file_tells(word_piece):
    settle(word_piece, do_lower_case=True)
    tokenizer = read_tokenizer(word_piece)
    found = [tokenizer.special_ids[role] for role in ("pad", "unk", "cls", "sep", "mask")]
    assert found == [0, 1, 2, 3, 4]


def test_an_id_that_the_model_tells_goes_before_a_usual_name(word_piece):
    (word_piece / "config.json").write_text('{"pad_token_id": 5}')
    assert read_tokenizer(word_piece).pad_id == 5


def test_several_ids_end_what_a_model_continues(byte_pairs):
    (byte_pairs / "config.json").write_text('{"vocab_size": 12, "eos_token_id": 2}')
    assert read_tokenizer(byte_pairs).stop_ids == {2}
    (byte_pairs / "generation_config.json").write_text('{"eos_token_id": [2, 9]}')
    assert read_tokenizer(byte_pairs).stop_ids == {2, 9}


def test_ids_that_the_model_has_no_row_for_are_left_out_aloud(word_piece):
    fields = {"vocab_size": 30, "bos_token_id": 50256, "eos_token_id": [3, 99], "pad_token_id": -1}
    (word_piece / "config.json").write_text(json.dumps(fields))
    expected = r"bos_token_id=50256, eos_token_id=99 left out: the model has 30 tokens\."
    with pytest.warns(UserWarning, match=expected):
        tokenizer = read_tokenizer(word_piece)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.stop_ids) == (None, 3, {3})


def test_a_vocabulary_without_ends_of_texts_and_lines_puts_nothing_around_documents(word_piece):
    tokenizer = read_tokenizer(word_piece)
    assert (tokenizer.document_start, tokenizer.document_end) == ([], [])
