"""Models with the same weights in every run, and pages that are open in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.browser import OpenPage

from regard.explain.page import save_page


@pytest.fixture(autouse=True)
def _seed():
    """Give the models of each test the same weights, whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[..., Path]:
    """Writes the page of an explanation, each once."""
    folder = tmp_path_factory.mktemp("pages")
    written: dict[Callable[..., object], Path] = {}

    def save(make) -> Path:
        if make not in written:
            written[make] = folder / f"{make.__name__}{len(written)}.html"
            save_page(make(), written[make])
        return written[make]

    return save


@pytest.fixture
def open_page(watched_window, saved):
    """Opens the page of an explanation, as if for the first time."""

    def open_in_window(make, *, width: int = 1200, scheme: str = "light") -> OpenPage:
        watched_window.open(saved(make).as_uri(), width, scheme)
        return watched_window

    return open_in_window
