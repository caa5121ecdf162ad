"""Language identification: by the script, and in Latin script by function words.

Counts of function words distinguish languages in a few sentences (G. Grefenstette, "Comparing two
language identification schemes", 1995).  A guess only labels a run; nothing is trained on it.
Cost: one pass over at most 2,000 sentences, about 50 ms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache
from itertools import islice
from pathlib import Path

from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import ConfigError

_MAX_SENTENCES = 2000
_MAX_CHARS = 1000  # of one sentence: a page of text in one row must not outweigh the others
_MIN_LETTER_FRACTION = 0.002  # rarer letters come from names and loanwords
_MIN_WORD_FRACTION = 0.1  # of all words; languages without a list here have fewer
_MIN_LEAD = 1.25  # over the second language; closer is undecided

# One match is one word, or about as much text as a word: a character of Han or kana, five of Thai.
_SCRIPTS = {
    "latin": re.compile(r"[A-Za-zªºÀ-ÖØ-öø-ɏ\u1e00-\u1eff]+"),
    "han": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"),
    "kana": re.compile(r"[\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]"),
    "hangul": re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+"),
    "cyrillic": re.compile(r"[\u0400-\u052f]+"),
    "greek": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]+"),
    "arabic": re.compile(r"[\u0620-\u065f\u066e-\u06d3\u06fa-\u06ff\u0750-\u077f]+"),
    "hebrew": re.compile(r"[\u0591-\u05f4]+"),
    "devanagari": re.compile(r"[\u0900-\u097f]+"),
    "thai": re.compile(r"[\u0e01-\u0e4e]{1,5}"),
    "other_unspaced": re.compile(r"[\u0e80-\u0edf\u0f00-\u0fff\u1000-\u109f\u1780-\u17d3]{1,5}"),
}
_UNSPACED_SCRIPTS = ("han", "kana", "thai", "other_unspaced")
_LANGUAGE_OF_SCRIPT = {
    "han": "zh",
    "hangul": "ko",
    "cyrillic": "ru",
    "greek": "el",
    "arabic": "ar",
    "hebrew": "he",
    "devanagari": "hi",
    "thai": "th",
}
# Letters that the script's other languages lack. The first language with enough of them is taken,
# so a language that shares a letter with another is before it.
_LETTERS = {
    "cyrillic": {"be": "ў", "ru": "ыэё", "uk": "іїєґ", "mk": "ѓќѕ", "sr": "јљњћђ", "bg": "ъ"},
    "arabic": {"ur": "ےٹڈڑ", "fa": "پچژگیک"},
}
_FUNCTION_WORDS = {
    "en": "the of and to is for that with this are from which be on by an you not can it a in",
    "de": "der die das und ist für mit von ein eine den dem nicht zu auf wird werden sie im oder",
    "fr": "le la les des et est pour une un du dans que ce qui avec sur pas vous au par ne de",
    "es": "el la los las y es para una un del con que en por se no su como más este de",
    "it": "il la di e che per un una del della con non sono è si da dei gli nel le questo",
    "pt": "o os a as de e é para um uma do da que com em não se ao dos das no por este",
    "nl": "de het een en van is voor met dat niet op te zijn deze aan wordt u ook naar er",
    "sv": "och att det som för är en ett med av på till den inte kan från efter också sig ska",
    "da": "og at det som for er en et med af på til den ikke kan fra efter også sig der",
    "no": "og at det som for er en et med av på til den ikke kan fra etter også seg må",
    "fi": "ja on ei se että tämä kun tai joka ovat voi oli jos mutta niin kuin sen ole myös",
    "pl": "i w na z do się nie jest to że dla jak oraz przez po od lub są ten tego o",
    "cs": "a v na se je to že z do pro jako nebo není jsou který být tento po od pouze při",
    "tr": "ve bir bu için ile olarak da de olan daha çok değil gibi en var veya her tüm ya",
    "ro": "și de la în a cu pe un o este care din pentru nu că să sau mai sunt ale",
    "hu": "a az és hogy nem egy is van ez meg vagy csak de ha mint már azt el kell volt",
}
_GUESSABLE = {*_FUNCTION_WORDS, *_LANGUAGE_OF_SCRIPT.values(), "ja", "uk"}
_NUM_LANGUAGES_WITH = Counter(" ".join(_FUNCTION_WORDS.values()).split())

_DELIMITED_CODES = re.compile(
    r"(?<![A-Za-z0-9])(?:([a-z]{2})[-_]([a-z]{2})|([A-Z]{2})[-_]([A-Z]{2}))(?![A-Za-z0-9])"
)
_PAIR = re.compile(r"[A-Za-z]{2,3}(?:_\w+)?-[A-Za-z]{2,3}(?:[-_]\w++)*+")
_JOINED_CODES = re.compile(r"(?<![A-Za-z0-9])([a-z]{2})([a-z]{2})(?![A-Za-z0-9])")


@cache
def english_names() -> dict[str, str]:
    """Return the English names of languages by their ISO 639-1 codes, from CLDR."""
    return language_names("en")


def language_names(language: str) -> dict[str, str]:
    """Return the names of languages in a language, by their ISO 639-1 codes, from CLDR."""
    from babel import Locale

    return {code: name for code, name in Locale(language).languages.items() if len(code) == 2}


def is_language_code(text: str) -> bool:
    """Return whether a text is an ISO 639-1 code, with or without a region.

    >>> is_language_code("de"), is_language_code("pt-BR"), is_language_code("deutsch")
    (True, True, False)
    """
    code, dash, region = text.strip().lower().replace("_", "-").partition("-")
    return code in english_names() and (not dash or (region.isalpha() and len(region) <= 4))


def require_pair(languages: str) -> None:
    """Raise ConfigError where languages are set, and are not two codes such as ``en-de``."""
    if not languages or _PAIR.fullmatch(languages):
        return
    names = {name.casefold(): code for code, name in english_names().items()}
    words = filter(None, re.split(r"[\W_]+", languages.casefold()))
    codes = [names.get(word, word) for word in words]
    is_meant = len(codes) == 2 and all(map(is_language_code, codes))
    hint = f"  Did you mean {'-'.join(codes)}?" if is_meant else ""
    raise ConfigError(
        f"data.languages={languages}: two codes of languages were expected, such as en-de.{hint}"
    )


def guess_language(texts: Sequence[str]) -> str | None:
    """Return the ISO 639-1 code of the language of most sentences, or None when undecided."""
    texts = _sample(texts)
    words = _count_words(texts)
    total = words.total()
    if words["kana"] and words["han"] + words["kana"] > total / 2:
        # Chinese has a few kana too, in trade names.
        return "ja" if words["kana"] > 0.05 * words["han"] else "zh"
    script, count = words.most_common(1)[0]
    if count <= total / 2:
        return None
    if script == "latin":
        return _guess_by_function_words(texts)
    return _guess_by_letters(texts, script)


def _guess_by_letters(texts: Iterable[str], script: str) -> str | None:
    """Return the language of a script by the letters that only it has, else the usual one."""
    letters = Counter("".join(_SCRIPTS[script].findall("\n".join(texts).lower())))
    for language, own_letters in _LETTERS.get(script, {}).items():
        if sum(map(letters.__getitem__, own_letters)) > _MIN_LETTER_FRACTION * letters.total():
            return language
    return _LANGUAGE_OF_SCRIPT.get(script)


def guess_pair(pairs: ParallelCorpus, name: str) -> tuple[str | None, str | None]:
    """Guess source and target language, by the name of the file or its folder, else by the text.

    The text overrules a name only if it clearly contradicts it: in the opposite order, or in two
    other languages.

    Args:
        pairs: The sentences.
        name: Path of the file, such as ``news.en-de.tsv``, ``en_de/train.tsv`` or ``ende.csv``.

    Returns:
        ISO 639-1 codes of source and target, each None when undecided.
    """
    guessed = guess_language(pairs.sources), guess_language(pairs.targets)
    named = _codes_in_name(name)
    if named is None:
        return guessed
    is_sure = None not in guessed
    is_against_name = guessed == named[::-1] or not set(guessed) & set(named)
    return guessed if is_sure and is_against_name else named


def has_spaces_between_words(texts: Sequence[str]) -> bool:
    """Return whether words are separated by spaces, unlike in Chinese, Japanese or Thai."""
    words = _count_words(_sample(texts))
    return 2 * sum(words[script] for script in _UNSPACED_SCRIPTS) <= words.total()


def _sample(texts: Sequence[str]) -> list[str]:
    return [text[:_MAX_CHARS] for text in islice(texts, _MAX_SENTENCES)]


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Count words by script."""
    text = "\n".join(texts)
    return Counter({script: len(regex.findall(text)) for script, regex in _SCRIPTS.items()})


def _guess_by_function_words(texts: Iterable[str]) -> str | None:
    """Return the language of Latin script with the most function words, if it has a clear lead.

    To compare two languages, a word that k languages share counts 1 / k².
    """
    words = Counter(_SCRIPTS["latin"].findall("\n".join(texts).lower()))
    votes = Counter(
        {
            language: sum(words[word] / _NUM_LANGUAGES_WITH[word] ** 2 for word in listed.split())
            for language, listed in _FUNCTION_WORDS.items()
        }
    )
    (language, most), (_, second) = votes.most_common(2)
    num_function_words = sum(words[word] for word in _FUNCTION_WORDS[language].split())
    is_clear = num_function_words >= _MIN_WORD_FRACTION * words.total()
    return language if is_clear and most > _MIN_LEAD * second else None


def _codes_in_name(name: str) -> tuple[str, str] | None:
    """Find two language codes in the name of a file, else in that of its folder."""
    path = Path(name)
    for part in (path.name, path.absolute().parent.name):
        for source, target, codes in _pairs_of_codes(part):
            if {source, target} <= codes and source != target:
                return source, target
    return None


def _pairs_of_codes(name: str) -> Iterator[tuple[str, str, Set[str]]]:
    """Yield what may be two codes in a name, and the languages that they may be of."""
    for match in _DELIMITED_CODES.finditer(name):
        source, target = (code.lower() for code in match.groups() if code)
        yield source, target, english_names().keys()
    # Only languages that are guessed here: "data" is not Danish and Tamil.
    yield from ((source, target, _GUESSABLE) for source, target in _JOINED_CODES.findall(name))
