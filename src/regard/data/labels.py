"""Labels that may not be what they seem: spelled in two ways, or written for a missing value.

``1`` and ``1.0`` are one. A column of whole numbers is written with ``.0`` by programs that have
seen an empty cell in it, so one part of the data may have ``1`` and another ``1.0``.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from itertools import chain

from regard.data.listing import list_first, pluralize
from regard.data.readers.number_columns import is_missing
from regard.data.readers.series import is_date

_NUM_NAMED = 3
_FEW_LABELS = 12  # dates or numbers with a fraction, from which they are hardly classes
SEPARATORS = ("|", ";", ",", "/", "+")
"""Between labels that may be several in one cell."""
_WHOLE = re.compile(r"(-?\d+)\.0+")


def distinct_labels(labels: Iterable[str]) -> set[str]:
    """Return the labels without those that another one spells more shortly.

    >>> sorted(distinct_labels(["1", "1.0", "2.0", "a"]))
    ['1', '2.0', 'a']
    """
    names = set(labels)
    return {name for name in names if not ((match := _WHOLE.fullmatch(name)) and match[1] in names)}


def spell_labels(labels: Iterable[str], names: Collection[str]) -> list[str]:
    """Return labels in the spelling of some names; other labels are unchanged.

    >>> spell_labels(["1", "1.0", "2", "b"], ["1", "2.0"])
    ['1', '1', '2.0', 'b']
    """
    spelling = {}
    for name in names:
        match = _WHOLE.fullmatch(name)
        spelling[match[1] if match else f"{name}.0"] = name
    return [label if label in names else spelling.get(label, label) for label in labels]


def describe_spellings(labels: Iterable[str]) -> list[str]:
    """Return a sentence about labels that are spelled in two ways; empty where there are none."""
    names = set(labels)
    doubles = sorted(names - distinct_labels(names))
    if not doubles:
        return []
    pairs = ", ".join(f"{spell_labels([name], names - {name})[0]} and {name}" for name in doubles)
    return [f"Labels that are the same number are one: {pairs}."]


def describe_missing_values(labels: Iterable[str]) -> list[str]:
    """Return a sentence about each label that tables have for a missing value.

    >>> describe_missing_values(["good", "NaN", "bad", "NaN"])
    ['"NaN" is a label, of 2 rows.  If it means that there is none, leave those rows out.']
    """
    counts = Counter(filter(is_missing, labels))
    return [
        f'"{label}" is a label, of {pluralize(count, "row")}.  If it means that there is none, '
        "leave those rows out."
        for label, count in counts.items()
    ]


def describe_joined(labels: Iterable[str]) -> list[str]:
    """Return a sentence about labels that look like several in one cell; empty without any.

    They are names between one separator, each of which is a label of its own elsewhere, or part of
    another such label.

    >>> describe_joined(["toxic", "insult", "toxic|insult"])
    ["1 row has several labels in one cell, which are read as one: 'toxic|insult'.  To give a text \
any number of labels: `data.label_separator='|'`"]
    >>> describe_joined(["Smith, John", "news, sports"])
    []
    """
    counts = Counter(labels)
    for separator in SEPARATORS:
        parts = {
            label: names
            for label in counts
            if separator in label and all(names := list(map(str.strip, label.split(separator))))
        }
        uses = Counter(chain.from_iterable(set(names) for names in parts.values()))
        uses.update(counts.keys() - parts.keys())
        joined = [label for label, names in parts.items() if all(uses[name] > 1 for name in names)]
        if joined:
            num_rows = sum(counts[label] for label in joined)
            have = pluralize(num_rows, "row has", "rows have")
            are_read = "which are read as one" if num_rows == 1 else "each read as one label"
            return [
                f"{have} several labels in one cell, {are_read}: "
                f"{list_first([repr(label) for label in sorted(joined)], _NUM_NAMED)}.  To give a "
                f"text any number of labels: `data.label_separator={shlex.quote(separator)}`"
            ]
    return []


def describe_alike(labels: Iterable[str]) -> list[str]:
    """Return a sentence about labels that look the same, or differ in capitals alone.

    Those that look the same differ in invisible characters, spaces, the encoding of accents, or
    zeros before a number.

    >>> describe_alike(["Good", "bad", "good", "BAD", "fair"])
    ['Labels that differ in capitals alone: BAD and bad, Good and good.  Each is one label.']
    >>> describe_alike(["a", "a\\u200b", "01", "1"])
    ["Labels that look the same: '01' and '1', 'a' and 'a\\\\u200b'.  Each is one label."]
    """
    names = set(labels)
    same = _group_by(names, _look_of)
    capitals = _group_by(names, str.casefold)
    sentences = []
    for what, groups, write in (
        ("look the same", same, ascii),
        ("differ in capitals alone", capitals, str),
    ):
        if groups:
            named = list_first([" and ".join(map(write, group)) for group in groups], _NUM_NAMED)
            sentences.append(f"Labels that {what}: {named}.  Each is one label.")
    return sentences


def _group_by(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups of names that have one key, each and all in alphabetical order."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[key(name)].append(name)
    return sorted(group for group in groups.values() if len(group) > 1)


def _look_of(label: str) -> str:
    """Return what a reader sees of a label, without zeros before a whole number."""
    text = unicodedata.normalize("NFC", label)
    text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    text = " ".join(text.split())
    return re.sub(r"^(-?)0+(?=\d+$)", r"\1", text)


def describe_scale(labels: Iterable[str]) -> list[str]:
    """Return a sentence about labels that are many different numbers, or dates.

    >>> describe_scale(["1", "2"] * 9), describe_scale(f"0.{n}" for n in range(10, 40))
    ([], ['The labels are 30 different numbers, and a classifier knows no order of them.  Write a \
few classes, such as low and high.'])
    """
    names = set(labels)
    if len(names) < _FEW_LABELS:
        return []
    if all(map(is_date, names)):
        return [f"The labels are {len(names):,} different dates.  Wrong column?"]
    if all(map(_is_number, names)) and not all(map(str.isdecimal, names)):
        return [
            f"The labels are {len(names):,} different numbers, and a classifier knows no order of "
            "them.  Write a few classes, such as low and high."
        ]
    return []


def _is_number(label: str) -> bool:
    return re.fullmatch(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", label, re.IGNORECASE) is not None
