"""The page of a service as a file: what it may ask, and what it says of the model."""

from __future__ import annotations

import json
import re

import pytest
from tests.explain import sample_explanations as samples

from regard.explain.page import ServedModel, page_html, page_payload, served_page


def served_model(**fields) -> ServedModel:
    return ServedModel(
        **{
            "name": "ende",
            "sha": "3f2a91c0",
            "task": "translation",
            "verb": "translate",
            "family": "transformer",
            "num_parameters": 12_104_704,
            "takes_text": True,
            "max_characters": 200,
            **fields,
        }
    )


def test_a_served_page_may_ask_its_own_service_and_nobody_else():
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', served_page(served_model()))[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", rules["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/=]{44}'", rules["style-src"])
    assert "connect-src" not in page_html(samples.forecast())


def test_no_text_of_a_model_ends_the_element_of_the_data():
    page = served_page(served_model(name="</script><b>", examples=["</script><script>x()"]))
    assert page.count("<script") == 2
    data = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])
    assert data["name"] == "</script><b>"
    assert re.search(r"<title>(.*?)</title>", page)[1] == "regard · &lt;/script&gt;&lt;b&gt;"


def test_a_page_without_scripts_names_the_address():
    text = re.search(r"<pre>(.*?)</pre>", served_page(served_model(sha="")), re.DOTALL)[1]
    assert text == "ende · translation · transformer\nPrograms ask it at v1/translate, with POST."


@pytest.mark.parametrize("make", [samples.translation, samples.image])
def test_what_the_service_sends_is_what_the_file_has(make):
    explanation = make()
    data = re.search(r'id="payload">(.*?)</script>', page_html(explanation), re.DOTALL)[1]
    assert json.loads(page_payload(explanation)) == json.loads(data)
