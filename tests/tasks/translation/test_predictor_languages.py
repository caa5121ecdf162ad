"""Published translators of many languages: which is read and written, and how that is said."""

from __future__ import annotations

import json

import pytest
from tests.tasks.translation.published_languages import (
    CODES,
    SEARCH,
    SENTENCES,
    m2m100_folder,
    nllb_folder,
)

import regard
from regard.errors import ConfigError, WeightsError
from regard.explain.report.attributed_words import AttributedWords, attribute_words
from regard.runs.export_check import export_model
from regard.runs.scoring import Decoding, evaluate

pytestmark = pytest.mark.filterwarnings("ignore:(texts are read as|line)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return nllb_folder(tmp_path_factory.mktemp("nllb"), generation={"max_length": 12})


@pytest.fixture(scope="module")
def nllb(folder):
    return regard.load(folder)


def first_tokens(translator, text, **options):
    """Return the ids of the source as the encoder reads it, and the first one of the output."""
    other, rest = translator.direct(text, **options)
    tokenizer = other.tokenizer
    (row,) = tokenizer.encode([rest], adds_specials=True)
    assert other.config.search.forced_first == tokenizer.of_targets().begin_ids[0]
    return row, other.config.search.forced_first


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("<de-fr> a dog", {}),
        ("<deu_Latn-fra_Latn> a dog", {}),
        ("<German-French> a dog", {}),
        ("a dog", {"lang": "de-fr"}),
        ("a dog", {"lang": "deu-fra"}),
        ("a dog", {"lang": "German-fr-CA"}),
    ],
)
def test_a_pair_is_named_by_a_tag_or_for_all_texts_by_code_or_name(nllb, text, options):
    row, first = first_tokens(nllb, text, **options)
    ids = nllb.tokenizer.languages.ids
    assert (row[0], row[-1], first) == (ids["deu_Latn"], 2, ids["fra_Latn"])
    assert nllb.tokenizer.decode([row]) == ["a dog"]


def test_without_a_source_it_is_the_default_which_is_said(folder):
    nllb = regard.load(folder)
    with pytest.warns(UserWarning, match="texts are read as eng_Latn, the default of this model"):
        row, _ = first_tokens(nllb, "<fr> a dog")
    assert row[0] == nllb.tokenizer.languages.ids["eng_Latn"]


def test_texts_of_several_pairs_come_back_in_their_order(nllb):
    texts = ["<de-fr> a dog", "<en-de> a red house", "", "<de-fr> the cat"]
    together = nllb.translate(texts, beam=2)
    assert together == [nllb.translate(text, beam=2) for text in texts]
    assert together[2] == ""
    plain = nllb.translate(["a dog", "the cat"], lang="de-fr", beam=2)
    assert plain == [together[0], together[3]]


def test_texts_are_taken_as_they_are_where_all_have_their_languages_named(nllb):
    other, rest = nllb.direct("<fr> a dog", lang="en-de")
    assert rest == "<fr> a dog"
    assert other.config.data.languages == "en-de"


def test_a_code_in_a_text_is_text(nllb):
    (row,) = nllb.tokenizer.encode(["fra_Latn a dog"])
    assert nllb.tokenizer.languages.ids["fra_Latn"] not in row


@pytest.mark.parametrize(
    ("text", "lang", "message"),
    [
        (
            "a dog",
            "",
            "'a dog': the language to be written is not named.  Begin the text with its tag, such "
            "as <fr> or <de-fr>, or name it for all: `lang=en-fr`.  The languages of this model: "
            f"{', '.join(CODES)}.",
        ),
        (
            "a dog",
            "en-frx",
            f"frx: not among the languages of this model: {', '.join(CODES)}.  Did you mean "
            "fra_Latn?",
        ),
        ("a dog", "en-zh", "zh: this model has zho_Hans, zho_Hant.  Name one of them."),
        ("a dog", "en-fr-de", "`lang=en-fr-de`: two languages were expected, such as en-de, or"),
    ],
)
def test_a_language_that_is_missing_or_not_known_is_refused_with_those_there_are(
    nllb, text, lang, message
):
    with pytest.raises(ConfigError) as caught:
        nllb.translate(text, lang=lang)
    assert str(caught.value).startswith(message)


def test_markup_at_the_beginning_is_no_language_and_the_error_says_the_way(nllb):
    with pytest.raises(ConfigError, match=r"^<b> at the beginning of a text: b: not among .*lang="):
        nllb.translate("<b> a dog")


def test_a_forced_first_token_is_the_language_that_a_folder_writes(tmp_path):
    folder = nllb_folder(tmp_path)
    first = regard.load(folder).tokenizer.languages.ids["fra_Latn"]
    search = SEARCH | {"forced_bos_token_id": first, "max_length": 12}
    (folder / "generation_config.json").write_text(json.dumps(search))
    translator = regard.load(folder)
    assert translator.tokenizer.languages.target == "fra_Latn"
    assert translator.config.data.languages == "en-fr"
    assert translator.translate(SENTENCES[0]) == translator.translate(SENTENCES[0], lang="en-fr")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tgt_lang": "deu_Latn"}))
    with pytest.raises(ConfigError, match=r"tgt_lang=deu_Latn: forced_bos_token_id=.* is fra_Latn"):
        regard.load(folder)


def test_the_older_form_has_the_language_of_a_source_after_its_end(tmp_path):
    nllb = regard.load(nllb_folder(tmp_path, legacy_behaviour=True, src_lang="deu_Latn"))
    row, first = first_tokens(nllb, "a dog", lang="de-fr")
    ids = nllb.tokenizer.languages.ids
    assert (row[-2:], first) == ([2, ids["deu_Latn"]], ids["fra_Latn"])
    assert ids["deu_Latn"] not in row[:-1]


def test_a_class_that_names_languages_in_its_own_way_is_refused(tmp_path):
    folder = nllb_folder(tmp_path, tokenizer_class="SMALL100Tokenizer")
    with pytest.raises(ConfigError, match="tokenizer_class=SMALL100Tokenizer: says in its own way"):
        regard.load(folder)


def test_a_language_without_a_token_is_refused(tmp_path):
    folder = nllb_folder(tmp_path, src_lang="ita_Latn")
    with pytest.raises(WeightsError, match="src_lang=ita_Latn: the vocabulary has no token of it"):
        regard.load(folder)


def test_an_output_that_a_published_limit_cuts_is_warned_of(nllb):
    with pytest.warns(UserWarning, match="line 1: cut off at 11 tokens, the limit of this folder"):
        nllb.translate("a dog", lang="de-fr", beam=1)


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    return regard.load(m2m100_folder(sentencepiece, tmp_path_factory.mktemp("m2m100")))


def test_tokens_of_m2m100s_languages_follow_its_pieces(m2m100):
    languages = m2m100.tokenizer.languages
    assert languages.codes == ["en", "ha", "is", "ja", "cs", "ru", "zh", "de"]
    assert list(languages.ids.values()) == list(range(languages.ids["en"], len(m2m100.tokenizer)))
    row, first = first_tokens(m2m100, "<German-zh-CN> the cat sees")
    assert (row[0], first) == (languages.ids["de"], languages.ids["zh"])
    assert m2m100.tokenizer.decode([row]) == ["the cat sees"]
    assert len(m2m100.tokenizer.unused_ids(m2m100.model.vocab_size)) == 2


@pytest.mark.slow
def test_a_pair_goes_out_with_its_tokens_and_comes_back(m2m100, tmp_path):
    opened = m2m100.between("de", "zh")
    exported = export_model(opened, tmp_path / "hf", texts=SENTENCES)
    assert exported.difference == 0
    assert exported.texts.is_equal or not exported.texts.peer
    again = regard.load(tmp_path / "hf")
    languages = again.tokenizer.languages
    assert (languages.source, languages.target) == ("de", "zh")
    assert again.translate(SENTENCES) == opened.translate(SENTENCES)


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 4])
def test_transformers_writes_the_same(folder, nllb, beam):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, src_lang="deu_Latn")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    first = tokenizer.convert_tokens_to_ids("fra_Latn")
    batch = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    limits = {"max_new_tokens": 11, "max_length": None}
    written = model.generate(**batch, forced_bos_token_id=first, num_beams=beam, **limits)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert nllb.translate(SENTENCES, lang="de-fr", beam=beam) == texts


@pytest.mark.slow
def test_the_worst_rows_of_a_model_of_many_languages_are_explained(folder, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("the cat sees a dog\tein Hund\na red house\tein rotes Haus\n")
    report, _, translator = evaluate(
        folder, path, decoding=Decoding(beam=1, lang="en-de"), num_worst=2, has_details=True
    )
    for row in report.details.worst:
        words = attribute_words(translator, row.explained)
        assert isinstance(words, AttributedWords)
        assert "".join(word.text for word in words.words).split() == row.texts["source"].split()
