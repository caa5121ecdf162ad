"""Words counted by TF-IDF with logistic regression: the baseline of a text classifier.

    python benchmarks/tfidf.py train.jsonl dev.jsonl test.jsonl

Rows are JSONL with ``text`` and ``label``. The penalty, and whether pairs of words count too, are
chosen by the accuracy on the validation rows. Figure: accuracy on the test rows, with Wilson's 95 %
interval. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from regard.metrics.classification import wilson_interval

INVERSE_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
LONGEST_NGRAMS = (1, 2)  # words


def read_rows(path: Path) -> tuple[list[str], list[str]]:
    """Read texts and labels."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main() -> None:
    """Choose, and print the accuracy on the test rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("train", "dev", "test"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    train, dev, test = map(read_rows, (arguments.train, arguments.dev, arguments.test))

    fitted = []
    for longest, penalty in itertools.product(LONGEST_NGRAMS, INVERSE_PENALTIES):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, longest)),
            LogisticRegression(C=penalty, max_iter=1000),
        ).fit(*train)
        accuracy = 100 * model.score(*dev)
        print(f"n-grams to {longest}, C {penalty:>4}: {accuracy:.1f} % of the validation rows")
        fitted.append((accuracy, model))
    best = max(fitted, key=lambda entry: entry[0])[1]
    accuracy = 100 * best.score(*test)
    low, high = wilson_interval(accuracy, len(test[0]))
    print(f"{accuracy:.1f} % [{low:.1f}, {high:.1f}] of {len(test[0]):,} test rows")


if __name__ == "__main__":
    main()
