"""Languages by their codes and names, found among the codes that a vocabulary has.

A model of many languages has codes of its own: ``fr`` (M2M100), ``fr_XX`` (mBART-50) or
``fra_Latn`` (NLLB). A person says ``fr``, ``fra``, ``fr-CA`` or ``French``. What codes mean, and
the usual script of each language, is known from CLDR (Unicode), by `babel`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from regard.data.listing import list_first
from regard.errors import ConfigError, did_you_mean

_SCRIPT, _REGION = re.compile("[A-Za-z]{4}"), re.compile("[A-Za-z]{2}|[0-9]{3}")
_NO_REGION = "XX"  # mBART's, of languages of several regions
_MOST_NAMED = 12  # codes in a message about a wrong one
# Languages that CLDR does not name by the code of the group that they belong to there.
_STANDS_FOR = {"fuv": "ff", "no": "nb", "pbt": "ps", "quy": "qu"}
_NOT_ISO = {"ns": "nso"}  # of M2M100


class LanguageTag(NamedTuple):
    """A language, its script and its region; None where the code does not say it."""

    language: str
    script: str | None = None
    region: str | None = None


@cache
def parse_tag(code: str) -> LanguageTag | None:
    """Return what a code means, with the shortest code of the language; None where it is not one.

    >>> parse_tag("fra_Latn")
    LanguageTag(language='fr', script='Latn', region=None)
    """
    from babel.core import get_global

    language, *rest = code.replace("-", "_").split("_")
    language = _NOT_ISO.get(language.lower(), language.lower())
    if not re.fullmatch("[a-z]{2,3}", language):
        return None
    canonical, *implied = (get_global("language_aliases").get(language) or language).split("_")
    canonical = _STANDS_FOR.get(canonical, canonical)
    script = region = None
    for part in (*implied, *rest):
        if _SCRIPT.fullmatch(part):
            script = part.title()
        elif _REGION.fullmatch(part):
            region = part.upper()
        else:
            return None
    return LanguageTag(canonical, script, None if region == _NO_REGION else region)


@cache
def script_of(tag: LanguageTag) -> str | None:
    """Return the script of a language, by CLDR where the tag does not say it; None if unknown."""
    from babel.core import get_global

    if tag.script is not None:
        return tag.script
    likely = get_global("likely_subtags")
    whole = likely.get(f"{tag.language}_{tag.region}") or likely.get(tag.language, "")
    return next(filter(_SCRIPT.fullmatch, whole.split("_")[1:]), None)


def find_language(name: str, codes: Sequence[str]) -> str:
    """Return the code of a language among those of a model.

    Args:
        name: A code such as ``fr``, ``fra``, ``zh-TW`` or ``fra_Latn``, or an English name. A
            region that no code has is left out where it is written in the same script.
        codes: Those of the model.

    Raises:
        ConfigError: None of them is meant, or several are; the message says which are similar.

    >>> find_language("fr", ["deu_Latn", "fra_Latn"]), find_language("German", ["de_DE", "fr_XX"])
    ('fra_Latn', 'de_DE')
    """
    matches = _matches(name, codes) or _with_name(name, codes)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"{name}: this model has {', '.join(matches)}.  Name one of them.")
    tag, first = parse_tag(name), list_first(codes, _MOST_NAMED)
    if tag is not None and (variants := _matches(tag.language, codes)):
        raise ConfigError(f"{name}: this model has {', '.join(variants)}.  Name one of them.")
    spellings = {code.casefold(): code for code in codes}
    for proposals in (short_codes(codes), names_of(codes)):
        spellings |= {spelling.casefold(): code for code, spelling in proposals.items()}
    hint = did_you_mean(name.casefold(), spellings)
    raise ConfigError(f"{name}: not among the languages of this model: {first}.{hint}")


def short_codes(codes: Sequence[str]) -> dict[str, str]:
    """Return the shortest code that means each of a model's codes there, such as ``fr``.

    >>> short_codes(["fra_Latn", "zho_Hans", "zho_Hant"])
    {'fra_Latn': 'fr', 'zho_Hans': 'zh-Hans', 'zho_Hant': 'zh-Hant'}
    """
    short = {}
    for code in codes:
        tag = parse_tag(code)
        proposals = [] if tag is None else [tag.language, f"{tag.language}-{tag.script}"]
        short[code] = next((name for name in proposals if _matches(name, codes) == [code]), code)
    return short


def names_of(codes: Iterable[str]) -> dict[str, str]:
    """Return the English names of languages by codes, from CLDR; those that have none are left out.

    A language that is written in two scripts has the script in its name.
    """
    from babel import Locale

    english = Locale("en")
    tags = {code: tag for code in codes if (tag := parse_tag(code)) is not None}
    # A region may have a name of its own, such as that of Dari, the Persian of Afghanistan.
    languages = {
        code: english.languages.get(f"{tag.language}_{tag.region}")
        or english.languages.get(tag.language, "")
        for code, tag in tags.items()
    }
    counts, names = Counter(languages.values()), {}
    for code, name in languages.items():
        if name:
            script = tags[code].script
            names[code] = name
            if counts[name] > 1 and script is not None:
                names[code] = f"{name} ({english.scripts.get(script, script)})"
    return names


def _with_name(name: str, codes: Sequence[str]) -> list[str]:
    """Return the codes that have a name of `names_of`, such as ``Chinese (Traditional)``."""
    written = " ".join(name.casefold().split())
    return [code for code, other in names_of(codes).items() if other.casefold() == written]


def _matches(name: str, codes: Sequence[str]) -> list[str]:
    """Return the codes that a code or a name may mean: one where it is clear."""
    written = name.replace("-", "_").casefold()
    if exact := [code for code in codes if code.replace("-", "_").casefold() == written]:
        return exact
    tag = _tag_of(name, codes)
    return [] if tag is None else _closest(tag, name, codes)


def _tag_of(name: str, codes: Sequence[str]) -> LanguageTag | None:
    """Return what a code means, or else a name: that of a language may look like a code."""
    tag = parse_tag(name)
    if tag is not None and tag.language in _languages(codes):
        return tag
    named = _code_of_name(name)
    return tag if named is None else parse_tag(named)


def _closest(tag: LanguageTag, name: str, codes: Sequence[str]) -> list[str]:
    """Return the codes of a language, by region and spelling where it has several."""
    script = script_of(tag) if tag.script or tag.region else None
    tags = {
        code: other
        for code in codes
        if (other := parse_tag(code)) is not None
        and other.language == tag.language
        and script in (None, script_of(other))
    }
    spelled = [code for code in tags if _language_part(code) == _language_part(name)]
    same_region = [code for code, other in tags.items() if other.region == tag.region]
    matches = list(tags)
    for closer in (spelled, same_region):
        if len(matches) > 1:
            matches = [code for code in matches if code in closer] or matches
    return matches


def _language_part(code: str) -> str:
    return code.replace("-", "_").partition("_")[0].lower()


def _languages(codes: Sequence[str]) -> set[str]:
    return {tag.language for code in codes if (tag := parse_tag(code)) is not None}


def _code_of_name(name: str) -> str | None:
    """Return the code of a language by its English name; None where there is none."""
    return _codes_of_names().get(" ".join(name.casefold().split()))


@cache
def _codes_of_names() -> dict[str, str]:
    from babel import Locale

    return {name.casefold(): code for code, name in Locale("en").languages.items()}
