"""A format of one's own: its reader of rows gives pairs, labels and running text."""

import pytest

from regard.data.readers import FORMATS, TABLE_READERS
from regard.data.readers.running_text import read_text
from regard.data.readers.tables import read_pairs, read_records
from regard.errors import DataError
from regard.tasks import guess_task


def read_bars(file, lines, separator):
    """Read rows whose cells are between bars; a line without one is a problem."""
    for number, text in lines:
        if "|" not in text:
            file.refuse(number, "no bar.", text.rstrip("\n"))
        else:
            yield number, [cell.strip() for cell in text.strip().strip("|").split("|")]


@pytest.fixture
def bars(monkeypatch, tmp_path):
    """A file in a format that is added to the registries."""
    monkeypatch.setitem(FORMATS, ".bars", "bars")
    monkeypatch.setitem(TABLE_READERS, "bars", read_bars)

    def write(text):
        path = tmp_path / "table.bars"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_format_of_ones_own_gives_pairs(bars):
    pairs = read_pairs(bars("| source | target |\n| a cat | eine Katze |\n| {x} | y |\n"))
    assert pairs.sources == ["a cat", "{x}"]
    assert pairs.targets == ["eine Katze", "y"]
    assert pairs.lines == [2, 3]


def test_a_format_of_ones_own_gives_labels_and_is_recognized(bars):
    path = bars("| text | label |\n| good | pos |\n| bad | neg |\n")
    assert read_records(path, ("text", "label")) == [(2, ["good", "pos"]), (3, ["bad", "neg"])]
    assert guess_task(path) == "classification"


def test_a_format_of_ones_own_gives_running_text(bars):
    assert read_text(bars("| id | text |\n| 1 | one |\n| 2 | two |\n")).texts == ["one", "two"]


def test_a_problem_in_a_format_of_ones_own_names_its_line(bars):
    with pytest.raises(DataError, match=r"table\.bars:2: no bar\."):
        read_pairs(bars("| source | target |\nnothing\n| a | b |\n"))
