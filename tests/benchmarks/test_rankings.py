"""The comparison of rankings: a way is read from its text, and each is compared with the first."""

import sys

import pytest

from benchmarks import rankings
from regard.generation import BeamSearchConfig


def test_a_way_names_a_ranking_a_rule_of_stopping_and_a_penalty():
    search = rankings.search_of("transformers/first/0.75", BeamSearchConfig(beam=2))
    assert search == BeamSearchConfig(
        beam=2, ranking="transformers", stopping="first", length_penalty=0.75
    )
    search = rankings.search_of("wu/certain", BeamSearchConfig(length_penalty=0.2))
    assert search == BeamSearchConfig()


@pytest.mark.slow
def test_each_way_is_compared_with_the_first(trained, pairs_file, monkeypatch, capsys):
    words = ["rankings", trained, pairs_file, "--rows", "6", "--ways", "wu/certain,wu/certain"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    rankings.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    for way, chrf, bleu in (lines[:3], lines[3:]):
        assert way.startswith("wu/certain: ")
        assert "of 6 cut off at the limit, 6 equal to the first" in way
        assert chrf.startswith("  chrf ")
        assert bleu.startswith("  bleu ")
        assert chrf.endswith("difference +0.00 [+0.00, +0.00], p 1.000")
