"""The comparison on a GPU runs on a CPU at sizes that tell nothing about speed."""

import json

import pytest
import torch

from benchmarks import gpu


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("name", gpu.CLAIMS)
def test_every_claim_is_a_line_of_json(name, capsys):
    assert gpu.main(["--device", "cpu", "--tiny", "--only", name]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["claim"] for line in lines} == {name}
    for line in lines:
        assert "note" not in line
        assert line["ours"] > 0 or name == "optimizers"


def test_without_a_gpu_it_says_that_it_needs_one(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpu.main([]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("This benchmark needs a GPU.  cuda: ")
    assert printed.err.count("\n") == 1


def test_a_cpu_has_the_tiny_sizes_alone(capsys):
    assert gpu.main(["--device", "cpu"]) == 1
    assert "--device cpu --tiny" in capsys.readouterr().err


def test_claims_for_which_no_time_remains_are_named(capsys):
    assert gpu.main(["--device", "cpu", "--tiny", "--minutes", "0", "--only", "peak,hvp"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["claim"] for line in lines] == ["peak", "hvp"]
    assert all(line["note"].startswith("left out: the time is up") for line in lines)


@pytest.mark.slow
def test_a_claim_that_fails_does_not_end_the_others(capsys, monkeypatch):
    def fail(bench):
        raise RuntimeError("too little memory")
        yield

    monkeypatch.setitem(gpu.CLAIMS, "hvp", fail)
    assert gpu.main(["--device", "cpu", "--tiny", "--only", "hvp,peak"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["note"] == "failed: too little memory"
    assert second["ours"] > 0


def test_a_bar_is_held_against_the_ratio_or_the_figure():
    assert gpu.checked(gpu.Line(claim="x", what="y", ours=60.0, bar="<= 50")).met is False
    line = gpu.Line(claim="x", what="y", ours=60.0, ratio=3.0, bar=">= 3")
    assert gpu.checked(line).met is True
