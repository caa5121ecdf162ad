"""Tokenizers of SentencePiece: Marian's pair of models with one vocabulary, and single models."""

from __future__ import annotations

import io
import json
import sys
import warnings
from pathlib import Path

import pytest
from tests.tasks.translation.published_languages import CODES, SPECIALS, fairseq_folder

from regard.errors import WeightsError
from regard.hub.hugging_face.recognize import has_sentencepiece
from regard.hub.hugging_face.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    read_any_tokenizer,
    read_sentencepiece,
)

WORDS = "the cat sees a dog and the dog sees a red house by the old river"
GERMAN = "die Katze sieht einen Hund und der Hund sieht ein rotes Haus am alten Fluss"
TEXTS = ["the dog sees the cat", "  a red   house ", "", "xyz é", "</s> of the river"]


@pytest.fixture(scope="module")
def sentencepiece():
    return pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def models(sentencepiece) -> dict[str, bytes]:
    return {
        "en": trained(sentencepiece, WORDS, pad_id=-1),
        "de": trained(sentencepiece, GERMAN, pad_id=-1),
        "t5": trained(sentencepiece, WORDS, pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
        "llama": trained(sentencepiece, WORDS, pad_id=-1, model_type="bpe"),
    }


def trained(sentencepiece, text: str, **options) -> bytes:
    stream, words = io.BytesIO(), text.split()
    lines = [" ".join(words[place:] + words[:place]) for place in range(len(words))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=stream,
        vocab_size=45,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return stream.getvalue()


@pytest.fixture
def marian(sentencepiece, models, tmp_path) -> Path:
    (tmp_path / "source.spm").write_bytes(models["en"])
    (tmp_path / "target.spm").write_bytes(models["de"])
    pieces = ["</s>", "<unk>", ">>deu<<"]
    for name in ("en", "de"):
        processor = sentencepiece.SentencePieceProcessor(model_proto=models[name])
        pieces += [processor.id_to_piece(token) for token in range(3, len(processor))]
    pieces = [*dict.fromkeys(pieces), "<pad>"]
    vocab = {piece: token for token, piece in enumerate(pieces)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def peer_type():
    return pytest.importorskip("transformers").MarianTokenizer


def test_both_sides_have_the_ids_that_transformers_gives_them(marian, peer_type):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that it does not use
        peer = peer_type.from_pretrained(marian)
    tokenizer = read_sentencepiece(marian)
    texts = [text for text in TEXTS if "</s>" not in text]  # which they take for the token
    rows = tokenizer.encode(texts, adds_specials=True)
    assert rows == peer(texts).input_ids
    targets = ["der Hund sieht die Katze", "am Fluss"]
    assert [[*row, 0] for row in tokenizer.encode_targets(targets)] == peer(
        text_target=targets
    ).input_ids
    assert tokenizer.decode(rows) == peer.batch_decode(rows, skip_special_tokens=True)


def test_special_tokens_have_their_roles_and_end_a_text(marian):
    tokenizer = read_sentencepiece(marian)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, 0)
    assert tokenizer.pad_id == len(tokenizer) - 1
    assert tokenizer.encode([""], adds_specials=True) == [[0]]
    assert tokenizer.encode([""]) == [[]]


def test_a_known_target_language_before_a_source_is_one_token(marian):
    tokenizer = read_sentencepiece(marian)
    (plain,) = tokenizer.encode(["the cat"])
    assert tokenizer.encode([">>deu<< the cat"]) == [[2, *plain]]
    assert 2 not in tokenizer.encode([">>fra<< the cat"])[0]
    assert tokenizer.pieces([2, plain[0]])[0] == ">>deu<<"


def test_a_special_token_that_is_spelled_out_is_text_unless_asked_for(marian):
    tokenizer = read_sentencepiece(marian)
    (as_text,) = tokenizer.encode(["</s> cat"])
    (as_token,) = tokenizer.encode(["</s> cat"], reads_specials=True)
    assert 0 not in as_text
    assert as_token == [0, *tokenizer.encode(["cat"])[0]]


def test_targets_come_back_and_pieces_show_their_spaces(marian):
    tokenizer = read_sentencepiece(marian)
    (row,) = tokenizer.encode_targets(["der Hund sieht"])
    row.append(tokenizer.eos_id)
    assert tokenizer.decode([row]) == ["der Hund sieht"]
    assert "".join(tokenizer.pieces(row)) == " der Hund sieht</s>"
    assert tokenizer.pieces([10_000]) == [""]


def test_a_single_model_with_an_end_is_read(models, sentencepiece, tmp_path):
    (tmp_path / "spiece.model").write_bytes(models["t5"])
    tokenizer = read_sentencepiece(tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_proto=models["t5"])
    assert tokenizer.encode(TEXTS) == processor.encode(TEXTS)
    assert tokenizer.encode(TEXTS, adds_specials=True) == processor.encode(TEXTS, add_eos=True)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 1, 0)
    assert len(tokenizer) == len(processor)
    assert (tokenizer.stop_ids, tokenizer.written_stop_ids) == ({1}, frozenset())
    tokenizer.stop_ids = frozenset({1, 5})
    del tokenizer.written_stop_ids
    assert tokenizer.written_stop_ids == {5}


@pytest.mark.parametrize("ends", [{}, {"add_eos_token": True, "add_bos_token": False}], ids=str)
def test_the_settings_tell_what_stands_around_a_text(ends, models, sentencepiece, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(models["llama"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(ends))
    tokenizer = read_sentencepiece(tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_proto=models["llama"])
    wanted = processor.encode(TEXTS, add_bos=not ends, add_eos=bool(ends))
    assert tokenizer.encode(TEXTS, adds_specials=True) == wanted


def test_a_folder_is_recognised_by_its_files(tmp_path):
    assert not has_sentencepiece(tmp_path)
    (tmp_path / "source.spm").touch()
    assert has_sentencepiece(tmp_path)


def test_it_makes_no_tokenizer_json(marian):
    with pytest.raises(WeightsError) as caught:
        read_sentencepiece(marian).to_json()
    assert str(caught.value) == (
        f"{marian}/vocab.json: a model of SentencePiece, which no tokenizer.json can hold.  "
        "Copy its files to where the tokenizer is wanted."
    )


def test_what_a_model_of_pieces_does_not_say_is_not_called_a_missing_file(marian):
    tokenizer = read_sentencepiece(marian)
    for refused, why in [
        (lambda: tokenizer.encode_with_offsets(["the cat"]), "which characters of a text a token"),
        (lambda: tokenizer.pair_template, "which tokens join two texts"),
    ]:
        with pytest.raises(WeightsError, match=f"does not say {why}.*Save a tokenizer.json"):
            refused()


def refusal(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_sentencepiece(folder)
    return str(caught.value).replace(str(folder), "m")


def test_a_missing_file_of_a_pair_is_named(tmp_path):
    (tmp_path / "source.spm").touch()
    assert refusal(tmp_path) == "m/target.spm: missing, which belongs to source.spm."
    (tmp_path / "target.spm").touch()
    assert refusal(tmp_path) == "m/vocab.json: missing, which belongs to source.spm."


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ({"</s>": 0, "<unk>": 1}, "m/vocab.json: has no <pad>."),
        ({"</s>": "0"}, "m/vocab.json: a whole number was expected for every piece."),
    ],
)
def test_a_damaged_vocabulary_is_reported(vocab, message, tmp_path):
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).touch()
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    assert refusal(tmp_path) == message


def test_vocabularies_apart_are_refused(marian):
    (marian / "target_vocab.json").write_text("{}")
    assert refusal(marian) == (
        "m/target_vocab.json: separate vocabularies of source and target are not read."
    )


@pytest.mark.usefixtures("sentencepiece")
def test_a_damaged_model_is_reported(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"no model")
    assert refusal(tmp_path).startswith("m/spiece.model: not a model of SentencePiece (")


def test_a_missing_package_is_reported_with_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "spiece.model").touch()
    assert refusal(tmp_path) == (
        "m/spiece.model: reading it takes the package sentencepiece, which is not installed.  "
        "Install it: pip install sentencepiece"
    )


def test_without_the_package_only_text_methods_raise(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "tokenizer.model").touch()
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    tokenizer = read_any_tokenizer(tmp_path)
    assert tokenizer.eos_id == 2
    for call in (lambda: tokenizer.encode(["a"]), lambda: tokenizer.decode([[1]])):
        with pytest.raises(WeightsError) as caught:
            call()
        assert "pip install sentencepiece" in str(caught.value)


def test_a_pair_goes_before_a_tokenizer_file_and_that_before_a_single_model(marian, models):
    word_level = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}}}
    word_level["model"]["unk_token"] = "a"
    (marian / "tokenizer.json").write_text(json.dumps(word_level))
    assert isinstance(read_any_tokenizer(marian), SentencePieceTokenizer)
    (marian / "source.spm").unlink()
    (marian / "spiece.model").write_bytes(models["t5"])
    assert not isinstance(read_any_tokenizer(marian), SentencePieceTokenizer)
    (marian / "tokenizer.json").unlink()
    assert isinstance(read_any_tokenizer(marian), SentencePieceTokenizer)


def test_a_folder_without_any_tokenizer_is_opened(tmp_path):
    with pytest.raises(WeightsError) as caught:
        read_any_tokenizer(tmp_path).encode(["a"])
    assert str(caught.value) == (
        f"{tmp_path}/tokenizer.json: missing, so text cannot be read or written; token ids can."
    )


def test_its_files_come_back_as_they_were_with_their_settings(marian):
    (marian / "tokenizer_config.json").write_text('{"source_lang": "eng"}')
    found = read_sentencepiece(marian).files()
    assert sorted(found) == ["source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]
    assert all((marian / name).read_bytes() == content for name, content in found.items())


def test_without_the_package_nothing_is_exported_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "spiece.model").touch()
    tokenizer = read_any_tokenizer(tmp_path)
    assert tokenizer.is_missing
    with pytest.raises(WeightsError, match="takes the package sentencepiece"):
        tokenizer.files()


def test_a_text_tells_its_target_language_only_where_the_vocabulary_has_it(marian):
    tokenizer = read_sentencepiece(marian)
    texts = (">>deu<< the cat", ">>fra<< the cat", "the cat >>deu<<")
    assert [tokenizer.language_tag(text) for text in texts] == [">>deu<<", "", ""]


@pytest.mark.parametrize("form", ["added_tokens.json", "added_tokens_decoder"])
def test_added_tokens_that_the_models_do_not_have_are_refused(form, marian):
    size = len(read_sentencepiece(marian))
    entries = {"1": {"content": "<unk>"}, str(size): {"content": "<x>"}}
    if form == "added_tokens.json":
        (marian / form).write_text(json.dumps({"<unk>": 1, "<x>": size}))
    else:
        (marian / "tokenizer_config.json").write_text(json.dumps({form: entries}))
    with pytest.raises(WeightsError, match=r"added token '<x>': a model of SentencePiece does not"):
        read_sentencepiece(marian)


def test_added_tokens_that_the_models_have_are_read(marian):
    size = len(read_sentencepiece(marian))
    entries = {"0": {"content": "</s>"}, str(size - 1): {"content": "<pad>"}}
    (marian / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": entries}))
    assert len(read_sentencepiece(marian)) == size


def test_a_text_with_a_piece_without_a_row_is_refused(marian):
    token = max(read_sentencepiece(marian).encode(["the cat"])[0])
    (marian / "config.json").write_text(json.dumps({"vocab_size": token}))
    tokenizer = read_sentencepiece(marian)
    for encode in (tokenizer.encode, tokenizer.encode_targets):
        with pytest.raises(WeightsError, match=f"the weights have {token} rows of tokens"):
            encode(["the cat"])


def test_sentinels_of_t5_follow_its_pieces_the_last_one_first(models, tmp_path):
    (tmp_path / "spiece.model").write_bytes(models["t5"])
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 3}')
    tokenizer = read_sentencepiece(tmp_path)
    first = len(tokenizer) - 1
    ((*_, zero, river),) = tokenizer.encode(["the dog <extra_id_0> river"])
    (row,) = tokenizer.encode(["<extra_id_2><extra_id_0> dog"], adds_specials=True)
    assert (zero, row[:2], row[-1]) == (first, [first - 2, first], 1)
    assert tokenizer.decode([row]) == ["dog"]
    assert tokenizer.token_string(river) != "<extra_id_0>"


def test_sentinels_without_a_row_are_left_out(models, tmp_path):
    (tmp_path / "spiece.model").write_bytes(models["t5"])
    num_pieces = len(read_sentencepiece(tmp_path))
    fields = {"model_type": "mt5", "vocab_size": num_pieces + 2}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    tokenizer = read_sentencepiece(tmp_path)
    assert len(tokenizer) == num_pieces + 2
    assert tokenizer.token_string(num_pieces) == "<extra_id_99>"


MBART50_TEXTS = ["the cat sees a dog", "a red  house", " lead", "中文 house"]


def test_pieces_alone_have_the_ids_of_mbart50(sentencepiece, transformers, tmp_path):
    codes = transformers.models.mbart50.tokenization_mbart50.FAIRSEQ_LANGUAGE_CODES
    fairseq_folder(sentencepiece, tmp_path, codes, tokenizer_class="MBart50Tokenizer")
    tokenizer = read_any_tokenizer(tmp_path).between("en", "de")
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path, src_lang="en_XX", tgt_lang="de_DE")
    rows = tokenizer.encode(MBART50_TEXTS, adds_specials=True)
    assert rows == peer(MBART50_TEXTS).input_ids
    assert tokenizer.languages is not None
    assert tokenizer.languages.first_id == peer.convert_tokens_to_ids("de_DE")
    assert tokenizer.decode(rows)[0] == MBART50_TEXTS[0]


def test_pieces_alone_of_nllb_have_the_languages_of_its_settings(sentencepiece, tmp_path):
    fairseq_folder(sentencepiece, tmp_path, CODES, tokenizer_class="NllbTokenizer")
    tokenizer = read_any_tokenizer(tmp_path)
    assert tokenizer.languages is not None
    first = len(tokenizer) - len(CODES) - 1  # then the languages, and a mask
    assert tokenizer.languages.ids == {code: first + index for index, code in enumerate(CODES)}
    assert [tokenizer.token_string(token) for token in range(5)][:4] == SPECIALS
    assert set(tokenizer.files()) == {"sentencepiece.bpe.model", "tokenizer_config.json"}


def test_pieces_alone_without_the_names_of_languages_are_refused(sentencepiece, tmp_path):
    fairseq_folder(sentencepiece, tmp_path, [], tokenizer_class="NllbTokenizer")
    with pytest.raises(WeightsError, match="additional_special_tokens names no languages"):
        read_any_tokenizer(tmp_path)


def test_pieces_alone_with_some_of_the_languages_are_refused(sentencepiece, tmp_path):
    codes = [f"{letter}aa_Latn" for letter in "abcdefghijklmnop"]
    fairseq_folder(sentencepiece, tmp_path, codes, tokenizer_class="NllbTokenizer")
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["additional_special_tokens"] = codes[:4]
    path.write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="names 4 languages: 29 tokens"):
        read_any_tokenizer(tmp_path)
