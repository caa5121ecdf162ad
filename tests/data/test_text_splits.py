"""Running text held out in runs, without leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.cli.wording import error_text
from regard.data.readers.running_text import TextLines
from regard.data.text_splits import split_text, without_repeats
from regard.errors import DataError


def lines_of(*texts, path="book.txt"):
    return TextLines(
        path=path,
        texts=list(texts),
        numbers=list(range(1, len(texts) + 1)),
        ends_document=[False] * (len(texts) - 1) + [True],
    )


@pytest.mark.slow
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


def test_a_part_from_its_own_file_is_not_held_out():
    parts = split_text(lines_of(*map(str, range(50))), seed=1, with_valid=False, with_test=True)
    assert len(parts.valid) == 0
    assert len(parts.train) + len(parts.test) == 50


def test_too_few_lines_are_refused():
    with pytest.raises(DataError) as raised:
        split_text(lines_of("one", "two"), seed=1, with_valid=True, with_test=True)
    assert error_text(raised.value) == (
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


@pytest.mark.parametrize("num_lines", [399, 400, 1039, 1040])
def test_a_line_more_hardly_moves_the_parts(num_lines):
    texts = [f"line {line:04d} of the text" for line in range(num_lines + 1)]
    first, second = (
        split_text(lines_of(*texts[:end]), seed=1, with_valid=True, with_test=True)
        for end in (num_lines, num_lines + 1)
    )
    for part in ("valid", "test"):
        before, after = (set(getattr(parts, part).numbers) for parts in (first, second))
        assert len(before & after) >= 0.8 * len(before)
