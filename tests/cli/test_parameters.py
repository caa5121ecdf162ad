"""Options that take whole numbers."""

from __future__ import annotations

import pytest

from regard.__main__ import main


@pytest.mark.parametrize(
    "words",
    [
        ("translate", "m", "x", "--beam", "2.5"),
        ("generate", "m", "x", "--num", "1.0"),
        ("train", "x.tsv", "-o", "m", "--horizon", "0.5"),
        ("evaluate", "m", "x.tsv", "--worst", "3.7"),
    ],
)
def test_a_fraction_is_refused_and_not_rounded(capsys, words):
    assert main(list(words)) == 2
    assert f"{words[-1]}: a whole number was expected" in capsys.readouterr().err
