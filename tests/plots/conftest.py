"""Fixtures of the tests of pictures."""

import pytest
from tests.plots.read_svg import Svg


@pytest.fixture
def drawn(tmp_path):
    """Draw into an SVG file, and read it back."""

    def draw(function, *arguments):
        path = tmp_path / "picture.svg"
        function(*arguments, path)
        return Svg(path)

    return draw
