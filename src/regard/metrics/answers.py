"""Exact match and F1 of answers by the rules of SQuAD, and F1 of the decision "no answer".

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1:
punctuation and articles are ignored, F1 is that of bags of words, the best of the true answers
counts. Rajpurkar, Jia & Liang 2018, "Know What You Don't Know", section 4.1: a question without an
answer counts 1 where none is given, else 0. Both are defined for English; here a character of a
script without spaces between words is a word of its own, and such texts lose all punctuation.
Intervals and tests resample questions. Cost: linear in the text.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from regard.metrics.bootstrap import (
    RESAMPLING,
    MetricWithInterval,
    PairedScore,
    compare_means,
    mean_with_interval,
    require_aligned,
)
from regard.metrics.words import UNSPACED

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation))
_UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
_SIGNATURE = f"squad|words, characters where there are no spaces|{RESAMPLING}"


class AnswerScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scores of answers, in percent.

    Args:
        exact_match: Questions whose answer is a true one.
        f1: Mean overlap in words with the nearest true answer.
        no_answer_f1: Harmonic mean of precision and recall of the decision that a question has no
            answer; None where every question has one.
        num_questions: Questions scored.
    """

    exact_match: MetricWithInterval
    f1: MetricWithInterval
    no_answer_f1: float | None
    num_questions: int


class PairedAnswerScores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The difference of two systems in both scores.

    Args:
        exact_match: Difference in exact match.
        f1: Difference in F1.
        num_questions: Questions scored.
    """

    exact_match: PairedScore
    f1: PairedScore
    num_questions: int


def answer_words(text: str) -> list[str]:
    """Return the words of an answer by which it is compared.

    >>> answer_words("The  Eiffel-Tower, a landmark.")
    ['eiffeltower', 'landmark']
    >>> answer_words("北京市。")
    ['北', '京', '市']
    """
    text = text.lower().translate(_ASCII_PUNCTUATION)
    if not text.isascii() and _UNSPACED_CHARACTER.search(text):
        text = "".join(char for char in text if unicodedata.category(char)[0] != "P")
        text = _UNSPACED_CHARACTER.sub(r" \g<0> ", text)
    return _ARTICLES.sub(" ", text).split()


def exact_match(prediction: str, answer: str) -> bool:
    """Return whether two answers have the same words in the same order.

    >>> exact_match("the Eiffel Tower", "Eiffel tower!")
    True
    """
    return answer_words(prediction) == answer_words(answer)


def word_f1(prediction: str, answer: str) -> float:
    """Return the F1 of the words of an answer, 0 to 1; where one has no words, whether both have.

    >>> word_f1("in the year 1889", "1889")
    0.5
    >>> word_f1("", ""), word_f1("", "1889")
    (1.0, 0.0)
    """
    words, true_words = answer_words(prediction), answer_words(answer)
    if not words or not true_words:
        return float(words == true_words)
    num_shared = (Counter(words) & Counter(true_words)).total()
    return 2 * num_shared / (len(words) + len(true_words))


def question_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Compute exact match and F1 of each question, the best over its true answers.

    Args:
        predictions: An answer for each question; empty for "no answer".
        answers: The true answers of each question; none for a question without one.

    Returns:
        ``[2, questions]``, each 0 to 1.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    require_aligned(predictions, answers, "answers")
    scores = np.empty((2, len(predictions)))
    for row, (prediction, texts) in enumerate(zip(predictions, answers, strict=True)):
        true = [text for text in texts if answer_words(text)] or [""]
        scores[0, row] = max(exact_match(prediction, text) for text in true)
        scores[1, row] = max(word_f1(prediction, text) for text in true)
    return scores


def no_answer_f1(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> float | None:
    """Return the F1 of the decision that a question has no answer, in percent.

    Args:
        predictions: An answer for each question; empty for "no answer".
        answers: The true answers of each question; none for a question without one.

    Returns:
        The harmonic mean of precision and recall; None where every question has an answer.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.

    >>> round(no_answer_f1(["", "", "Paris"], [[], ["Rome"], ["Paris"]]), 1)
    66.7
    """
    require_aligned(predictions, answers, "answers")
    is_empty = np.array([not answer_words(text) for text in predictions], dtype=bool)
    has_none = np.array([not any(map(answer_words, texts)) for texts in answers], dtype=bool)
    if not has_none.any():
        return None
    return 200 * int((is_empty & has_none).sum()) / int(is_empty.sum() + has_none.sum())


def score_answers(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> AnswerScores:
    """Return the scores of answers, with 95 % bootstrap intervals.

    Args:
        predictions: An answer for each question; empty for "no answer".
        answers: The true answers of each question; none for a question without one.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    exact, overlap = (
        mean_with_interval(100 * scores, _SIGNATURE)
        for scores in question_scores(predictions, answers)
    )
    return AnswerScores(
        exact_match=exact,
        f1=overlap,
        no_answer_f1=no_answer_f1(predictions, answers),
        num_questions=len(answers),
    )


def compare_answers(
    predictions: Sequence[str], other: Sequence[str], answers: Sequence[Sequence[str]]
) -> PairedAnswerScores:
    """Return the difference of two systems by paired bootstrap, on the same resamples for both.

    Args:
        predictions: Answers of the first system.
        other: Answers of the second system.
        answers: The true answers of each question.

    Raises:
        DataError: There is nothing to score.
        ShapeError: The lengths differ.
    """
    systems = (question_scores(texts, answers) for texts in (predictions, other))
    exact, overlap = (
        compare_means(100 * first, 100 * second, _SIGNATURE)
        for first, second in zip(*systems, strict=True)
    )
    return PairedAnswerScores(exact_match=exact, f1=overlap, num_questions=len(answers))
