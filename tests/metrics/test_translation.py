"""Translation scores: equal to sacrebleu's, with sound intervals and paired test."""

import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from regard.errors import DataError, ShapeError
from regard.metrics import bootstrap
from regard.metrics.translation import (
    bleu,
    chrf,
    compare_translations,
    exact_match,
    score_translations,
    sentence_chrf,
)

REFERENCES = [
    "Die Katze saß auf der Matte.",
    "Wir haben gestern ein neues Haus gekauft.",
    "Der Zug fährt um acht Uhr ab.",
    "Ich weiß nicht, wo meine Schlüssel sind.",
    "Das Buch liegt auf dem Tisch in der Küche.",
    "Morgen soll es wieder regnen.",
    "Sie arbeitet seit drei Jahren in Hamburg.",
    "Kannst du mir bitte das Salz geben?",
]
GOOD = [sentence.replace("e", "ee", 1) for sentence in REFERENCES]
POOR = [" ".join(reversed(sentence.split())) for sentence in REFERENCES]
SENTENCES = st.lists(
    st.tuples(st.text(alphabet="ab c.é字", max_size=20), st.text(alphabet="ab c.é字", max_size=20)),
    min_size=1,
    max_size=6,
)


@given(SENTENCES)
@settings(max_examples=50, deadline=None)
def test_values_equal_sacrebleu_exactly(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "NUM_SAMPLES", 2)
        scores = score_translations(hypotheses, references)
    assert scores.bleu.value == BLEU().corpus_score(hypotheses, [references]).score
    assert scores.chrf.value == CHRF().corpus_score(hypotheses, [references]).score
    assert scores.num_sentences == len(pairs)


def test_the_single_scores_equal_sacrebleu() -> None:
    assert chrf(POOR, REFERENCES) == CHRF().corpus_score(POOR, [REFERENCES]).score
    assert bleu(GOOD, REFERENCES) == BLEU().corpus_score(GOOD, [REFERENCES]).score


def test_the_interval_is_that_of_resampled_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "NUM_SAMPLES", 30)
    scores = score_translations(POOR, REFERENCES)
    rows = np.random.default_rng(bootstrap.SEED).choice(len(POOR), size=(30, len(POOR)))
    for metric, score in ((BLEU(), scores.bleu), (CHRF(), scores.chrf)):
        resampled = [
            metric.corpus_score([POOR[i] for i in draw], [[REFERENCES[i] for i in draw]]).score
            for draw in rows
        ]
        assert [score.low, score.high] == pytest.approx(
            np.percentile(resampled, [2.5, 97.5]), rel=1e-12
        )


def test_the_interval_encloses_the_value() -> None:
    scores = score_translations(GOOD, REFERENCES)
    for score in (scores.bleu, scores.chrf):
        assert 0 < score.low < score.value < score.high < 100


def test_the_same_outputs_have_the_same_interval() -> None:
    assert score_translations(GOOD, REFERENCES) == score_translations(GOOD, REFERENCES)


def test_the_signature_tells_resamples_seed_and_tokenizer() -> None:
    scores = score_translations(GOOD, REFERENCES)
    assert (
        "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp" in scores.bleu.signature
    )
    assert (
        "nrefs:1|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no" in scores.chrf.signature
    )


@pytest.mark.parametrize("language", ["zh", "zh-Hans", "zh_CN", "ZH"])
def test_chinese_is_taken_apart_by_characters(language: str) -> None:
    scores = score_translations(["我们三小时后见"], ["我们三天后见"], target_language=language)
    assert "|tok:zh|" in scores.bleu.signature
    assert scores.bleu.value > 0


@pytest.mark.parametrize("language", ["ja", "ko", "th"])
def test_characters_stand_in_where_the_tokenizer_is_not_installed(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regard.metrics.translation.find_spec", lambda name: None)
    scores = score_translations(["三時間後に会う"], ["三日後に会う"], target_language=language)
    assert "|tok:char|" in scores.bleu.signature


def test_the_proper_tokenizer_is_taken_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from regard.metrics.translation import _tokenizer

    monkeypatch.setattr(
        "regard.metrics.translation.find_spec", lambda name: ModuleSpec(name, loader=None)
    )
    assert [_tokenizer("ja-JP"), _tokenizer("ko"), _tokenizer("th")] == [
        "ja-mecab",
        "ko-mecab",
        "char",
    ]


def test_a_system_against_itself_has_no_difference() -> None:
    scores = compare_translations(GOOD, GOOD, REFERENCES)
    for paired in (scores.bleu, scores.chrf):
        assert (paired.difference, paired.low, paired.high, paired.p_value) == (0, 0, 0, 1)


def test_a_clearly_better_system_has_a_small_p_value() -> None:
    scores = compare_translations(GOOD, POOR, REFERENCES)
    assert scores.chrf.low > 0
    assert scores.chrf.p_value == pytest.approx(1 / 1001)
    assert scores.num_sentences == len(REFERENCES)


def test_the_difference_is_of_the_corpus_scores() -> None:
    paired = compare_translations(GOOD, POOR, REFERENCES).chrf
    assert (paired.value, paired.other) == (chrf(GOOD, REFERENCES), chrf(POOR, REFERENCES))
    assert paired.difference == paired.value - paired.other


def test_comparing_the_other_way_round_turns_the_sign() -> None:
    there = compare_translations(GOOD, POOR, REFERENCES).bleu
    back = compare_translations(POOR, GOOD, REFERENCES).bleu
    assert (there.difference, there.p_value) == (-back.difference, back.p_value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_systems_that_differ_by_chance_have_a_large_p_value() -> None:
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(list("abcdefgh"), size=12)) for _ in range(60)]
    halves = [rng.random(60) < 0.5 for _ in range(2)]
    first, second = (
        [ref[::-1] if worse else ref for ref, worse in zip(references, half, strict=True)]
        for half in halves
    )
    assert compare_translations(first, second, references).chrf.p_value > 0.1


def test_a_sentence_has_the_score_that_sacrebleu_gives_it() -> None:
    hypotheses = [REFERENCES[0], "xyz", POOR[2]]
    expected = CHRF().sentence_score(POOR[2], [REFERENCES[2]]).score
    assert sentence_chrf(hypotheses, REFERENCES[:3]).tolist() == [100.0, 0.0, expected]


def test_exact_match_is_the_share_of_equal_strings() -> None:
    assert exact_match(["a", "b ", "c", "d"], ["a", "b", "c", "x"]) == 0.5


@pytest.mark.parametrize("scorer", [chrf, bleu, score_translations, sentence_chrf, exact_match])
def test_unequal_lengths_are_refused(scorer) -> None:
    with pytest.raises(ShapeError) as caught:
        scorer(["a", "b"], ["a"])
    assert str(caught.value) == (
        "the numbers of translations (2) and references (1) differ.  Give one reference for each."
    )


@pytest.mark.parametrize("scorer", [chrf, bleu, score_translations, sentence_chrf, exact_match])
def test_no_sentences_are_refused(scorer) -> None:
    with pytest.raises(DataError) as caught:
        scorer([], [])
    assert str(caught.value) == "nothing to score: there are no translations.  Give one or more."


def test_a_comparison_checks_the_other_system_too() -> None:
    with pytest.raises(ShapeError, match=r"translations \(1\) and references \(2\) differ"):
        compare_translations(["a", "b"], ["a"], ["a", "b"])


def test_importing_the_module_loads_no_sacrebleu_and_no_torch() -> None:
    program = (
        "import sys, regard.metrics.translation;"
        "sys.exit(any(name in sys.modules for name in ('sacrebleu', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
