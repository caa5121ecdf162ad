"""Columns in the wrong order: what looks swapped is said, with the order that fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from regard.errors import ConfigError, DataError
from regard.setup.config import DataConfig
from regard.setup.dataset import ReadOptions
from regard.tasks import TASKS

WORDS = ["good", "bad", "slow", "quick", "dear", "loud", "small", "heavy"]


def read(task: str, path: Path, columns: Sequence[str], languages: str = ""):
    data = DataConfig(path=str(path), columns=tuple(columns), languages=languages)
    return TASKS[task].read(ReadOptions(data=data, seed=1))


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_texts_that_are_read_as_labels_are_said(tmp_path):
    rows = [
        {"text": f"a text of number {i} about all of it", "label": WORDS[i % 2]} for i in range(40)
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        read("classification", path, ["label", "text"])
    assert str(caught.value) == (
        f"{path}: text and label look swapped: column label, read as the text, has 2 values, and "
        "column text, read as the label, 40 longer ones.  In this order: `data.columns=text,label`"
    )


def test_short_texts_with_many_labels_are_not_swapped(tmp_path):
    rows = [{"text": f"word {i}", "label": f"a long label of {i % 30}"} for i in range(60)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert len(read("classification", path, ["text", "label"]).labels) == 30


def test_answers_in_other_texts_than_named_are_said(tmp_path):
    rows = [
        {"context": f"It has {i} doors.", "question": f"How many, {i}?", "answers": f"{i} doors"}
        for i in range(20)
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"look swapped: .*`data.columns=context,question,answers`"):
        read("question-answering", path, ["question", "context", "answers"])


def test_texts_in_the_named_languages_the_other_way_round_are_warned_of(tmp_path):
    english, german = "the cat of the house is in it", "die Katze ist in dem Haus und das"
    rows = [{"source": f"{german} {i}", "target": f"{english} {i}"} for i in range(40)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    columns = ["source", "target"]
    assert read("translation", path, columns, "en-de").warnings() == [
        "The sources look like de and the targets like en: swapped?  Name the columns in the "
        "other order, or the languages: `data.languages=de-en`"
    ]
    assert read("translation", path, columns, "de-en").warnings() == []


def test_a_column_of_numbers_named_for_the_times_is_said_with_that_of_times(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"2024-01-{day:02d},{day % 7 - 3}.25\n" for day in range(1, 29))
    path.write_text(f"time,value\n{rows}")
    with pytest.raises(DataError, match=r"Column time does\..*`data.columns=time,value`"):
        read("forecasting", path, ["value", "time"])


def test_columns_of_lines_of_text_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a line of running text\n" * 40)
    with pytest.raises(ConfigError, match=r"data\.columns=text: .* has no columns\.  Leave it out"):
        read("language-modeling", path, ["text"])
