"""The embedded corpus: what it holds, what it keeps apart, and what it refuses."""

import re
import unicodedata
from collections import Counter, defaultdict

import pytest

from regard.data.cldr_corpus import KINDS, LANGUAGES, TAGS, CldrCorpus, cldr_corpus
from regard.errors import ConfigError


@pytest.fixture(scope="module")
def corpus() -> CldrCorpus:
    return cldr_corpus()


def english(source: str) -> str:
    return source.split(" ", 1)[1]


def targets_of(corpus: CldrCorpus) -> dict[str, str]:
    parts = (corpus.train, corpus.valid, corpus.test)
    return {
        source: target
        for part in parts
        for source, target in zip(part.sources, part.targets, strict=True)
    }


@pytest.mark.slow
def test_the_parts_have_the_sizes_asked_for(corpus: CldrCorpus) -> None:
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (45_000, 300, 1_005)
    for part in (corpus.train, corpus.valid, corpus.test):
        assert part.lines == list(range(1, len(part) + 1))


def test_every_kind_and_language_has_an_equal_share_of_the_test(corpus: CldrCorpus) -> None:
    expected = {(kind, language): 67 for kind in KINDS for language in LANGUAGES}
    assert Counter(corpus.test_groups) == expected


def test_a_source_begins_with_the_tag_of_its_group(corpus: CldrCorpus) -> None:
    tags: dict[str, str] = dict(zip(LANGUAGES, TAGS, strict=True))
    for source, (_, language) in zip(corpus.test.sources, corpus.test_groups, strict=True):
        assert source.startswith(f"{tags[language]} ")


def test_every_language_has_an_equal_share_of_training(corpus: CldrCorpus) -> None:
    tags = Counter(source.split(" ", 1)[0] for source in corpus.train.sources)
    assert tags == dict.fromkeys(TAGS, 15_000)


def test_no_english_phrase_is_in_two_parts(corpus: CldrCorpus) -> None:
    parts = (corpus.train, corpus.valid, corpus.test)
    train, valid, test = ({english(source) for source in part.sources} for part in parts)
    assert train.isdisjoint(valid)
    assert train.isdisjoint(test)
    assert valid.isdisjoint(test)


def test_an_english_phrase_is_held_out_once(corpus: CldrCorpus) -> None:
    phrases = [english(source) for source in corpus.test.sources]
    assert len(set(phrases)) == len(phrases)


def test_no_held_out_target_is_in_training(corpus: CldrCorpus) -> None:
    held_out = {*corpus.valid.targets, *corpus.test.targets}
    assert held_out.isdisjoint(corpus.train.targets)


def test_a_source_occurs_once_and_so_has_one_target(corpus: CldrCorpus) -> None:
    parts = (corpus.train, corpus.valid, corpus.test)
    counts = Counter(source for part in parts for source in part.sources)
    assert max(counts.values()) == 1


@pytest.mark.slow
def test_the_pattern_of_a_phrase_determines_the_pattern_of_its_target() -> None:
    corpus = cldr_corpus(seed=3, num_train=30_000, num_valid=0, num_test=0)
    patterns = defaultdict(set)
    for source, target in targets_of(corpus).items():
        # Two or more digits: singular and plural are told apart by the number.
        if re.search(r"\d\d (?!.*:)", source) and not re.search(r"[,.:]", source):
            patterns[re.sub(r"\d+", "#", source)].add(re.sub(r"\d+", "#", target))
    ambiguous = {source: found for source, found in patterns.items() if len(found) > 1}
    assert len(patterns) > 100
    assert not ambiguous


def test_the_same_seed_gives_the_same_corpus() -> None:
    small = {"num_train": 150, "num_valid": 15, "num_test": 15}
    assert cldr_corpus(seed=7, **small) == cldr_corpus(seed=7, **small)
    assert cldr_corpus(seed=7, **small) != cldr_corpus(seed=8, **small)


def test_german_dates_are_in_the_long_style(corpus: CldrCorpus) -> None:
    num_dates = 0
    for source, target in targets_of(corpus).items():
        found = re.fullmatch(r"<de> March (\d+), (\d{4})", source)
        if found:
            num_dates += 1
            assert target == f"{found[1]}. März {found[2]}"
    assert num_dates > 100


def test_chinese_dates_are_all_in_digits(corpus: CldrCorpus) -> None:
    dates = [
        target
        for target, group in zip(corpus.test.targets, corpus.test_groups, strict=True)
        if group == ("dates", "zh")
    ]
    assert all(re.fullmatch(r"\d{4}年\d{1,2}月\d{1,2}日", target) for target in dates)


def test_times_mean_the_same_moment(corpus: CldrCorpus) -> None:
    rows = zip(corpus.test.sources, corpus.test.targets, corpus.test_groups, strict=True)
    for source, target, (kind, _) in rows:
        if kind != "times":
            continue
        [(hour, rest, half)] = re.findall(r"^<..> (\d+):([\d:]+)\s([AP]M)$", source)
        hour_of_day = int(hour) % 12 + (12 if half == "PM" else 0)
        assert target == f"{hour_of_day:02d}:{rest}"


def test_durations_keep_their_unit(corpus: CldrCorpus) -> None:
    stems = {"year": "Jahr", "month": "Monat", "week": "Woche", "day": "Tag", "hour": "Stunde"}
    stems |= {"minute": "Minute", "second": "Sekunde"}
    seen = set()
    for source, target in targets_of(corpus).items():
        found = re.fullmatch(r"<de> (in )?(\d+) (\w+?)s?( ago)?", source)
        if found and found[3] in stems:
            direction = "in " if found[1] else "vor " if found[4] else ""
            assert target.replace("\xa0", " ").startswith(
                f"{direction}{found[2]} {stems[found[3]]}"
            )
            seen.add((direction, found[3]))
    assert len(seen) == 3 * len(stems)


def test_every_target_keeps_the_digits_of_numbers_with_units(corpus: CldrCorpus) -> None:
    rows = zip(corpus.test.sources, corpus.test.targets, corpus.test_groups, strict=True)
    for source, target, (kind, _) in rows:
        if kind in ("currencies", "units", "durations"):
            assert re.findall(r"\d", source) == re.findall(r"\d", target)


def test_cldr_spaces_are_kept_in_source_and_target(corpus: CldrCorpus) -> None:
    assert any("\u202f" in target for target in corpus.train.targets)
    assert any("\xa0" in target for target in corpus.train.targets)


def test_every_text_is_nfc_and_on_one_line(corpus: CldrCorpus) -> None:
    for text in (*corpus.train.sources, *corpus.train.targets):
        assert unicodedata.is_normalized("NFC", text)
        assert text == text.strip()
        assert "\n" not in text
        assert "\t" not in text


def test_no_target_shows_an_identifier_of_cldr(corpus: CldrCorpus) -> None:
    prefixes = ("length-", "mass-", "volume-", "area-", "speed-", "energy-", "power-", "digital-")
    assert not [target for target in corpus.train.targets if any(p in target for p in prefixes)]


def test_a_count_that_gives_unequal_shares_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        cldr_corpus(num_test=1_000)
    assert str(caught.value) == (
        "num_test is 1,000; it must be a multiple of 15 (5 kinds of phrases in 3 languages), "
        "for example 1,005."
    )


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_train is -15; it must be a multiple of 15"):
        cldr_corpus(num_train=-15)


def test_more_phrases_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.data.cldr_corpus._NUM_DAYS", 3)
    with pytest.raises(ConfigError) as caught:
        cldr_corpus(num_train=150, num_valid=0, num_test=0)
    assert str(caught.value) == (
        "10 dates for each language were asked for, and only 3 more distinct phrases were found: "
        "ask for fewer pairs."
    )
