"""ROUGE: equal to rouge-score on English, every script counted, sound intervals and baselines."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from regard.errors import DataError, ShapeError
from regard.metrics.bootstrap import NUM_SAMPLES, SEED
from regard.metrics.rouge import (
    ROUGE_NAMES,
    compare_summaries,
    rouge_l,
    rouge_rows,
    score_summaries,
)
from regard.metrics.summaries import best_num_words, extractive_fragments, first_sentence
from regard.metrics.words import first_words, split_words

ORACLE = RougeScorer(list(ROUGE_NAMES))
REFERENCES = [
    "tool for monitoring clusters of computers",
    "near-neighbor search for Java",
    "development files of the Last.fm library",
    "fast and small web server",
]
GOOD = [
    "tool for monitoring computers",
    "search for Java",
    "files of the Last.fm library",
    "small web server",
]
POOR = ["a daemon", "library", "web services", "server for files"]
ENGLISH = st.text(alphabet="aabbcE 1.-_'\n", max_size=40)


@given(ENGLISH, ENGLISH)
@settings(max_examples=150, deadline=None)
def test_scores_equal_rouge_score_on_english(summary: str, reference: str) -> None:
    scores = ORACLE.score(reference, summary)
    expected = [100 * scores[name].fmeasure for name in ROUGE_NAMES]
    assert rouge_rows([summary], [reference])[0] == pytest.approx(expected, abs=1e-9)


def test_scores_equal_rouge_score_on_long_texts_of_several_lines() -> None:
    rng = random.Random(0)
    words = [f"w{number}" for number in range(40)]

    def draw(num_lines: int) -> str:
        lines = [" ".join(rng.choices(words, k=rng.randrange(5, 60))) for _ in range(num_lines)]
        return "\n".join(lines)

    for num_lines in (1, 2, 4):
        summary, reference = draw(num_lines), draw(3)
        scores = ORACLE.score(reference, summary)
        expected = [100 * scores[name].fmeasure for name in ROUGE_NAMES]
        assert rouge_rows([summary], [reference])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "今天下雨，明天晴。",
        "カタカナとひらがな",
        "ภาษาไทยสวย",
        "Сегодня идёт дождь",
        "आज बारिश है",
        "오늘 비가",
        "ნახვამდის ამხანაგებო",
    ],
)
def test_an_identical_text_of_any_script_scores_100(text: str) -> None:
    assert ORACLE.score(text, text)["rouge1"].fmeasure == 0  # what the package says
    assert rouge_rows([text], [text])[0].tolist() == [100.0] * 4


def test_a_script_without_spaces_is_compared_by_characters() -> None:
    assert split_words("今天下雨。ｶﾅ") == ["今", "天", "下", "雨", "ｶ", "ﾅ"]
    assert rouge_l(["今天晴"], ["今天下雨"]) == pytest.approx(100 * 2 * 2 / (3 + 4))


def test_a_word_keeps_its_accents_and_marks() -> None:
    assert split_words("L'été à Zürich") == ["l", "été", "à", "zürich"]
    assert split_words("e\u0301te\u0301") == ["été"]  # the same word in combining characters
    assert split_words("हिन्दी की") == ["हिन्दी", "की"]
    assert split_words("ยิ่ง") == ["ยิ่", "ง"]


def test_symbols_and_underscores_separate_words() -> None:
    assert split_words("a_b ❤\ufe0f €5 ①") == ["a", "b", "5", "①"]


def test_texts_without_words_score_0() -> None:
    assert rouge_rows(["", "...", "a"], ["a", "!", ""]).tolist() == [[0.0] * 4] * 3


def test_the_interval_is_that_of_resampled_means() -> None:
    scores = score_summaries(GOOD, REFERENCES)
    rows = rouge_rows(GOOD, REFERENCES)
    rng = np.random.default_rng(SEED)
    draws = [rows[rng.integers(4, size=4)].mean(axis=0) for _ in range(NUM_SAMPLES)]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    for index, score in enumerate(scores.by_name().values()):
        assert score.value == pytest.approx(rows[:, index].mean(), rel=1e-12)
        assert [score.low, score.high] == pytest.approx([low[index], high[index]], rel=1e-12)


def test_a_better_system_is_better_in_every_score_on_the_same_resamples() -> None:
    paired = compare_summaries(GOOD, POOR, REFERENCES)
    for name, score in paired.by_name().items():
        assert score.difference == pytest.approx(score.value - score.other)
        assert 0 < score.low <= score.difference <= score.high, name
    same = compare_summaries(GOOD, GOOD, REFERENCES).rougeL
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_the_rule_is_in_the_signature() -> None:
    score = score_summaries(GOOD, REFERENCES).rougeL
    assert score.signature.startswith(
        "rougeL|bs:1000|seed:12345|f1|case:lower|tok:unicode|stem:no|"
    )


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"2\) and references \(1\)"):
        rouge_l(["a", "b"], ["a"])
    with pytest.raises(DataError, match="nothing to score"):
        rouge_rows([], [])


def test_the_best_number_of_first_words_is_that_of_the_highest_mean() -> None:
    documents = [f"{REFERENCES[row]} and more text of no use" for row in range(4)]
    lengths = {
        count: rouge_l([first_words(text, count) for text in documents], REFERENCES)
        for count in range(1, 15)
    }
    best = max(lengths, key=lengths.__getitem__)
    assert best_num_words(documents, REFERENCES) == best


def test_the_first_words_end_where_a_word_ends_in_any_script() -> None:
    assert first_words("  One, two; three.", 2) == "One, two"
    assert first_words("今天下雨。明天晴", 5) == "今天下雨。明"
    assert first_words("short", 5) == "short"
    assert first_words("...", 3) == ""


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("Version 2.0 of X. It is new.", "Version 2.0 of X."),
        ("Libraries (e.g. glibc) are used! Yes.", "Libraries (e.g. glibc) are used!"),
        ("A title\n\nA paragraph. More.", "A title"),
        ("no end here", "no end here"),
        ("今天下雨。明天晴。", "今天下雨。"),
        ("«Oui.» Elle dit non.", "«Oui.»"),
        ("", ""),
    ],
)
def test_the_first_sentence_ends_before_the_next_begins(document: str, sentence: str) -> None:
    assert first_sentence(document) == sentence


def test_copied_fragments_are_those_of_the_paper() -> None:
    document = "the quick brown fox jumps over the lazy dog"
    # Fragments "the lazy dog" and "fox" of 3 and 1 words, and "sleeps" of none.
    fragments = extractive_fragments([document], ["The lazy dog, fox sleeps"])
    assert fragments.coverage == pytest.approx(100 * 4 / 5)
    assert fragments.density == pytest.approx((9 + 1) / 5)
    whole = extractive_fragments([document, document], [document, ""])
    assert (whole.coverage, whole.density) == (50.0, 4.5)
