"""``regard info --curvature``: figures and table, JSON, a picture, and other views beside it."""

from __future__ import annotations

import importlib
import json
import math

import pytest

from regard.__main__ import main
from regard.cli import progress


@pytest.fixture
def info(capsys, trained, monkeypatch):
    """Run ``regard info`` on a folder; return exit code, output and errors."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", math.inf)
    module = importlib.import_module("regard.explain.curvature")
    monkeypatch.setattr(module, "_PRODUCT_TOKENS", 200)
    monkeypatch.setattr(module, "_MOST_VECTORS", 10)

    def run(*words):
        code = main(["info", str(trained), "--curvature", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.slow
def test_the_curvature_is_printed_and_drawn(info, tmp_path):
    path = tmp_path / "spectrum.svg"
    code, out, err = info("-o", path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Curvature   training loss ")
    assert any(line.startswith("Trace ") for line in lines)
    assert any(line.startswith("encoder.0 ") for line in lines)
    assert "trace by layer" in path.read_text()


@pytest.mark.slow
def test_json_has_all_figures(info):
    code, out, _ = info("--json")
    assert code == 0
    document = json.loads(out)
    assert document["unit"] == "pairs"
    assert document["largest"] == sorted(document["largest"], reverse=True)
    assert len(document["grid"]) == len(document["density"])
    total = sum(layer["trace"] for layer in document["layers"])
    assert total == pytest.approx(document["trace"])


@pytest.mark.parametrize(
    "words", [("--diagram", "svg"), ("--length", 4), ("--stability",)], ids=lambda words: words[0]
)
def test_other_views_do_not_go_with_it(info, words):
    code, out, err = info(*words)
    view = "--stability" if words == ("--stability",) else "--curvature"
    assert (code, out, err) == (2, "", f"regard: {view} goes with -o and --json only.\n")
