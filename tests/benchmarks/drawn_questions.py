"""Questions drawn by rules: a fact somewhere in a text of other facts and filler sentences.

They stand in for real data with long texts and with questions without an answer: "The code of NAME
is NUMBER." with drawn names, so that no name of a test is in the training data.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

_SYLLABLES = ["ka", "lo", "mi", "ren", "tas", "ul", "vo", "shi", "bar", "den", "fi", "gor", "hel"]
_PLACES = ["mill", "harbour", "bridge", "market", "station", "library", "garden", "tower"]
_ADJECTIVES = ["old", "new", "quiet", "large", "northern", "red", "wooden", "empty"]
_EVENTS = ["was closed in winter", "opens at noon", "had many visitors", "was painted again"]
_FACTS = ["The code of {} is {}.", "{} has the code {}.", "We gave the code {1} to {0}."]


def draw_name(rng: random.Random) -> str:
    """Draw a name of two or three syllables and a second one."""
    words = ("".join(rng.choices(_SYLLABLES, k=rng.choice([2, 3]))) for _ in range(2))
    return " ".join(word.capitalize() for word in words)


def draw_filler(rng: random.Random) -> str:
    """Draw a sentence without a fact."""
    year = rng.randint(1800, 2020)
    place = f"{rng.choice(_ADJECTIVES)} {rng.choice(_PLACES)}"
    return f"In {year} the {place} {rng.choice(_EVENTS)}."


def draw_question(
    rng: random.Random, *, num_words: int, num_facts: int = 4, unanswerable: float = 0.0
) -> dict[str, Any]:
    """Draw a row with context, question and answers.

    Args:
        rng: Of the draw.
        num_words: Words of the text, about.
        num_facts: Facts in it.
        unanswerable: Fraction of questions about a name that is not in the text, 0 to 1.
    """
    names = [draw_name(rng) for _ in range(num_facts + 1)]
    codes = [str(rng.randint(1000, 99999)) for _ in names]
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < num_words - 7 * num_facts:
        sentences.append(draw_filler(rng))
    for name, code in zip(names[:-1], codes, strict=False):
        fact = rng.choice(_FACTS).format(name, code)
        sentences.insert(rng.randint(0, len(sentences)), fact)
    is_answerable = rng.random() >= unanswerable
    chosen = rng.randrange(num_facts) if is_answerable else num_facts
    context, code = " ".join(sentences), codes[chosen]
    answers = {"text": [code], "answer_start": [context.index(code)]} if is_answerable else None
    return {
        "context": context,
        "question": f"What is the code of {names[chosen]}?",
        "answers": answers or {"text": [], "answer_start": []},
    }


def write_questions(path: Path, count: int, seed: int, **rules: Any) -> Path:
    """Write drawn questions as JSONL."""
    rng = random.Random(seed)
    rows = (json.dumps(draw_question(rng, **rules)) + "\n" for _ in range(count))
    path.write_text("".join(rows), encoding="utf-8")
    return path
