"""Cleaning counts what it drops; parts share no text; overlap between files is told."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.cli.wording import error_text
from regard.data.dropped_rows import DroppedRow
from regard.data.labeled_text import LabeledTexts
from regard.data.parallel_corpus import ParallelCorpus
from regard.data.splits import (
    clean,
    content_key,
    count_near_duplicates,
    exclude_overlap,
    normalize,
    overlap,
    split,
)
from regard.errors import DataError

WORDS = st.sampled_from(["a", "A", "ａ", "b", "b ", "ß", "ss", "c", "ﬁ", "fi", "d", "e", "f", "g"])
TEXTS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


def make(rows, path: str = "pairs.tsv", first_line: int = 1) -> ParallelCorpus:
    rows = list(rows)
    return ParallelCorpus(
        path=path,
        sources=[source for source, _ in rows],
        targets=[target for _, target in rows],
        lines=list(range(first_line, first_line + len(rows))),
    )


def distinct(count: int) -> ParallelCorpus:
    return make((f"source {row}", f"target {row}") for row in range(count))


def texts_of(pairs: ParallelCorpus) -> tuple[set[str], set[str]]:
    def fold(text: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

    return {fold(text) for text in pairs.sources}, {fold(text) for text in pairs.targets}


def sizes(splits) -> tuple[int, int, int, int]:
    return len(splits.train), len(splits.valid), len(splits.test), len(splits.dropped)


# --- cleaning


def test_clean_strips_the_space_around_what_it_keeps():
    kept, drops = clean(make([(" a\u00a0", "\tb\r")]), min_pairs=1)
    assert (kept.sources, kept.targets, kept.lines, drops) == (["a"], ["b"], [1], [])


def test_clean_names_line_reason_and_text_of_each_row_dropped():
    rows = [("a", "b"), (" ", "c"), ("d", ""), ("a ", "b"), ("e" * 11, "f"), ("g", "h" * 11)]
    kept, drops = clean(make(rows, first_line=7), max_chars=10, min_pairs=1)
    assert kept.lines == [7]
    assert drops == [
        DroppedRow(line=8, reason="empty side", text="c"),
        DroppedRow(line=9, reason="empty side", text="d"),
        DroppedRow(line=10, reason="repeated pair", text="a"),
        DroppedRow(line=11, reason="longer than 10 characters", text="e" * 11),
        DroppedRow(line=12, reason="longer than 10 characters", text="g"),
    ]


def test_clean_keeps_other_translations_of_a_source():
    kept, drops = clean(make([("a", "b"), ("a", "c"), ("d", "b")]), min_pairs=1)
    assert (len(kept), drops) == (3, [])


def test_clean_leaves_its_input_alone():
    pairs = make([(" a", "b")] * 12)
    with pytest.raises(DataError, match="only one distinct pair in 12 rows"):
        clean(pairs)
    assert pairs == make([(" a", "b")] * 12)


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=30))
def test_clean_keeps_or_drops_every_row(rows):
    try:
        kept, drops = clean(make(rows), max_chars=2, min_pairs=1)
    except DataError as error:
        assert "no usable pair" in str(error)
    else:
        assert sorted(kept.lines + [drop.line for drop in drops]) == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("", "x")] * 30 + [("e" * 5001, "x")] * 10,
            "no usable pair: all 40 rows were dropped (30 empty side, "
            "10 longer than 5,000 characters).",
        ),
        ([("", "")], "no usable pair: the only row was dropped (1 empty side)."),
        ([], "no usable pair: there are no rows."),
        (
            [("a", "b")] * 500,
            "only one distinct pair in 500 rows.  Training needs at least 10.",
        ),
        ([("a", "b")], "only one distinct pair in 1 row.  Training needs at least 10."),
        (
            [("a", str(row % 9)) for row in range(1200)] + [("a", "")] * 3,
            "only nine distinct pairs in 1,203 rows.  Training needs at least 10.  "
            "Dropped: 1,191 repeated pair, 3 empty side.",
        ),
    ],
)
def test_too_few_rows_to_train_on_are_refused_with_the_reasons(rows, message):
    with pytest.raises(DataError) as caught:
        clean(make(rows))
    assert error_text(caught.value) == f"pairs.tsv: {message}"


def test_a_held_out_file_may_be_small():
    assert len(clean(make([("a", "b")]), min_pairs=1)[0]) == 1


# --- splitting


@pytest.mark.slow
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=10, max_size=60), st.integers(0, 9))
def test_parts_share_no_text_and_lose_no_row(rows, seed):
    pairs = make(rows)
    try:
        splits = split(pairs, seed=seed)
    except DataError as error:
        assert "no row can be held out" in str(error)
        return
    parts = [splits.train, splits.valid, splits.test]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        for texts, others in zip(texts_of(parts[one]), texts_of(parts[other]), strict=True):
            assert not texts & others
    lines = [line for part in parts for line in part.lines]
    assert sorted(lines + [drop.line for drop in splits.dropped]) == pairs.lines
    assert all(part.lines == sorted(part.lines) and len(part) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "held_out"), [(10, 1), (60, 2), (1000, 25), (39_960, 999), (100_000, 1000)]
)
def test_a_fortieth_up_to_a_thousand_rows_is_held_out_twice(rows, held_out):
    splits = split(distinct(rows), seed=1)
    assert sizes(splits) == (rows - 2 * held_out, held_out, held_out, 0)


def test_sizes_can_be_set():
    assert sizes(split(distinct(100), seed=1, valid_rows=7, test_rows=30)) == (63, 7, 30, 0)


def test_a_part_of_no_rows_may_be_asked_for():
    assert sizes(split(distinct(100), seed=1, valid_rows=0, test_rows=0)) == (100, 0, 0, 0)
    assert sizes(split(make([("a", "b")]), seed=1, valid_rows=0, test_rows=0)) == (1, 0, 0, 0)


def test_the_seed_alone_decides():
    first, again, other = (split(distinct(1000), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.valid != other.valid


def test_rows_that_occur_once_are_held_out_first():
    rows = [(f"once {row}", f"einmal {row}") for row in range(50)]
    rows += [(f"twice {row // 2}", f"zweimal {row}") for row in range(950)]
    splits = split(make(rows), seed=1)
    assert sizes(splits) == (950, 25, 25, 0)
    assert all(text.startswith("once") for text in splits.valid.sources + splits.test.sources)


def test_groups_move_as_a_whole_where_no_row_occurs_once():
    splits = split(make((f"s{row // 5}", f"t{row}") for row in range(1000)), seed=1)
    assert sizes(splits) == (950, 25, 25, 0)


def test_a_small_group_is_held_out_instead_of_a_single_row():
    splits = split(make((f"s{row // 2}", f"t{row}") for row in range(20)), seed=1)
    assert sizes(splits) == (16, 2, 2, 0)


def test_case_width_and_spacing_hide_no_repetition():
    rows = [(f"S{row}", f"t{row}") for row in range(10)]
    rows += [(f" ｓ{row}", f"u{row}") for row in range(10)]
    splits = split(make(rows), seed=1)
    assert len(splits.valid) == len(splits.test) == 2


def test_one_giant_group_gives_up_the_rows_that_would_leak():
    # Each row shares its source with the row before and its target with the row behind.
    splits = split(make((f"s{row // 2}", f"t{(row + 1) // 2}") for row in range(2000)), seed=1)
    assert len(splits.valid) == len(splits.test) == 50
    assert 100 <= len(splits.dropped) <= 200
    assert {drop.reason for drop in splits.dropped} == {"repeats across splits"}
    assert not texts_of(splits.train)[0] & texts_of(splits.test)[0]


def test_at_most_a_tenth_of_the_rows_is_dropped_for_parts_that_are_not_full():
    rows = [(f"s{row % 30}", f"t{row // 30}") for row in range(900)]
    splits = split(make(rows), seed=1)
    assert min(len(splits.valid), len(splits.test)) >= 1
    assert len(splits.dropped) <= 0.1 * len(rows) + 60


def test_rows_that_all_share_a_target_cannot_be_split():
    with pytest.raises(DataError) as caught:
        split(make((f"s{row}", "yes") for row in range(1000)), seed=1)
    assert error_text(caught.value) == (
        "pairs.tsv: no row can be held out: nearly all share a source or a target with others.  "
        "1,000 pairs have only 1 different target.  Labels?  --columns 1,2 "
        "--set task=classification"
    )


def test_labelled_rows_that_are_all_the_same_have_no_source_or_target():
    with pytest.raises(
        DataError, match="no row can be held out: nearly all are the same as others"
    ):
        split(labeled(["a", "b"] * 20, ["one text"] * 40), seed=1)


def test_more_rows_cannot_be_held_out_than_there_are():
    with pytest.raises(DataError) as caught:
        split(distinct(1200), seed=1, valid_rows=1000, test_rows=200)
    assert error_text(caught.value) == (
        "pairs.tsv: cannot hold out 1,000 + 200 rows of 1,200.  "
        "Add rows, or name files of your own: --valid FILE, --test FILE"
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_one_group", [False, True])
def test_a_hundred_thousand_rows_are_split_in_four_seconds(is_one_group):
    step = 2 if is_one_group else 1
    pairs = make(
        (f"Das ist Satz {row // step}, größer", f"This is {(row + step - 1) // step}, larger")
        for row in range(100_000)
    )
    start = time.process_time()
    split(pairs, seed=1)
    assert time.process_time() - start < 4  # 1.0 to 1.5 alone, with both cores busy up to 2.5


# --- labels


def labeled(labels, texts=None) -> LabeledTexts:
    texts = texts or [f"text {row}" for row in range(len(labels))]
    lines = list(range(1, len(labels) + 1))
    return LabeledTexts(path="x.csv", texts=texts, labels=list(labels), lines=lines)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_held_out_in_proportion(seed):
    rows = labeled(["common"] * 700 + ["usual"] * 200 + ["rare"] * 100)
    splits = split(rows, seed=seed, valid_rows=40, test_rows=20)
    assert sizes(splits) == (940, 40, 20, 0)
    assert Counter(splits.valid.labels) == {"common": 28, "usual": 8, "rare": 4}
    assert Counter(splits.test.labels) == {"common": 14, "usual": 4, "rare": 2}


@pytest.mark.parametrize("seed", range(20))
def test_every_label_has_a_training_row(seed):
    rows = labeled(["a"] * 30 + ["b"] * 30 + ["c", "d", "e", "f"])
    splits = split(rows, seed=seed, valid_rows=10, test_rows=10)
    assert set(splits.train.labels) == set("abcdef")
    assert sizes(splits) == (44, 10, 10, 0)


@pytest.mark.parametrize("seed", range(10))
def test_a_label_of_one_text_goes_to_training_with_all_its_rows(seed):
    rows = labeled(
        ["a"] * 20 + ["b", "b"], [f"text {row}" for row in range(20)] + ["same text"] * 2
    )
    splits = split(rows, seed=seed, valid_rows=6, test_rows=6)
    assert splits.train.labels.count("b") == 2


def test_rows_that_all_have_a_label_of_their_own_are_held_out_as_pairs_are():
    splits = split(labeled([str(row) for row in range(40)]), seed=1)
    assert sizes(splits) == (38, 1, 1, 0)


@given(st.lists(st.tuples(TEXTS, st.sampled_from("abc")), min_size=10, max_size=60))
def test_stratified_parts_share_no_text_and_lose_no_row(rows):
    data = labeled([label for _, label in rows], [text for text, _ in rows])
    try:
        splits = split(data, seed=1)
    except DataError as error:
        assert "no row can be held out" in str(error)
        return
    parts = [splits.train, splits.valid, splits.test]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert not set(map(normalize, parts[one].texts)) & set(map(normalize, parts[other].texts))
    lines = [line for part in parts for line in part.lines]
    assert sorted(lines + [drop.line for drop in splits.dropped]) == data.lines
    assert all(len(part) for part in parts)


# --- stability, near duplicates


def as_pairs(rows) -> set[tuple[str, str]]:
    return set(zip(rows.sources, rows.targets, strict=True))


@pytest.mark.parametrize("num_rows", [200, 2000, 2020])
@pytest.mark.parametrize("index", [0, 77, 199])
def test_a_row_more_moves_hardly_any_other(num_rows, index):
    rows = [(f"source {row}", f"target {row}") for row in range(num_rows)]
    first = split(make(rows), seed=1)
    second = split(make([*rows[:index], ("another", "one"), *rows[index:]]), seed=1)
    for part in ("valid", "test"):
        before, after = as_pairs(getattr(first, part)), as_pairs(getattr(second, part))
        assert len(before - after) <= 1
        assert len(after - before) <= 2  # 2,020 rows and one more hold out one row more


def test_the_order_of_the_rows_does_not_matter():
    rows = [(f"source {row}", f"target {row}") for row in range(500)]
    first, second = split(make(rows), seed=1), split(make(rows[::-1]), seed=1)
    assert as_pairs(first.test) == as_pairs(second.test)
    assert as_pairs(first.valid) == as_pairs(second.valid)


@pytest.mark.parametrize("label", ["a", "b", "c"])
def test_a_labeled_row_more_moves_few_others(label):
    labels = ["a"] * 300 + ["b"] * 150 + ["c"] * 50
    texts = [f"text {row}" for row in range(501)]
    first = split(labeled(labels, texts[:500]), seed=1, valid_rows=50, test_rows=50)
    second = split(labeled([*labels, label], texts), seed=1, valid_rows=50, test_rows=50)
    for part in ("valid", "test"):
        before, after = (set(getattr(parts, part).texts) for parts in (first, second))
        assert len(before - after) <= 5


NEAR_DUPLICATES = (
    "Don't go, Ann!",
    "Don\u2019t go, Ann",
    "don\u00b4t go Ann.",
    "\u201eDon`t go\u201c, Ann \u2026",
    "Don't\u200b go, A\u00adnn!",
)


def test_near_duplicates_are_counted_and_kept_in_one_part():
    rows = [(f"{text} {row}", f"t {row} {text}") for row in range(40) for text in NEAR_DUPLICATES]
    pairs = make(rows)
    # The last differs from the first in nothing that a reader sees.
    assert count_near_duplicates(pairs) == 40 * 3
    splits = split(pairs, seed=1)
    groups = [
        {(line - 1) // len(NEAR_DUPLICATES) for line in part.lines}
        for part in (splits.train, splits.valid, splits.test)
    ]
    assert list(map(len, groups)) == [38, 1, 1]


def test_all_ascii_punctuation_is_left_out_as_it_is_next_to_other_letters():
    for character in map(chr, range(32, 127)):
        assert content_key(f"a{character}b é") == f"{content_key(f'a{character}b')} é"


@pytest.mark.parametrize(("one", "other"), [("1.5", "15"), ("a+b", "a b"), ("?", "!"), ("ए", "ऐ")])
def test_texts_of_different_content_are_not_near_duplicates(one, other):
    assert content_key(one) != content_key(other)


# --- overlap between files


def overlapping() -> tuple[ParallelCorpus, ParallelCorpus]:
    train = make([("one", "eins"), ("two", "zwei"), ("Two", "zwo")], "train.tsv", first_line=4016)
    test = make([("three", "drei"), ("two ", "zwei"), ("one", "x")], "test.tsv", first_line=8)
    return train, test


def test_overlap_names_the_first_row_of_training_with_each_source():
    assert overlap(*overlapping()) == {1: 1, 2: 0}


def test_overlap_is_counted_with_an_example():
    with pytest.raises(DataError) as caught:
        exclude_overlap(*overlapping(), drop=False)
    assert error_text(caught.value) == (
        "test.tsv: 2 of 3 sources also stand in train.tsv (e.g. line 9 = train 4,017).  "
        "Scores would be too good.  Drop them: --drop-overlap;  keep: --allow-overlap"
    )


def test_files_that_share_no_source_pass():
    train, test = overlapping()
    remaining = exclude_overlap(train, test, drop=True)
    assert exclude_overlap(train, remaining, drop=False) == remaining


def test_overlapping_rows_are_dropped_from_test():
    assert exclude_overlap(*overlapping(), drop=True).sources == ["three"]


def test_dropping_every_test_row_is_refused():
    train, test = overlapping()
    with pytest.raises(DataError) as caught:
        exclude_overlap(train, test.select([1, 2]), drop=True)
    assert error_text(caught.value) == (
        "test.tsv: every source is also in train.tsv: none is left.  "
        "Name another file, or keep them: --allow-overlap"
    )
