"""``regard demo``: what it prints at its end, and the page that it leaves."""

from __future__ import annotations

import json

import pytest

from regard.__main__ import main
from regard.runs import demo
from regard.runs.demo import DemoReport
from regard.tasks.opening import open_model


@pytest.fixture
def finished(trained, monkeypatch):
    """A demonstration that has been run, with a model of the tests."""
    (output,) = open_model(trained).translate(["bir"])
    report = DemoReport(
        folder=str(trained),
        num_phrases=1,
        exact_match=0.5,
        by_language={"de": 0.5},
        by_kind={"dates": 0.5},
        examples=[("bir", output)],
        alignment=open_model(trained).align("bir", output),
        seconds_training=1.0,
    )
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: report)
    return trained


@pytest.mark.slow
def test_the_demonstration_ends_by_naming_the_page_that_it_wrote(finished, capsys):
    assert main(["demo"]) == 0
    page = finished / "explained.html"
    assert capsys.readouterr().out.endswith(f"open {page} in a browser.\n")
    assert page.read_text().lower().startswith("<!doctype html>")
    assert open_model(finished).translate("bir") is not None  # the folder opens as before


@pytest.mark.slow
def test_the_page_is_named_in_json_too(finished, capsys):
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(finished / "explained.html")


@pytest.mark.slow
def test_a_model_that_is_there_already_has_no_page(finished, capsys):
    assert main(["demo", "-o", str(finished), "--live"]) == 0
    assert "Live" not in capsys.readouterr().out
