"""Texts of a stream as its lines come: lines, objects, and labels as fastText marks them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regard.data.readers.columns import find_column
from regard.data.readers.streamed_texts import stream_texts
from regard.data.readers.text_lines import TextFile
from regard.errors import DataError

LABELED = "__label__good a cat\n\n__label__bad  a dog\n"
OBJECTS = '{"text": "a\\ncat", "n": 1}\n\n{"text": "a dog"}\n'


def stream(content: str, fields: list[str] | None = None) -> Iterator[str]:
    """Return the texts of a stream; `fields` receives the name of their column."""
    file = TextFile("-", "utf-8", content.encode(), [])
    on_field = [].append if fields is None else fields.append
    return stream_texts(file, lambda names: find_column(names, "text"), on_field, str.upper)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (LABELED, ["A CAT", "A DOG"]),
        (OBJECTS, ["A\nCAT", "A DOG"]),
        ("\ufeff" + LABELED, ["A CAT", "A DOG"]),
    ],
)
def test_a_stream_of_records_gives_their_texts_converted(content: str, texts: list[str]) -> None:
    fields: list[str] = []
    assert list(stream(content, fields)) == texts
    assert fields == ["text"]


@pytest.mark.parametrize(
    "lines",
    [
        ["a __label__good cat", "__label__bad dog"],
        ["", "a cat", "", '{"text": "a dog"}'],
        ['{"n": 1}', '{"text": 2}'],
        ["{a cat", "{}", "[1]"],
        ["[{a cat", "a dog"],
        ["[{sic}] a cat", "a dog"],
        ["[", "a dog"],
    ],
)
def test_other_lines_are_texts_unchanged(lines: list[str]) -> None:
    fields: list[str] = []
    assert list(stream("".join(f"{line}\n" for line in lines), fields)) == lines
    assert not fields


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a cat"},\n{"text": "a dog"}]\n',
        '\n{\n"rows": [\n{"text": "a cat"},{"text": "a dog"}]}',
    ],
)
def test_a_list_of_objects_gives_their_texts(content: str) -> None:
    assert list(filter(None, stream(content))) == ["A CAT", "A DOG"]


def test_an_empty_list_has_no_texts() -> None:
    assert list(stream("[\n]\n")) == []


def test_blank_lines_before_the_first_record_are_empty_texts() -> None:
    assert list(stream(f"\n{LABELED}")) == ["", "A CAT", "A DOG"]


def test_the_text_of_a_line_with_several_labels_is_streamed() -> None:
    assert list(stream(f"{LABELED}__label__a __label__b c\n"))[-1] == "C"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"{LABELED}a cat\n{LABELED}",
            "-:4: no label, __label__NAME at the beginning or end expected.",
        ),
        (f'{OBJECTS}{{"n": 1}}\n{OBJECTS}', '-:4: no key "text".  Keys seen: n.'),
        (f"{OBJECTS}a cat\n{OBJECTS}", "-:4: not JSON: "),
    ],
)
def test_a_line_that_is_no_record_ends_the_stream_with_its_number(
    content: str, message: str
) -> None:
    texts = stream(content)
    assert len([next(texts), next(texts)]) == 2
    with pytest.raises(DataError) as caught:
        next(texts)
    assert str(caught.value).startswith(message)


def test_each_text_is_given_before_the_next_line_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def lines(_file: TextFile) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            read.append(line)
            yield number, line

    monkeypatch.setattr("regard.data.readers.streamed_texts.numbered_lines", lines)
    for content in (LABELED, OBJECTS, "a cat\n"):
        read.clear()
        next(stream(content))
        assert len(read) == 1
