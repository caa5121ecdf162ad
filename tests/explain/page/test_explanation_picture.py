"""An explanation as a picture: its words, bars, colors, and what they mean."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest
from tests.explain import sample_explanations as samples

from regard.explain.page import explanation_svg, format_text, page_html

SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_has_the_words_the_bars_and_the_alignment():
    root = ElementTree.fromstring(explanation_svg(samples.translation(), 1))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "Why “Ufer”" in texts
    assert texts.count("bank") == 3  # in the line, above the bars, above the alignment
    kinds = [element.get("class") for element in root.iter(f"{SVG}rect")]
    scores = samples.translation().methods["ig"].scores
    largest = max(abs(value) for row in scores for value in row[:9])
    drawn = sum(abs(value) / largest >= 0.005 for row in scores for value in row[:9])
    assert kinds.count("for") + kinds.count("against") >= drawn


@pytest.mark.parametrize(
    "make", [samples.classification, samples.forecast, samples.image, samples.translation]
)
def test_every_task_has_a_picture_and_text(make):
    explanation = make()
    ElementTree.fromstring(explanation_svg(explanation))
    assert format_text(explanation, 80)
    nothing = msgspec.structs.replace(explanation, methods={}, first="", control=[])
    ElementTree.fromstring(explanation_svg(nothing))
    assert format_text(nothing, 80)
    assert page_html(nothing)


def test_markup_in_a_text_is_text_in_a_picture():
    picture = explanation_svg(samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1))
    root = ElementTree.fromstring(picture)
    assert not list(root.iter(f"{SVG}script"))
    assert samples.MARKUP[0] in [element.text for element in root.iter(f"{SVG}text")]


def test_words_of_which_nothing_is_seen_are_named_in_a_picture():
    explanation = samples.translation(list(samples.UNSEEN), samples.BANK, num_layers=1)
    explanation = msgspec.structs.replace(explanation, model=samples.model(name="en\x01\uffffde"))
    root = ElementTree.fromstring(explanation_svg(explanation))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts[1].startswith("ende · ")
    first = texts.index("U+200B")
    assert texts[first : first + len(samples.UNSEEN)] == list(samples.UNSEEN.values())


def test_a_picture_has_the_colors_of_a_light_and_of_a_dark_page():
    styles = re.search(r"<style>(.*)</style>", explanation_svg(samples.translation()))[1]
    assert ".page{fill:#ffffff}" in styles
    assert re.search(r"prefers-color-scheme:dark\).*\.page\{fill:#131316\}", styles)


def picture_texts(explanation) -> str:
    root = ElementTree.fromstring(explanation_svg(explanation))
    return "\n".join(element.text or "" for element in root.iter(f"{SVG}text"))


def test_a_picture_says_what_its_colors_mean_and_how_faithful_the_first_method_is():
    text = picture_texts(samples.translation())
    assert "speaks for the output (the first method; others are gray)\nagainst it" in text
    assert (
        "Faithfulness of integrated gradients: comprehensiveness 0.44 (random 0.17), "
        "sufficiency 0.18 (random 0.34), tau 0.55 (random 0.01)"
    ) in text
    assert "Error of integrated gradients: 0.8 %" in text
    assert "not converged" not in text


def test_a_picture_marks_a_method_that_has_not_converged():
    text = picture_texts(samples.unconverged())
    assert "integrated gradients\nnot converged" in text
    assert "Error of integrated gradients: 92.0 %: not converged, leave it out" in text
    assert 'class="doubtful"' in explanation_svg(samples.unconverged())


def test_a_picture_of_a_forecast_has_values_and_times_that_can_be_told_apart():
    text = picture_texts(samples.forecast_of_times())
    assert "03-29 00:00 51.2\n03-29 01:00 52.2" in text
    assert "03-01 12:00" in text
    row = next(
        line
        for line in format_text(samples.forecast_of_times(), 100).splitlines()
        if line.startswith("   03-29 01:00 ")
    )
    assert row


def test_a_picture_says_what_it_has_no_room_for():
    text = explanation_svg(samples.long_text(length=60, num_layers=1, num_heads=1))
    assert "The first 48 of 60 tokens of the input are drawn; the page has all." in text
    assert "are drawn" not in explanation_svg(samples.translation())
