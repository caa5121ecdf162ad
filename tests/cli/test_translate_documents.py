"""``regard translate`` of a file that keeps its form: what is written, and what is refused."""

from __future__ import annotations

import json

import polib
import pytest
from tests.cli.commands import run

import regard
from regard.errors import ConfigError, DataError
from regard.tasks.translation.documents import translation
from regard.tasks.translation.predictor import Translator

CATALOG = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "3 red cat sees the dog"
msgstr ""

msgid "%d old dog"
msgstr ""

msgid "done"
msgstr "fertig"
"""


@pytest.fixture
def catalog(tmp_path):
    path = tmp_path / "app.po"
    path.write_text(CATALOG, encoding="utf-8")
    return path


def test_a_catalog_becomes_a_catalog_and_counts_go_to_standard_error(capsys, trained, catalog):
    output = catalog.with_name("app.de.po")
    code, out, err = run(capsys, "translate", trained, catalog, "-o", output, "--lang", "en-de")
    assert (code, out) == (0, "")
    assert "app.de.po: 3 entries, 2 filled, 1 kept; placeholders: " in err
    entries = {entry.msgid: entry for entry in polib.pofile(str(output))}
    assert entries["done"].msgstr == "fertig"
    assert entries["%d old dog"].msgstr.count("%d") == 1
    assert entries["%d old dog"].flags == ["fuzzy"]
    assert catalog.read_text(encoding="utf-8") == CATALOG


def test_without_a_name_the_file_goes_to_standard_output(capsys, trained, catalog):
    code, out, err = run(capsys, "translate", trained, catalog, "--no-fuzzy")
    assert code == 0
    assert out.startswith('msgid ""\nmsgstr "Content-Type')
    assert "fuzzy" not in out
    assert "app.po: 3 entries" in err


def test_counts_are_an_object_with_json(capsys, trained, catalog):
    code, out, _ = run(capsys, "translate", trained, catalog, "-o", catalog, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["file"] == str(catalog)
    assert (report["entries"], report["filled"], report["kept"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nbest", 2], "--nbest is for lines"),
        (["--align"], "--align is for lines"),
        (["--json"], "Name a file for it: -o FILE"),
        (["--lang", "german"], "two codes of languages were expected"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, trained, catalog, options, message):
    code, out, err = run(capsys, "translate", trained, catalog, *options)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("option", [("--lang", "en-de"), ("--no-fuzzy",)])
def test_options_of_documents_are_refused_for_lines(capsys, trained, option):
    code, _, err = run(capsys, "translate", trained, "3 red cat", *option)
    assert code == 2
    assert f"{option[0]} is for files of these formats: .po, .pot" in err


def test_the_name_of_a_catalog_can_be_taken_as_text(capsys, trained, catalog, monkeypatch):
    monkeypatch.chdir(catalog.parent)
    assert run(capsys, "translate", trained, "app.po", "--text")[1].count("\n") == 1


def test_nothing_is_left_where_a_file_is_damaged_or_the_command_interrupted(
    capsys, trained, catalog, monkeypatch
):
    output = catalog.with_name("out.po")
    catalog.write_text("hello", encoding="utf-8")
    code, _, err = run(capsys, "translate", trained, catalog, "-o", output)
    assert (code, "app.po:1:" in err) == (3, True)
    catalog.write_text(CATALOG, encoding="utf-8")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(translation, "fill_segments", interrupt)
    assert run(capsys, "translate", trained, catalog, "-o", output)[0] == 130
    assert [path.name for path in catalog.parent.iterdir()] == ["app.po"]


def test_a_file_of_other_languages_than_the_model_is_noted(trained, catalog):
    catalog.write_text(CATALOG.replace("UTF-8", "UTF-8\\nLanguage: fr"), encoding="utf-8")
    translator = regard.load(trained)
    translator.config = _with_languages(translator.config, "en-de")
    with pytest.warns(UserWarning, match=r"is to be in fr, and the model writes de"):
        translator.translate_file(catalog)


def _with_languages(config, languages, **tokenizer):
    from msgspec.structs import replace

    return replace(
        config,
        data=replace(config.data, languages=languages),
        tokenizer=replace(config.tokenizer, **tokenizer),
    )


def test_the_target_of_a_file_says_which_of_several_languages_is_written(
    trained, catalog, monkeypatch
):
    translator = regard.load(trained)
    translator.config = _with_languages(translator.config, "en-de,fr", tags=["<de>", "<fr>"])
    asked = []

    def translate_best(self, texts, **options):
        asked.extend(texts)
        return [[] for _ in texts]

    monkeypatch.setattr(Translator, "translate_best", translate_best)
    monkeypatch.setattr(type(translator.tokenizer), "language_tag", lambda _, text: text[:4])
    with pytest.raises(ConfigError, match=r"this model writes de, fr\.  Name one: `lang=en-de`"):
        translator.translate_file(catalog)
    content = translator.translate_file(catalog, lang="en-fr").content
    assert asked[0] == "<fr> 3 red cat sees the dog"
    assert b"3 red cat" in content


def test_in_python_a_file_is_returned_and_written(trained, catalog, tmp_path):
    translator, output = regard.load(trained), tmp_path / "new" / "out.po"
    result = translator.translate_file(str(catalog), output, beam=1)
    assert output.read_bytes() == result.content
    assert result.report.filled == 2
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"x\.csv: a file of a format .* was expected: \.po, \.pot"):
        translator.translate_file(tmp_path / "x.csv")
