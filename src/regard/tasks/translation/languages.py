"""The languages of a translator, and the tags that say which it is to write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from regard.tasks.translation.predictor import Translator

_NOT_OF_A_CODE = re.compile(r"[^a-z0-9-]")  # the marks around a tag such as <de> or >>de<<


class Languages(NamedTuple):
    """The languages of a translator.

    Args:
        source: Code of the language that is read.
        tags: What a text begins with, by the code of the language that is written; empty where
            there is one alone.
    """

    source: str
    tags: dict[str, str]


def languages_of(translator: Translator, languages: str = "") -> Languages | None:
    """Return the languages of a translator; None where they are not known.

    Args:
        translator: The model.
        languages: Codes such as ``en-de``, or ``en-de,fr`` where a tag says which is written; empty
            takes those of the training.
    """
    source, _, targets = (languages or translator.config.data.languages).partition("-")
    if not targets:
        return None
    tags = tags_of(translator)
    return Languages(source, {code: tags.get(code.lower(), "") for code in targets.split(",")})


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
