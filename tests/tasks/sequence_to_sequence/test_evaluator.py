"""The loss with the sources of other sentences."""

import numpy as np
import pytest

from regard.data.batching import TokenRows
from regard.tasks.sequence_to_sequence.evaluator import pair_with_other_sources


@pytest.mark.parametrize(
    ("sources", "others"),
    [
        ([[5], [6, 7], [8, 8, 8]], [1, 0, 1]),
        ([[5], [5], [6]], [2, 2, 1]),
        ([[6], [5], [5], [5]], [1, 0, 0, 0]),
        ([[5], [6], [5]], [1, 0, 1]),
    ],
)
def test_each_row_is_paired_with_a_row_of_another_source(sources, others):
    assert pair_with_other_sources(TokenRows(sources), np.arange(len(sources))).tolist() == others


@pytest.mark.parametrize("sources", [[[5, 6]], [[5], [5], [5]]])
def test_where_all_sources_are_equal_there_is_no_other(sources):
    assert pair_with_other_sources(TokenRows(sources), np.arange(len(sources))) is None
