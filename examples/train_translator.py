"""Train a translator in Python: pairs in memory -> a model folder -> translations and scores.

    python examples/train_translator.py

The pairs are English and German phrases such as "3 red houses", made from a few words, so that some
seconds of training are enough. With your own pairs, pass the
name of a file and a budget: `regard.train("pairs.tsv", "ende", minutes=15)`.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import regard

NOUNS = {"houses": "Häuser", "trees": "Bäume", "rivers": "Flüsse", "letters": "Briefe"}
ADJECTIVES = {"red": "rote", "old": "alte", "small": "kleine", "new": "neue"}
SETTINGS = (  # a model of some seconds; leave them out for real text
    "model.num_encoder_layers=1",
    "model.num_decoder_layers=1",
    "model.dim=64",
    "model.hidden_dim=128",
    "tokenizer.vocab_size=300",
    "training.batch_tokens=256",
    "training.epochs=8",
)


def phrases() -> list[tuple[str, str]]:
    """Return phrase pairs in random order."""
    pairs = [
        (f"{number} {adjective} {noun}", f"{number} {ADJECTIVES[adjective]} {NOUNS[noun]}")
        for number, adjective, noun in itertools.product(range(2, 40), ADJECTIVES, NOUNS)
    ]
    random.Random(1).shuffle(pairs)
    return pairs


def main(folder: Path) -> float:
    """Train and test a translator; return the chrF on the test pairs, 0 to 100."""
    pairs = phrases()
    test_file = folder / "test.tsv"
    test_file.write_text(
        "".join(f"{source}\t{target}\n" for source, target in pairs[:50]), encoding="utf-8"
    )
    translator = regard.train(
        pairs[50:], folder / "model", preset="tiny", settings=SETTINGS, report=None
    )
    for source, target in pairs[:3]:
        print(f"{source}  ->  {translator.translate(source)}   (reference: {target})")

    report = regard.evaluate(folder / "model", test_file)
    chrf = report.scores.chrf
    print(f"chrF {chrf.value:.1f} [{chrf.low:.1f}, {chrf.high:.1f}] on {report.num_pairs} pairs")
    print(f"copying the source: {report.copy_chrf:.1f}")
    return chrf.value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary_folder:
        main(Path(temporary_folder))
