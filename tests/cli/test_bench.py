"""``regard bench attention`` as a user calls it: the table, --json, exact error texts."""

import json
import subprocess
import sys

import pytest

from regard.__main__ import main

SMALL = ("bench", "attention", "--lengths", "48", "--heads", "2", "--dim", "8", "--repeats", "1")
QUICK = (*SMALL, "--no-memory", "--peers", "sdpa")


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_the_table_has_a_line_for_every_side(capsys):
    code, out, _ = run(capsys, *QUICK, "--patterns", "full;local:8")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [words[:3] for words in lines if "regard" in words] == [
        ["full", "48", "regard"],
        ["local:8", "48", "regard"],
    ]
    assert sum(words[:1] == ["sdpa"] for words in lines) == 2


@pytest.mark.slow
def test_json_is_one_object_with_every_figure(capsys):
    code, out, _ = run(capsys, *QUICK, "--patterns", "local:8", "--json", "--hvp")
    assert code == 0
    assert out.count("\n") == 1
    found = json.loads(out)
    ours, sdpa = found["rows"]
    assert (ours["side"], sdpa["side"]) == ("regard", "sdpa")
    assert ours["pairs"] == 48 * 9 - 36  # a window of 9 less what lies before the start
    assert 0 < ours["forward_ms"] < ours["hvp_ms"]
    assert ours["gradient_gflops"] * ours["gradient_ms"] == pytest.approx(
        12 * ours["pairs"] * 8 * 2 / 1e6
    )
    assert sdpa["hvp_ms"] is None
    assert found["config"]["lengths"] == [48]
    assert found["mm_gflops"] > 0


def test_a_peer_that_cannot_is_named_with_the_reason(capsys):
    words = (*SMALL, "--no-memory", "--peers", "sdpa,local-attention", "--patterns", "top_k:4")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "sdpa             left out: TopK(4, causal=True) is not a mask\n" in out
    assert "local-attention  left out: takes a single window only\n" in out


def test_the_encoder_option_makes_patterns_two_sided(capsys):
    _, out, _ = run(capsys, *QUICK, "--patterns", "full", "--encoder", "--json")
    assert json.loads(out)["rows"][0]["pairs"] == 48 * 48


@pytest.mark.slow
def test_memory_is_measured_and_grows_with_the_pairs(capsys):
    words = ("bench", "attention", "--lengths", "256,1024", "--heads", "2", "--dim", "8")
    more = ("--repeats", "1", "--peers", "", "--patterns", "top_k:4", "--json")
    _, out, _ = run(capsys, *words, *more)
    short, long = (row["memory_bytes"] for row in json.loads(out)["rows"])
    assert long > 2 * 4 * 1024**2  # at least the scores of two heads
    assert long > 4 * short


LENGTHS = "Expected whole numbers of 1 or more, e.g. 128,1024,8192.\n"
ERRORS = {
    "no number": (("--lengths", "1k"), f'lengths=1k: "1k" is not a length.  {LENGTHS}'),
    "no length": (("--lengths", "8,,9"), f'lengths=8,,9: "" is not a length.  {LENGTHS}'),
    "zero": (("--lengths", "0"), f'lengths=0: "0" is not a length.  {LENGTHS}'),
    "no pattern": (
        ("--patterns", " ; "),
        "patterns: none is given.  Expected e.g. 'full;local:256|global:0'.\n",
    ),
    "misspelt pattern": (
        ("--patterns", "full;loca:8"),
        'attention.pattern: "loca:8" is not a pattern.  Did you mean local:8?  Known: full, '
        "causal, local:B, local:B,A, strided:S, global:P,P,..., random:SIZE:COUNT, top_k:K, "
        "hierarchical:B, joined by | and & and parentheses.\n",
    ),
    "window of nothing": (
        ("--patterns", "local:0"),
        "attention.pattern=local:0: the window must be 1 or more (or a fraction of the length, "
        "e.g. local:0.1).\n",
    ),
    "unknown peer": (
        ("--peers", "xformers"),
        "peers=xformers: xformers is not known.  Known: sdpa, flex, local-attention.\n",
    ),
    "no heads": (("--heads", "0"), "heads=0: must be 1 or more.\n"),
    "no dim": (("--dim", "0"), "dim=0: must be 1 or more.\n"),
    "no turns": (("--repeats", "0"), "repeats=0: must be 1 or more.\n"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_measured_is_reported_before_anything_runs(capsys, name):
    words, text = ERRORS[name]
    code, out, err = run(capsys, "bench", "attention", *words)
    assert (code, out) == (2, "")
    assert err == f"regard: {text}"


@pytest.mark.slow
def test_its_help_loads_no_torch():
    script = "import sys; from regard.__main__ import main; main(['bench', 'attention', '--help'])"
    script += "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
