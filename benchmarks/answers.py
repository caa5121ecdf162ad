"""Questions drawn by rules: found in long texts, and refused where there is no answer.

    python benchmarks/answers.py [--minutes 8] [--words 2200] [--preset tiny]

They replace real data with long texts and with questions without an answer: "The code of NAME
is NUMBER." at a drawn position among filler sentences and other facts, with drawn names, so that
hardly a name of a test is in the training data. Figures: the percentage found in texts of about
3,000 tokens (2,200 words), and the F1 of "no answer" where half of the questions have none; and the
exact match of answers that are written (`qa.kind=generative`) to questions of three templates. Each
is next to the best floor, and needs a run of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import regard

_SYLLABLES = ["ka", "lo", "mi", "ren", "tas", "ul", "vo", "shi", "bar", "den", "fi", "gor", "hel"]
_PLACES = ["mill", "harbour", "bridge", "market", "station", "library", "garden", "tower"]
_ADJECTIVES = ["old", "new", "quiet", "large", "northern", "red", "wooden", "empty"]
_EVENTS = ["was closed in winter", "opens at noon", "had many visitors", "was painted again"]
_FACTS = ["The code of {} is {}.", "{} has the code {}.", "We gave the code {1} to {0}."]
_NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Greta",
    "Hans",
    "Ida",
    "Jonas",
    "Karla",
    "Leo",
    "Mia",
    "Nora",
    "Oscar",
    "Paul",
    "Rosa",
    "Simon",
    "Tina",
    "Victor",
]
_TOWNS = [
    "Oslo",
    "Rome",
    "Lima",
    "Cairo",
    "Delhi",
    "Paris",
    "Berlin",
    "Madrid",
    "Athens",
    "Dublin",
    "Prague",
    "Vienna",
    "Lisbon",
    "Warsaw",
    "Tokyo",
    "Quito",
]
_JOBS = [
    "baker",
    "doctor",
    "farmer",
    "judge",
    "painter",
    "pilot",
    "singer",
    "tailor",
    "teacher",
    "writer",
]
_FILLERS = [
    "It rains today.",
    "The market is closed.",
    "Nobody knows why.",
    "The trains are late.",
    "The day is long.",
]
_TEMPLATES = [  # sentence, question, answer
    ("{} lives in {}.", "Where does {} live?", "{}"),
    ("{} works as a {}.", "What is the job of {}?", "a {}"),
    ("{} is {} years old.", "How old is {}?", "{} years"),
]
SHORT: dict[str, Any] = {"num_words": 150}
"""Rules of the questions without an answer, but for their fraction."""


def draw_name(rng: random.Random) -> str:
    """Draw a first and a second name of two or three syllables."""
    words = ("".join(rng.choices(_SYLLABLES, k=rng.choice([2, 3]))) for _ in range(2))
    return " ".join(word.capitalize() for word in words)


def draw_filler(rng: random.Random) -> str:
    """Draw a sentence without a fact."""
    year = rng.randint(1800, 2020)
    location = f"{rng.choice(_ADJECTIVES)} {rng.choice(_PLACES)}"
    return f"In {year} the {location} {rng.choice(_EVENTS)}."


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
    sentences, num_left = [], num_words - 7 * num_facts
    while num_left > 0:
        sentences.append(draw_filler(rng))
        num_left -= len(sentences[-1].split())
    for name, code in zip(names[:-1], codes, strict=False):
        fact = rng.choice(_FACTS).format(name, code)
        sentences.insert(rng.randint(0, len(sentences)), fact)
    is_answerable = rng.random() >= unanswerable
    asked = rng.randrange(num_facts) if is_answerable else num_facts
    row = {"context": " ".join(sentences), "question": f"What is the code of {names[asked]}?"}
    return row | {"answers": [codes[asked]] if is_answerable else []}


def draw_template(
    rng: random.Random, *, num_facts: int = 3, unanswerable: float = 0.2
) -> dict[str, Any]:
    """Draw a row with a question on one of a few short sentences, for models that write answers.

    Args:
        rng: Of the draw.
        num_facts: Sentences with a fact, each on another name.
        unanswerable: Fraction of questions about a name that is not in the text, 0 to 1.
    """
    *names, other = rng.sample(_NAMES, num_facts + 1)
    sentences, questions = [rng.choice(_FILLERS)], []
    for name in names:
        kind = rng.randrange(len(_TEMPLATES))
        value = (rng.choice(_TOWNS), rng.choice(_JOBS), str(rng.randint(20, 89)))[kind]
        sentence, question, answer = _TEMPLATES[kind]
        sentences.append(sentence.format(name, value))
        questions.append((question, name, answer.format(value)))
    rng.shuffle(sentences)
    question, name, answer = rng.choice(questions)
    row: dict[str, Any] = {"context": " ".join(sentences)}
    if rng.random() < unanswerable:
        return row | {"question": question.format(other), "answers": []}
    return row | {"question": question.format(name), "answers": [answer]}


def write_questions(
    path: Path,
    count: int,
    seed: int,
    *,
    draw: Callable[..., dict[str, Any]] = draw_question,
    **rules: Any,
) -> Path:
    """Write drawn questions as JSONL."""
    rng = random.Random(seed)
    rows = (json.dumps(draw(rng, **rules)) + "\n" for _ in range(count))
    path.write_text("".join(rows), encoding="utf-8")
    return path


def measure(folder: Path, name: str, count: int, options: dict[str, Any], **rules: Any) -> Any:
    """Train on drawn questions, and evaluate on others."""
    parts = {"train": count, "valid": count // 10, "test": 300}
    paths = {
        part: write_questions(folder / f"{name}-{part}.jsonl", size, seed, **rules)
        for seed, (part, size) in enumerate(parts.items())
    }
    regard.train(paths["train"], folder / name, valid=str(paths["valid"]), **options)
    return regard.evaluate(folder / name, paths["test"], drop_overlap=True)


def main() -> None:
    """Measure all three, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--words", type=int, default=2200)
    parser.add_argument("--preset", default="auto")
    arguments = parser.parse_args()
    options = {"minutes": arguments.minutes, "preset": arguments.preset}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = measure(folder, "long", 600, options, num_words=arguments.words, num_facts=8)
        exact = report.scores.exact_match
        print(
            f"found in texts of {arguments.words:,} words: {exact.value:.1f} % [{exact.low:.1f}, "
            f"{exact.high:.1f}]   floor F1 {report.floor_f1['overlap_sentence_f1']:.1f}"
        )
        report = measure(folder, "short", 2000, options, unanswerable=0.5, **SHORT)
        scores = report.scores
        print(
            f"no answer, half of the questions: F1 {scores.no_answer_f1:.1f}   all: exact match "
            f"{scores.exact_match.value:.1f}, floor F1 {max(report.floor_f1.values()):.1f}"
        )
        options["settings"] = ["qa.kind=generative", "data.drop_overlap=true"]
        report = measure(folder, "written", 3000, options, draw=draw_template)
        scores = report.scores
        print(
            f"written, templates: exact match {scores.exact_match.value:.1f} %   no answer: F1 "
            f"{scores.no_answer_f1:.1f}   floor F1 {max(report.floor_f1.values()):.1f}"
        )


if __name__ == "__main__":
    main()
