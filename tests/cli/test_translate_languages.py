"""Commands with a translator of many languages: translate, evaluate, export, train, explain."""

from __future__ import annotations

import json

import pytest
from tests.cli.commands import run
from tests.tasks.translation.published_languages import SENTENCES, nllb_folder

import regard

pytestmark = pytest.mark.filterwarnings("ignore:(texts are read as|line)")
PO = """msgid ""
msgstr "Language: fr\\n"

msgid "the cat"
msgstr ""
"""


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    return nllb_folder(tmp_path_factory.mktemp("nllb"), generation={"max_length": 12})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    words = [word for text in SENTENCES for word in text.split()]
    rows = [f"{words[i % 13]} {words[i % 11]} {i}\t{words[i % 7]} {i}" for i in range(60)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_lines_begin_with_a_tag_or_lang_names_their_languages(capsys, nllb):
    code, tagged, _ = run(capsys, "translate", nllb, "<de-fr> a dog")
    assert code == 0
    assert run(capsys, "translate", nllb, "a dog", "--lang", "de-fr")[1] == tagged
    code, out, _ = run(capsys, "translate", nllb, "<fr> a dog", "--json", "--align")
    assert code == 0
    assert json.loads(out)["outputs"][0]["alignment"] is not None


def test_without_a_language_the_command_says_which_there_are(capsys, nllb):
    code, _, err = run(capsys, "translate", nllb, "a dog")
    assert code == 2
    assert "--lang en-fr" in err
    assert "zho_Hans, zho_Hant" in err


def test_a_catalog_is_translated_to_the_language_it_names(capsys, nllb, tmp_path):
    path = tmp_path / "app.po"
    path.write_text(PO, encoding="utf-8")
    code, out, _ = run(capsys, "translate", nllb, path)
    assert code == 0
    assert "fuzzy" in out
    path.write_text(PO.replace("Language: fr", "Language: it"), encoding="utf-8")
    code, _, err = run(capsys, "translate", nllb, path)
    assert code == 2
    assert "it: not among the languages of this model" in err


@pytest.mark.slow
def test_pairs_are_scored_in_the_languages_that_are_named(capsys, nllb, pairs):
    code, out, _ = run(capsys, "evaluate", nllb, pairs, "--lang", "en-fr", "--beam", 1, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == 60
    code, _, err = run(capsys, "evaluate", nllb, pairs)
    assert code == 2
    assert "the languages of the pairs are not known.  Name them: --lang en-fr" in err


@pytest.mark.slow
def test_fine_tuning_keeps_its_two_languages(capsys, nllb, pairs, tmp_path):
    words = ("train", pairs, "--from", nllb, "-o", tmp_path / "m", "--set", "training.epochs=1")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "Name them: --lang en-fr" in err
    code, _, err = run(capsys, *words, "--lang", "German-French")
    assert code == 2
    code, _, err = run(capsys, *words, "--lang", "de-fr")
    assert code == 0, err
    opened = regard.load(tmp_path / "m")
    languages = opened.tokenizer.languages
    assert (languages.source, languages.target) == ("deu_Latn", "fra_Latn")
    assert opened.config.search.forced_first == languages.ids["fra_Latn"]
    assert run(capsys, "translate", tmp_path / "m", "a dog")[0] == 0


def test_options_of_languages_are_refused_where_there_are_none(capsys, nllb, trained, tmp_path):
    code, _, err = run(capsys, "export", trained, "-o", tmp_path / "e", "--lang", "en-fr")
    assert code == 2
    assert "--lang en-fr: for a translator of many languages.  Leave it out." in err
    code, _, err = run(capsys, "export", nllb, "-o", tmp_path / "e", "--to", "ctranslate2")
    assert code == 2
    assert "for CTranslate2 one pair is written" in err
