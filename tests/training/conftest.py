"""What the tests of several processes share."""

from __future__ import annotations

import pytest
from tests.training.ranks import start


@pytest.fixture(scope="session")
def results_of_ranks(tmp_path_factory):
    """The results of the cases on three processes, by part: a list of what each rank has."""
    return start(tmp_path_factory.mktemp("ranks"))
