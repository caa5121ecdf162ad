"""Scores of answers: the rules of SQuAD by worked examples, other scripts, intervals, pairs."""

from __future__ import annotations

import numpy as np
import pytest

from regard.errors import DataError, ShapeError
from regard.metrics.answers import (
    answer_words,
    compare_answers,
    exact_match,
    no_answer_f1,
    question_scores,
    score_answers,
    word_f1,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Denver Broncos", ["denver", "broncos"]),
        ("a  theory\nof An anathema", ["theory", "of", "anathema"]),  # articles are whole words
        ("U.S.A.", ["usa"]),  # punctuation goes before articles are looked for
        ("the-end", ["theend"]),
        ("“quoted”", ["“quoted”"]),  # only ASCII punctuation, as in the official rules
        ("$1,000.50", ["100050"]),
        ("A.", []),
        ("É", ["é"]),
    ],
)
def test_words_of_an_answer_are_those_of_squad(text: str, words: list[str]) -> None:
    assert answer_words(text) == words


@pytest.mark.parametrize(
    ("prediction", "answer", "is_exact", "f1"),
    [
        ("Saint Bernadette Soubirous", "saint bernadette soubirous", True, 1.0),
        ("the golden statue", "a golden statue of the Virgin Mary", False, 4 / 7),
        ("to to to", "to", False, 0.5),  # a word counts as often as both have it
        ("Rome", "Paris", False, 0.0),
        ("", "", True, 1.0),
        ("", "Paris", False, 0.0),
        ("the", "", True, 1.0),
    ],
)
def test_f1_is_of_bags_of_words(prediction: str, answer: str, is_exact: bool, f1: float) -> None:
    assert exact_match(prediction, answer) is is_exact
    assert word_f1(prediction, answer) == pytest.approx(f1)


def test_characters_count_where_there_are_no_spaces() -> None:
    assert exact_match("「北京市」", "北京市")
    assert word_f1("北京", "北京市") == pytest.approx(0.8)
    assert word_f1("กรุง", "กรุงเทพ") > 0
    assert word_f1("Москва", "Москва река") == pytest.approx(2 / 3)


def test_the_best_of_several_answers_counts() -> None:
    scores = question_scores(["Denver Broncos", ""], [["Carolina", "The Broncos"], []])
    np.testing.assert_allclose(scores, [[0, 1], [2 / 3, 1]])


def test_an_answer_to_a_question_without_one_counts_nothing() -> None:
    np.testing.assert_array_equal(question_scores(["Paris"], [[]]), [[0], [0]])


def test_no_answer_f1_joins_precision_and_recall() -> None:
    predictions = ["", "", "", "Rome", "Paris"]
    answers = [[], [], ["Oslo"], [], ["Paris"]]
    assert no_answer_f1(predictions, answers) == pytest.approx(100 * 2 / 3)


def test_without_a_question_that_has_no_answer_there_is_no_f1_of_that_decision() -> None:
    assert no_answer_f1(["Rome", ""], [["Paris"], ["Oslo"]]) is None


def test_intervals_hold_the_score_and_narrow_with_more_questions() -> None:
    def width(number: int) -> float:
        scores = score_answers(["Rome", "Paris"] * number, [["Rome"], ["Oslo"]] * number)
        assert scores.exact_match.value == 50
        assert scores.exact_match.low < 50 < scores.exact_match.high
        assert scores.f1.signature.startswith("squad|")
        return scores.exact_match.high - scores.exact_match.low

    assert width(100) < width(10) / 2


def test_a_system_is_better_than_another_on_the_same_questions() -> None:
    answers = [["Rome"]] * 40
    scores = compare_answers(["Rome"] * 40, ["Oslo"] * 15 + ["Rome"] * 25, answers)
    assert scores.exact_match.difference == pytest.approx(37.5)
    assert scores.exact_match.low > 0
    assert scores.exact_match.p_value < 0.01
    equal = compare_answers(["Rome"] * 40, ["Rome"] * 40, answers)
    assert equal.f1.difference == 0
    assert equal.f1.p_value == 1


def test_answers_and_questions_must_be_as_many() -> None:
    with pytest.raises(ShapeError, match=r"answers \(1\) and references \(2\)"):
        question_scores(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="nothing to score"):
        score_answers([], [])


def test_scores_equal_those_of_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.text")
    predictions = ["the Broncos", "10th of May", "A", "gold-medal winner", "", "x y z"]
    answers = [["Denver Broncos", "Broncos"], ["May 10"], ["B"], ["goldmedal"], ["c"], ["z y x"]]
    metric = torchmetrics.SQuAD()
    pairs = enumerate(zip(predictions, answers, strict=True))
    for number, (prediction, texts) in pairs:
        truth = {"text": texts, "answer_start": [0] * len(texts)}
        metric.update(
            [{"prediction_text": prediction, "id": str(number)}],
            [{"answers": truth, "id": str(number)}],
        )
    expected, scores = metric.compute(), score_answers(predictions, answers)
    assert scores.exact_match.value == pytest.approx(float(expected["exact_match"]))
    assert scores.f1.value == pytest.approx(float(expected["f1"]))
