"""Services of small models, each started once."""

from __future__ import annotations

import pytest
from tests.explain import predictors
from tests.serving.running_service import running


@pytest.fixture(scope="module")
def translating():
    with running(predictors.translator(), languages="en-de") as client:
        yield client


@pytest.fixture(scope="module")
def generating():
    with running(predictors.text_generator()) as client:
        yield client
