"""The languages of a translator, and the tags that say which it is to write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from regard.errors import ConfigError, shorten

if TYPE_CHECKING:
    from regard.hub.hugging_face.language_tokens import LanguageTokens
    from regard.tasks.translation.predictor import Translator

_NOT_OF_A_CODE = re.compile(r"[^a-z0-9-]")  # the marks around a tag such as <de> or >>de<<
_TAG = re.compile(r"\s*<([^<>\s]+)> ?")
_SCRIPT, _REGION = re.compile("[A-Z][a-z]{3}"), re.compile("[A-Z]{2}|[0-9]{3}")
_LONGEST_CODE, _PAIR = 3, 2


class Languages(NamedTuple):
    """The languages of a translator.

    Args:
        source: Code of the language that is read.
        tags: What a text begins with, by the code of the language that is written; empty where
            there is one alone.
        sources: Codes of all languages that are read, where there are several; a tag has both, as
            in ``<en-de>``.
    """

    source: str
    tags: dict[str, str]
    sources: tuple[str, ...] = ()


def languages_of(translator: Translator, languages: str = "") -> Languages | None:
    """Return the languages of a translator; None where they are not known.

    Args:
        translator: The model.
        languages: Codes such as ``en-de``, or ``en-de,fr`` where a tag says which is written; empty
            takes those of the training.

    Raises:
        ConfigError: A language is not among those of a model of many.
    """
    many = translator.tokenizer.languages
    if many is not None and many.target is None:
        return _many_languages(many, languages)
    source, _, targets = (languages or translator.config.data.languages).partition("-")
    if not targets:
        return None
    tags = tags_of(translator)
    return Languages(source, {code: tags.get(code.lower(), "") for code in targets.split(",")})


def _many_languages(many: LanguageTokens, languages: str) -> Languages:
    """Return the languages of a model of many by their short codes, or those that are named."""
    from regard.data.language_codes import short_codes  # of few models

    short = short_codes(many.codes)
    source, targets = short[str(many.source)], list(short.values())
    sources = tuple(targets)
    if languages:
        pair, *more_targets = languages.split(",")
        direction = find_direction(many, pair)
        if direction.source is not None:
            source = short[direction.source]
            sources = (source,)
        targets = [short[code] for code in (direction.target, *map(many.find, more_targets))]
    return Languages(source, {code: f"<{source}-{code}>" for code in targets}, sources)


def tags_of(translator: Translator) -> dict[str, str]:
    """Return the tags of a translator by the code that is in each, such as ``de`` for ``<de>``."""
    tags = translator.language_tags
    return {_NOT_OF_A_CODE.sub("", tag.lower().replace("_", "-")): tag for tag in tags}


def base_code(code: str) -> str:
    """Return the code of a language without its region, in small letters.

    >>> base_code("de_AT"), base_code("zh-Hant")
    ('de', 'zh')
    """
    return code.replace("_", "-").partition("-")[0].lower()


class Direction(NamedTuple):
    """The languages that one text is translated between.

    Args:
        source: Code of the language that is read; None where it is not named.
        target: Code of the language that is written.
    """

    source: str | None
    target: str


def split_pair(lang: str) -> list[str]:
    """Return the languages of a pair such as ``en-de``, or the one that is named alone.

    A region in capitals, and a script, belong to the language before them.

    >>> split_pair("en-de"), split_pair("zh-Hant-pt-BR"), split_pair("French")
    (['en', 'de'], ['zh-Hant', 'pt-BR'], ['French'])
    """
    languages: list[str] = []
    for part in lang.split("-"):
        if languages and _is_suffix(languages[-1], part):
            languages[-1] += f"-{part}"
        else:
            languages.append(part)
    return languages


def _is_suffix(language: str, part: str) -> bool:
    """Return whether a part of a code is the script or the region of the language before it."""
    is_script = bool(_SCRIPT.fullmatch(part)) and len(language) <= _LONGEST_CODE
    return is_script or (bool(_REGION.fullmatch(part)) and not language.isupper())


def means_pair(lang: str, source: str, target: str) -> bool:
    """Return whether two languages, or the target alone, are meant by codes or names.

    >>> means_pair("English-German", "en", "de"), means_pair("fr", "en", "de")
    (True, False)
    """
    names = split_pair(lang)
    codes = [source, target][-len(names) :]
    return len(names) <= _PAIR and all(map(_is_meant, names, codes))


def _is_meant(name: str, code: str) -> bool:
    from regard.data.language_codes import find_language  # of few commands

    try:
        return find_language(name, [code]) == code
    except ConfigError:
        return False


def find_direction(languages: LanguageTokens, lang: str) -> Direction:
    """Return the languages that are named as ``en-de``, or as ``de`` alone.

    Args:
        languages: Those of the model.
        lang: Codes or names.

    Raises:
        ConfigError: One of them is not among those of the model.
    """
    names = split_pair(lang)
    if len(names) > _PAIR or not all(names):
        raise ConfigError(f"`lang={lang}`: two languages were expected, such as en-de, or one.")
    *source, target = names
    return Direction(languages.find(source[0]) if source else None, languages.find(target))


def direct_text(languages: LanguageTokens, text: str) -> tuple[Direction, str]:
    """Return the languages that the tag of a text names, ``<de>`` or ``<en-de>``, and the rest.

    Raises:
        ConfigError: The text has no tag, or one of other languages.
    """
    match = _TAG.match(text)
    if match is None:
        raise ConfigError(
            f"{shorten(text)}: the language to be written is not named.  Begin the text with its "
            "tag, such as <fr> or <de-fr>, or name it for all: `lang=en-fr`.  The languages of "
            f"this model: {', '.join(languages.codes)}."
        )
    try:
        return find_direction(languages, match[1]), text[match.end() :]
    except ConfigError as error:
        raise ConfigError(
            f"{match[0].strip()} at the beginning of a text: {error}  To translate text that "
            "begins so, name the languages of all: `lang=en-fr`."
        ) from error
