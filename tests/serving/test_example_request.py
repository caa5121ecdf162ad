"""The request that the console and the page propose is one that the model can answer."""

from __future__ import annotations

from regard import load
from regard.serving.example_request import example_request
from regard.tasks.translation.languages import Languages


def test_a_text_begins_with_the_tag_of_a_language_where_a_model_writes_several(trained):
    translator = load(trained)
    assert example_request(translator) == """--json '{"text": "Good morning"}'"""
    one = Languages("en", {"de": ""})
    assert example_request(translator, one) == """--json '{"text": "Good morning"}'"""
    several = Languages("en", {"de": "<de>", "fr": "<fr>"})
    assert example_request(translator, several) == """--json '{"text": "<de> Good morning"}'"""
