"""The drawn questions of the benchmark of answers are what they say."""

from __future__ import annotations

import random

import pytest
from benchmarks.answers import draw_question


@pytest.mark.parametrize("num_words", [40, 150, 2200])
def test_a_drawn_text_has_its_length_and_its_answer_once(num_words):
    rng = random.Random(1)
    rows = [draw_question(rng, num_words=num_words) for _ in range(20)]
    places = []
    for row in rows:
        (code,) = row["answers"]
        assert abs(len(row["context"].split()) - num_words) < 12
        assert row["question"][20:-1] in row["context"]
        places.append(row["context"].index(code) / len(row["context"]))
    assert min(places) < 0.3
    assert max(places) > 0.7


def test_a_question_without_an_answer_is_about_a_name_that_is_not_there():
    rng = random.Random(2)
    rows = [draw_question(rng, num_words=60, unanswerable=0.5) for _ in range(200)]
    without = [row for row in rows if not row["answers"]]
    assert 70 < len(without) < 130
    assert all(row["question"][20:-1] not in row["context"] for row in without)
    assert all("code" in row["context"] for row in without)
