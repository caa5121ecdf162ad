"""The embedded corpus: short parallel phrases from CLDR.

Dates, times, durations, amounts of money and numbers with units, from English into German, French
and Chinese. The texts come from the Unicode Common Locale Data Repository (cldr.unicode.org,
licence Unicode-3.0) in Babel, so that nothing is downloaded. Babel's releases have different
versions of CLDR; with one release the corpus depends only on the seed.

Cost: about 15 microseconds a text, 1.5 seconds for the default corpus.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Set
from datetime import date, time, timedelta
from decimal import Decimal
from random import Random
from typing import Literal, NamedTuple, cast

import msgspec
from babel import Locale
from babel.dates import TIMEDELTA_UNITS, format_date, format_time, format_timedelta
from babel.numbers import format_currency, get_currency_precision
from babel.units import format_unit

from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import ConfigError

KINDS = ("dates", "times", "durations", "currencies", "units")
LANGUAGES = ("de", "fr", "zh")
TAGS = ("<de>", "<fr>", "<zh>")

_ENGLISH = "en_US"
_LOCALES = {"de": "de_DE", "fr": "fr_FR", "zh": "zh_Hans_CN"}
_GROUPS = [(kind, language) for kind in KINDS for language in LANGUAGES]
_DRAWS_PER_PHRASE = 50  # before a kind counts as exhausted

_FIRST_DAY = date(1950, 1, 1)
_NUM_DAYS = (date(2050, 1, 1) - _FIRST_DAY).days
_SHORT_TIMES = 0.2  # fraction without seconds: a day has 1,440 minutes, but 86,400 seconds
_CURRENCIES = ("USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "CAD")
_UNITS = """
    length-kilometer length-meter length-centimeter length-mile length-foot
    mass-kilogram mass-gram mass-tonne mass-pound volume-liter volume-milliliter
    area-square-meter area-hectare speed-kilometer-per-hour speed-mile-per-hour
    temperature-celsius energy-kilowatt-hour power-watt digital-megabyte digital-gigabyte
"""

_TimeUnit = Literal["year", "month", "week", "day", "hour", "minute", "second"]
_Phrase = Callable[[Locale], str]
"""Writes what is meant in a language."""


class CldrCorpus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Generated sentence pairs in three parts that share no English phrase with training.

    Args:
        train: Training pairs, in random order.
        valid: Validation pairs, grouped as the test pairs are.
        test: Test pairs, the same number for every kind and language.
        test_groups: Kind (of `KINDS`) and language (of `LANGUAGES`) of each test pair.
    """

    train: ParallelCorpus
    valid: ParallelCorpus
    test: ParallelCorpus
    test_groups: list[tuple[str, str]]


class _Row(NamedTuple):
    kind: str
    language: str
    english: str
    target: str


def cldr_corpus(
    *, seed: int = 1, num_train: int = 45_000, num_valid: int = 300, num_test: int = 1_005
) -> CldrCorpus:
    """Generate parallel phrases: a source like ``<de> in 3 hours``, a target like ``in 3 Stunden``.

    The tag at the start of a source is the language of its target. A source has only one target.
    An English phrase of the validation or test part is in no other part, in any language, and no
    target of theirs is in training. Texts are NFC and keep the spaces of CLDR (U+00A0, U+202F).

    Each of the three counts is a multiple of 15, the number of kinds times the number of languages,
    since all groups have the same size.

    Returns:
        The three parts.

    Raises:
        ConfigError: A count is negative or not a multiple of 15, or there are fewer phrases.
    """
    for name, count in (("num_train", num_train), ("num_valid", num_valid), ("num_test", num_test)):
        if count < 0 or count % len(_GROUPS):
            nearest = max(0, round(count / len(_GROUPS))) * len(_GROUPS)
            raise ConfigError(
                f"{name} is {count:,}; it must be a multiple of {len(_GROUPS)} ({len(KINDS)} kinds "
                f"of phrases in {len(LANGUAGES)} languages), for example {nearest:,}."
            )
    rng = Random(seed)
    held_out: set[str] = set()
    valid = _draw_rows(num_valid, rng, dict.fromkeys(LANGUAGES, held_out), set())
    test = _draw_rows(num_test, rng, dict.fromkeys(LANGUAGES, held_out), set())
    targets = {row.target for row in (*valid, *test)}
    train = _draw_rows(num_train, rng, {name: set(held_out) for name in LANGUAGES}, targets)
    rng.shuffle(train)
    return CldrCorpus(
        train=_to_pairs(train),
        valid=_to_pairs(valid),
        test=_to_pairs(test),
        test_groups=[(row.kind, row.language) for row in test],
    )


def _to_pairs(rows: list[_Row]) -> ParallelCorpus:
    tags: dict[str, str] = dict(zip(LANGUAGES, TAGS, strict=True))
    return ParallelCorpus(
        path="CLDR",
        sources=[f"{tags[row.language]} {row.english}" for row in rows],
        targets=[row.target for row in rows],
        lines=list(range(1, len(rows) + 1)),
    )


def _draw_rows(
    count: int, rng: Random, used: dict[str, set[str]], held_out_targets: Set[str]
) -> list[_Row]:
    """Return the same number of rows for every group.

    No phrase is drawn that is in `used` for its language, to which drawn ones are added, and none
    of the held-out targets.
    """
    rows = []
    for kind, language in _GROUPS:
        size = count // len(_GROUPS)
        rows += _draw_group(kind, language, size, rng, used[language], held_out_targets)
    return rows


def _draw_group(
    kind: str, language: str, count: int, rng: Random, used: set[str], held_out_targets: Set[str]
) -> list[_Row]:
    english_locale, locale = Locale.parse(_ENGLISH), Locale.parse(_LOCALES[language])
    rows: list[_Row] = []
    for _ in range(_DRAWS_PER_PHRASE * count):
        phrase = _PHRASES[kind](rng)
        english = unicodedata.normalize("NFC", phrase(english_locale))
        if english in used:
            continue
        used.add(english)
        target = unicodedata.normalize("NFC", phrase(locale))
        if target not in held_out_targets:
            rows.append(_Row(kind, language, english, target))
        if len(rows) == count:
            break
    if len(rows) < count:
        raise ConfigError(
            f"{count:,} {kind} for each language were asked for, and only {len(rows):,} more "
            "distinct phrases were found: ask for fewer pairs."
        )
    return rows


def _date(rng: Random) -> _Phrase:
    """Draw a day of 1950 to 2049, in the long style: the full one adds a weekday."""
    day = _FIRST_DAY + timedelta(days=rng.randrange(_NUM_DAYS))
    return lambda locale: format_date(day, "long", locale=locale)


def _time(rng: Random) -> _Phrase:
    """Draw a time of day, mostly with seconds."""
    moment = time(rng.randrange(24), rng.randrange(60), rng.randrange(60))
    style = "short" if rng.random() < _SHORT_TIMES else "medium"
    return lambda locale: format_time(moment, style, locale=locale)


def _duration(rng: Random) -> _Phrase:
    """Draw 1 to 999 of a unit of time: a duration, a time from now, or ago."""
    unit, seconds_per_unit = rng.choice(TIMEDELTA_UNITS)
    number = rng.randint(1, rng.choice((99, 999)))
    is_relative, sign = rng.choice(((False, 1), (True, 1), (True, -1)))
    seconds = sign * number * seconds_per_unit
    return lambda locale: format_timedelta(
        seconds,
        granularity=cast(_TimeUnit, unit),
        threshold=number + 1,  # more than the number of any larger unit: 90 minutes stay minutes
        add_direction=is_relative,
        locale=locale,
    )


def _currency(rng: Random) -> _Phrase:
    """Draw an amount up to 9,999,999.99, with the currency's symbol or its name."""
    currency = rng.choice(_CURRENCIES)
    whole = rng.randint(0, rng.choice((99, 9_999, 999_999, 9_999_999)))
    digits = get_currency_precision(currency)
    amount = Decimal(whole) + Decimal(rng.randrange(10**digits)).scaleb(-digits)
    style: Literal["standard", "name"] = rng.choice(("standard", "name"))
    return lambda locale: format_currency(amount, currency, locale=locale, format_type=style)


def _unit(rng: Random) -> _Phrase:
    """Return a whole or one-decimal number up to 99,999 of a unit, spelled out or abbreviated.

    Where CLDR has no name of a unit, its abbreviation is used; Babel writes the unit's identifier.
    """
    unit = rng.choice(_UNITS.split())
    number = Decimal(rng.randint(1, rng.choice((99, 999, 9_999, 99_999))))
    if rng.random() < 0.5:
        number -= Decimal(rng.randint(1, 9)).scaleb(-1)
    # Babel lacks the abbreviated singular of German ("1 Meilen").
    length = rng.choice(("long", "short")) if number != 1 else "long"

    def phrase(locale: Locale) -> str:
        text = format_unit(number, unit, length, locale=locale)
        return format_unit(number, unit, "short", locale=locale) if text.endswith(unit) else text

    return phrase


_PHRASES: dict[str, Callable[[Random], _Phrase]] = {
    "dates": _date,
    "times": _time,
    "durations": _duration,
    "currencies": _currency,
    "units": _unit,
}
