"""Lists and numbers in messages."""

import pytest

from regard.data.listing import describe_lines


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([5], "line 5"),
        ([12_883, 12_881, 12_882], "lines 12,881-12,883"),
        ([9, 3], "lines 3, 9"),
        ([1204, 12, 881, *range(2000, 2029)], "lines 12, 881, 1,204 and 29 more"),
    ],
)
def test_lines_are_all_named_where_they_are_few_or_adjacent(lines, text):
    assert describe_lines(lines) == text
