"""Sentence pairs of a run, read by their settings."""

from __future__ import annotations

import json

import pytest

from regard.errors import ConfigError
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks import TASKS


def test_the_embedded_corpus_is_read_again_with_its_languages():
    """Settings that were decided hold them: a run without a file can be resumed."""
    data = TASKS["translation"].read(ReadOptions(data=DataConfig(), seed=1))
    again = ReadOptions(data=DataConfig(languages=data.languages), seed=1)
    assert TASKS["translation"].read(again).languages == "en-de,fr,zh"
    with pytest.raises(ConfigError, match="the embedded corpus is en-de,fr,zh"):
        TASKS["translation"].read(ReadOptions(data=DataConfig(languages="en-de"), seed=1))


def test_numbers_of_rows_for_sources_are_warned_of(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{100 + i}\ta text of number {i}\n" for i in range(40)))
    data = TASKS["translation"].read(ReadOptions(data=DataConfig(path=str(path)), seed=1))
    warning = "The sources are numbers that rise.  Numbers of rows?  Leave that column out."
    assert data.warnings() == [warning]


@pytest.mark.parametrize(
    ("columns", "languages", "is_guessed"),
    [
        (("en", "sk"), "en-sk", False),
        (("German", "English"), "de-en", False),
        (("Englisch", "Bosnisch"), "en-bs", False),
        (("pt-BR", "gl"), "pt-gl", False),
        (("en-US", "en-GB"), "en-en", True),
        (("source", "target"), "en-en", True),
    ],
)
def test_columns_that_are_named_for_languages_say_them(tmp_path, columns, languages, is_guessed):
    text = "the cat of the house is in it and you are with that for"
    rows = [{columns[0]: f"{text} {i}", columns[1]: f"{text} {i + 1}"} for i in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = TASKS["translation"].read(ReadOptions(data=DataConfig(path=str(path)), seed=1))
    assert (data.languages, data.languages_are_guessed) == (languages, is_guessed)


def test_the_keys_of_a_translation_say_its_languages(tmp_path):
    rows = [{"translation": {"en": f"cat {i}", "sk": f"macka {i}"}} for i in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = TASKS["translation"].read(ReadOptions(data=DataConfig(path=str(path)), seed=1))
    assert (data.languages, data.languages_are_guessed) == ("en-sk", False)
