"""The comparison of attention with its peers runs, at sizes that tell nothing about speed."""

import json
import sys

import pytest
import torch

from benchmarks import attention


@pytest.fixture(autouse=True)
def same_threads():
    """Leave the number of threads, on which the bits of other tests depend, as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("name", attention.CLAIMS)
def test_every_claim_is_compared(name, capsys, monkeypatch):
    words = ["attention.py", "--small", "--threads", "1", "--json", "--only", name]
    monkeypatch.setattr(sys, "argv", words)
    attention.main()
    lines = json.loads(capsys.readouterr().out)
    assert {line["claim"] for line in lines} == {name}
    for line in lines:
        assert line["ratio"] is None or line["ratio"] > 0


def test_an_unknown_claim_is_a_usage_error(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attention.py", "--only", "locl"])
    with pytest.raises(SystemExit) as stopped:
        attention.main()
    assert stopped.value.code == 2
    known = "local, linear, longformer, hvp, memory, bf16, full"
    assert f"--only locl: not known.  Known: {known}." in capsys.readouterr().err


def test_a_bar_is_held_against_the_ratio():
    line = attention.Line(claim="x", what="y", ratio=2.9, bar=">= 3")
    assert line.is_met() is False
    assert attention.replace(line, bar="<= 3").is_met() is True
    assert attention.replace(line, bar="").is_met() is None


@pytest.mark.parametrize(
    ("size", "reference", "ratio"),
    [(8_000_000, 2_000_000, 4.0), (2_000_000, 0, None), (0, 9, None)],
)
def test_memory_below_the_resolution_has_no_ratio(size, reference, ratio):
    assert attention.memory_ratio(size, reference) == ratio
