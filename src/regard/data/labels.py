"""Labels that may not be what they seem: spelled in two ways, or written for a missing value.

``1`` and ``1.0`` are one. A column of whole numbers is written with ``.0`` by programs that have
seen an empty cell in it, so one part of the data may have ``1`` and another ``1.0``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from regard.data.listing import list_first, pluralize
from regard.data.readers.number_columns import is_missing

_NUM_NAMED = 3
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


def describe_capitals(labels: Iterable[str]) -> list[str]:
    """Return a sentence about labels that differ in capitals alone; empty where there are none.

    >>> describe_capitals(["Good", "bad", "good", "BAD", "fair"])
    ['Labels that differ in capitals alone: BAD and bad, Good and good.  Each is one label.']
    """
    spellings = defaultdict(set)
    for label in set(labels):
        spellings[label.casefold()].add(label)
    groups = [" and ".join(sorted(names)) for names in spellings.values() if len(names) > 1]
    if not groups:
        return []
    named = list_first(sorted(groups), _NUM_NAMED)
    return [f"Labels that differ in capitals alone: {named}.  Each is one label."]
