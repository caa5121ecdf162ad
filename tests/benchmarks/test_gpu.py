"""The comparison on a GPU runs on a CPU at sizes that tell nothing about speed."""

import json
import signal
import subprocess
import time

import pytest
import torch

from benchmarks import gpu


def printed_lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("name", gpu.CLAIMS)
def test_every_claim_is_a_line_of_json(name, capsys):
    assert gpu.main(["--device", "cpu", "--tiny", "--only", name]) == 0
    lines = printed_lines(capsys)
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
    lines = printed_lines(capsys)
    assert [line["claim"] for line in lines] == ["peak", "hvp"]
    assert all(line["note"].startswith("left out: the time is up") for line in lines)


@pytest.mark.slow
def test_a_claim_that_fails_does_not_end_the_others(capsys, monkeypatch):
    def fail(bench):
        raise RuntimeError("too little memory")
        yield

    monkeypatch.setitem(gpu.CLAIMS, "hvp", fail)
    assert gpu.main(["--device", "cpu", "--tiny", "--only", "hvp,peak"]) == 0
    first, second = printed_lines(capsys)
    assert first["note"] == "failed: RuntimeError: too little memory"
    assert second["ours"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("claim", ["causal", "gpt"])
def test_a_peer_that_fails_is_named_and_ours_is_measured(claim, capsys, monkeypatch):
    def fail(*_, **__):
        raise TypeError("unexpected argument\nmore")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    monkeypatch.setattr(gpu, "HuggingFaceGpt", fail)
    assert gpu.main(["--device", "cpu", "--tiny", "--only", claim]) == 0
    lines = printed_lines(capsys)
    notes = {line["what"]: line["note"] for line in lines if "note" in line}
    names = {"causal": {"SDPA"}, "gpt": {"GPT-2", "GPT-2, compiled"}}[claim]
    assert notes == dict.fromkeys(names, "failed: TypeError: unexpected argument")
    assert [line["ours"] > 0 for line in lines if "note" not in line] == [True] * 2


def test_figures_of_peers_are_printed_where_ours_fails(capsys):
    (line,) = gpu.compare("gpt", "a step", {"GPT-2": 90.0}, "<= 1")
    assert (line.ours, line.peer, line.peers, line.ratio, line.met) == (
        None, "GPT-2", 90.0, None, None
    )  # fmt: skip


def test_a_claim_has_half_of_the_time_while_others_wait(capsys, monkeypatch):
    def hang(bench):
        yield gpu.Line(claim="hvp", what="first", ours=1.0)
        while True:
            try:
                time.sleep(60)
            except Exception as error:
                raise AssertionError from error

    monkeypatch.setitem(gpu.CLAIMS, "hvp", hang)
    handler = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    assert gpu.main(["--device", "cpu", "--tiny", "--only", "hvp,peak", "--minutes", "0.02"]) == 0
    assert 0.5 < time.monotonic() - start < 5
    first, second, third = printed_lines(capsys)
    assert first["ours"] == 1.0
    assert second["note"].startswith("left out after 1 s")
    assert third["claim"] == "peak"
    assert signal.getsignal(signal.SIGALRM) is handler


def test_another_process_goes_on_where_the_gpu_is_lost(capsys, monkeypatch):
    started, is_broken = [], iter([False, False, True, True])
    monkeypatch.setattr(gpu.Bench, "is_broken", property(lambda bench: next(is_broken)))
    monkeypatch.setattr(subprocess, "run", lambda command, check: started.append(command))
    assert gpu.main(["--device", "cpu", "--tiny", "--only", "peak,peak,hvp,beam"]) == 0
    assert [line["claim"] for line in printed_lines(capsys)] == ["peak", "peak"]
    ((_, script, *words),) = started
    assert script == gpu.__file__
    assert words[:-1] == ["--device", "cpu", "--only", "hvp,beam", "--minutes"]
    assert 4 < float(words[-1]) < 5


def test_a_bar_is_held_against_the_ratio_or_the_figure():
    assert gpu.checked(gpu.Line(claim="x", what="y", ours=60.0, bar="<= 50")).met is False
    line = gpu.Line(claim="x", what="y", ours=60.0, ratio=3.0, bar=">= 3")
    assert gpu.checked(line).met is True
