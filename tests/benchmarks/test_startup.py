"""The benchmark of the start of a command runs and prints its ratio."""

import sys

import pytest

from benchmarks import startup


@pytest.mark.slow
def test_the_ratio_to_importing_torch_is_printed(trained, capfd, monkeypatch):
    words = ["startup.py", str(trained), "--text", "1 red cat", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", words)
    startup.main()
    *_, ratio = capfd.readouterr().out.strip().split("\n")
    word, value, *_, count, _, _, _ = ratio.split()
    assert word == "ratio"
    assert 0.5 < float(value.rstrip(",")) < 5
    assert 80 < int(count) < 150
