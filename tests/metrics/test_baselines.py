"""Floors: copying the source, and the nearest training source's target."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import DataError, ShapeError
from regard.metrics.baselines import NearestNeighbor, copy_source

SENTENCE = st.lists(st.sampled_from("abcdefg"), max_size=8).map(" ".join)


def cosine_by_definition(query: str, source: str, sources: list[str]) -> float:
    def weigh(text: str) -> dict[str, float]:
        return {
            term: count
            * (1 + math.log((1 + len(sources)) / (1 + sum(term in s.split() for s in sources))))
            for term, count in Counter(text.split()).items()
        }

    known = {term for sentence in sources for term in sentence.split()}
    left = {term: weight for term, weight in weigh(query).items() if term in known}
    right = weigh(source)
    norm = math.hypot(*left.values()) * math.hypot(*right.values())
    return sum(w * right.get(term, 0.0) for term, w in left.items()) / norm if norm else 0.0


def test_copying_returns_the_sources() -> None:
    assert copy_source(["a b", ""]) == ["a b", ""]


@given(st.lists(SENTENCE, min_size=1, max_size=8), SENTENCE)
@settings(max_examples=100, deadline=None)
def test_the_neighbour_has_the_highest_tf_idf_cosine(sources: list[str], query: str) -> None:
    rows = [str(row) for row in range(len(sources))]
    chosen = int(NearestNeighbor(sources, rows).translate([query])[0])
    similarities = [cosine_by_definition(query, source, sources) for source in sources]
    assert similarities[chosen] == pytest.approx(max(similarities), abs=1e-12)


def test_a_training_source_finds_itself() -> None:
    sources = ["the cat sat", "the dog ran home", "a bird sang"]
    neighbour = NearestNeighbor(sources, ["eins", "zwei", "drei"])
    assert neighbour.translate(sources) == ["eins", "zwei", "drei"]


def test_a_rare_word_counts_more_than_common_ones() -> None:
    sources = ["in the big house", "in the big hall", "in the big room", "zebra"]
    neighbour = NearestNeighbor(sources, ["1", "2", "3", "zebra"])
    assert neighbour.translate(["the zebra"]) == ["zebra"]


def test_case_and_punctuation_do_not_count() -> None:
    neighbour = NearestNeighbor(["Close the door", "Open, the WINDOW!"], ["1", "2"])
    assert neighbour.translate(["open the window"]) == ["2"]


def test_of_equally_similar_sources_the_first_row_is_taken() -> None:
    sources = ["x", "b c a a", "a b a c", "c b a a"]
    assert NearestNeighbor(sources, ["0", "1", "2", "3"]).translate(["a b c"]) == ["1"]


def test_a_query_like_nothing_takes_the_first_row() -> None:
    neighbour = NearestNeighbor(["a", "b"], ["first", "second"])
    assert neighbour.translate(["unknown", "", "?!"]) == ["first", "first", "first"]


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    sources = ["今天天气很好", "我喜欢喝茶", "ฉันรักแมว"]
    neighbour = NearestNeighbor(sources, ["weather", "tea", "cat"])
    assert neighbour.translate(["他喝茶", "天气不好", "แมวดำ"]) == ["tea", "weather", "cat"]


def test_sources_without_any_word_are_accepted() -> None:
    assert NearestNeighbor(["!", "?"], ["1", "2"]).translate(["!"]) == ["1"]


def test_no_queries_give_no_translations() -> None:
    assert NearestNeighbor(["a"], ["b"]).translate([]) == []


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        NearestNeighbor(["a", "b"], ["c"])
    assert str(caught.value) == (
        "the numbers of sources (2) and targets (1) differ.  Give one target for each source."
    )


def test_no_training_pairs_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        NearestNeighbor([], [])
    assert str(caught.value) == "no training pairs to search for the nearest.  Give one or more."
