"""Lists in messages: the first few are named, the others counted."""

import pytest

from regard.data.listing import describe_lines


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([5], "5"),
        ([12_883, 12_881, 12_882], "12,881-12,883"),
        ([9, 3], "3, 9"),
        ([1204, 12, 881, *range(2000, 2029)], "12, 881, 1,204 and 29 more"),
    ],
)
def test_lines_are_all_told_where_they_are_few_or_adjacent(lines, text):
    assert describe_lines(lines) == text
