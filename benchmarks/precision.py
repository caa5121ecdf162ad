"""Validation loss in bfloat16 and float32: same data, same seeds, same number of steps.

    python benchmarks/precision.py [pairs.tsv] [--epochs 1] [--seeds 1,2]

Weights and optimizer state are float32 in both; only activations and products differ. The
difference between precisions is to be held against the difference between seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from regard.runs.run import train
from regard.training.events import Evaluated, Event


def last_evaluation(data: str | None, settings: list[str]) -> Evaluated:
    """Train once and return the last evaluation."""
    seen: list[Evaluated] = []

    def note(event: Event) -> None:
        if isinstance(event, Evaluated):
            seen.append(event)

    with tempfile.TemporaryDirectory() as folder:
        train(data, Path(folder) / "model", settings=settings, report=note)
    return seen[-1]


def main() -> None:
    """Run both precisions with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "pairs", nargs="?", help="TSV of sentence pairs; the embedded corpus if none"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--preset", default="tiny")
    arguments = parser.parse_args()
    print(
        f"{'precision':10s} {'seed':>4s} {'valid loss':>11s} {'chrF':>6s} {'target tokens/s':>16s}"
    )
    for seed in arguments.seeds.split(","):
        for precision in ("float32", "bf16"):
            settings = [
                f"preset={arguments.preset}",
                f"training.epochs={arguments.epochs}",
                f"training.precision={precision}",
                f"training.seed={seed}",
            ]
            evaluation = last_evaluation(arguments.pairs, settings)
            print(
                f"{precision:10s} {seed:>4s} {evaluation.measures['loss']:11.4f} "
                f"{evaluation.measures['chrf']:6.1f} {evaluation.tokens_per_second:16,.0f}"
            )


if __name__ == "__main__":
    main()
