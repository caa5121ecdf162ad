"""Running text: read by the line, held out in runs, without leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data.readers.text import TextLines, read_text, split_text, without_repeats
from regard.errors import DataError


def lines_of(*texts, path="book.txt"):
    return TextLines(
        path=path,
        texts=list(texts),
        numbers=list(range(1, len(texts) + 1)),
        ends_document=[False] * (len(texts) - 1) + [True],
    )


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_is_one_document(tmp_path):
    found = read_text(write(tmp_path / "a.txt", "One\n\nTwo\n\n"))
    assert found.texts == ["One", "", "Two"]
    assert found.ends_document == [False, False, True]
    assert found.num_chars == len("One\n\nTwo\n")


def test_a_row_of_jsonl_is_a_document_of_its_own(tmp_path):
    rows = '{"text": "One\\nand more"}\n{"text": "Two"}\n'
    found = read_text(write(tmp_path / "a.jsonl", rows))
    assert found.texts == ["One", "and more", "Two"]
    assert found.numbers == [1, 1, 2]
    assert found.ends_document == [False, True, True]


def test_the_column_of_a_csv_file_can_be_named(tmp_path):
    found = read_text(write(tmp_path / "a.csv", "id,body\n1,Hello\n"), column="body")
    assert found.texts == ["Hello"]


def test_a_missing_column_is_told_with_those_seen(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"body": "Hello"}\n')
    with pytest.raises(DataError) as raised:
        read_text(path)
    assert str(raised.value) == f'{path}:1: no key "text".  Keys seen: body.  ' + (
        '"{"body": "Hello"}"'
    )


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_text_is_refused(tmp_path, text):
    path = write(tmp_path / "a.txt", text)
    with pytest.raises(DataError) as raised:
        read_text(path)
    assert str(raised.value) == f"{path}: the file is empty.  Expected running text."


@given(st.lists(st.text("ab c", max_size=30), min_size=3, max_size=200), st.integers(0, 5))
def test_the_parts_are_runs_of_lines_that_cover_the_text(texts, seed):
    numbered = [f"{place} {text}" for place, text in enumerate(texts)]
    parts = split_text(lines_of(*numbered), seed=seed, with_valid=True, with_test=True)
    for part in (parts.valid, parts.test):
        assert len(part) > 0
        assert part.numbers == list(range(part.numbers[0], part.numbers[0] + len(part)))
    together = sorted(parts.train.numbers + parts.valid.numbers + parts.test.numbers)
    assert together == list(range(1, len(texts) + 1))
    assert len(parts.train) > 0


def test_a_part_that_is_given_is_not_held_out():
    parts = split_text(lines_of(*map(str, range(50))), seed=1, with_valid=False, with_test=True)
    assert len(parts.valid) == 0
    assert len(parts.train) + len(parts.test) == 50


def test_too_few_lines_are_refused():
    with pytest.raises(DataError) as raised:
        split_text(lines_of("one", "two"), seed=1, with_valid=True, with_test=True)
    assert str(raised.value) == (
        "book.txt: 2 lines, too few to hold out some.  Break the text into lines, or name files "
        "of your own: --valid FILE, --test FILE"
    )


def test_long_lines_that_training_has_too_are_left_out():
    long = "The same sentence, which is longer than forty characters."
    kept, dropped = without_repeats(
        lines_of("short", long), lines_of("short", long.upper(), "another line")
    )
    assert kept.texts == ["short", "another line"]
    assert [(drop.line, drop.reason) for drop in dropped] == [(2, "repeats across splits")]
