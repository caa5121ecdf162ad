"""The page of an explanation as a file: its size and its safety."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from tests.explain import sample_explanations as samples

from regard.errors import ConfigError
from regard.explain.page import page_html, save_page


def payload(page: str) -> dict:
    """What a browser reads from the page."""
    return json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_of_a_sentence_of_20_tokens_is_small():
    words = [f"word{number}" for number in range(19)]
    explanation = samples.translation(words, words, num_layers=6, num_heads=8)
    picture = msgspec.structs.replace(explanation.model, picture="x" * 36_000)  # as of the demo
    explanation = msgspec.structs.replace(explanation, model=picture)
    assert len(page_html(explanation).encode()) < 300_000


@pytest.mark.slow
def test_the_page_of_512_tokens_with_12_times_12_heads_is_below_two_megabytes():
    size = len(page_html(samples.long_text()).encode())
    assert 500_000 < size < 2_000_000


def test_the_page_has_the_scores_of_an_explanation_unchanged():
    explanation = samples.classification()
    scores = [[0.124996, -9.99499, 2.5e-7, *[0.5] * (len(explanation.input) - 3)]]
    result = msgspec.structs.replace(explanation.methods["ig"], scores=scores)
    document = payload(page_html(msgspec.structs.replace(explanation, methods={"ig": result})))
    assert document["document"]["methods"]["ig"]["scores"] == scores


def test_no_text_ends_the_element_of_the_data():
    page = page_html(samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1))
    assert "window.hacked=1" in page
    assert page.count("<script") == 2  # the data, and the modules
    assert payload(page)["document"]["input"][0]["text"] == samples.MARKUP[0]


def test_the_title_of_the_window_is_text():
    page = page_html(samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1))
    title = re.search(r"<title>(.*?)</title>", page)[1]
    assert title.startswith("regard · ende · &lt;script&gt;")


def test_the_page_names_its_charset_first_and_allows_no_request():
    head = page_html(samples.forecast())[:600]
    assert head.index('<meta charset="utf-8">') < head.index("Content-Security-Policy")
    assert "default-src 'none'; script-src 'sha256-" in head


def test_a_page_without_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"missing/page\.html: cannot be written"):
        save_page(samples.forecast(), tmp_path / "missing" / "page.html")
