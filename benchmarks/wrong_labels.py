"""Wrong labels found by the loss of their rows, by influence, and by products of gradients.

    python benchmarks/wrong_labels.py train.jsonl dev.jsonl [--minutes 1.5] [--fraction 0.1]

Rows are JSONL with ``text`` and ``label``. The labels of a fraction of the training rows are
replaced by others, a classifier is trained on all of them, and the rows are ranked: by their
training loss, highest first; by their influence on the log-probability of the validation labels
(`regard.explain.influence`), lowest first; and by the product of the two gradients (Pruthi et al.
2020, TracIn at the last weights). Figures: the area under the ROC curve (0.5 is chance), and the
part of wrong labels among the first rows, as many as there are wrong ones. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

import regard
from regard.explain.influence import TrainingObjective, influence_on, open_training
from regard.setup.training_setup import RunParts, TrainingSetup
from regard.tasks import task_of


def main() -> None:
    """Train on wrong labels, rank the rows, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--fraction", type=float, default=0.1)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.train.read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows})
    draw = random.Random(0)
    wrong = set(draw.sample(range(len(rows)), round(options.fraction * len(rows))))
    for index in wrong:
        others = [label for label in labels if label != rows[index]["label"]]
        rows[index] = {**rows[index], "label": draw.choice(others)}
    with TemporaryDirectory() as folder:
        noisy = Path(folder) / "noisy.jsonl"
        noisy.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = [f"data.valid={options.dev}", f"training.minutes={options.minutes}"]
        predictor = regard.train(noisy, Path(folder) / "model", settings=settings)
        setup = open_training(predictor)
        is_wrong = np.array([line - 1 in wrong for line in setup.dataset.train.lines])
        for name, scores in rankings(setup).items():
            first = np.argsort(-scores, kind="stable")[: int(is_wrong.sum())]
            area, found = roc_auc_score(is_wrong, scores), is_wrong[first].mean()
            print(
                f"{name:12s} AUROC {area:.3f}   {found:.0%} of the first {len(first):,} are wrong"
            )


def rankings(setup: TrainingSetup) -> dict[str, NDArray[np.float64]]:
    """Return how wrong each training row looks, by the method."""
    objective, loss = TrainingObjective(setup), setup.loss()
    valid = msgspec.structs.replace(setup.dataset, train=setup.dataset.valid)
    parts = RunParts(
        config=setup.config, dataset=valid, tokenizer=setup.tokenizer, model=setup.model
    )
    held_out = task_of(setup.config).set_up(parts, lambda _: None)

    def losses(of: TrainingSetup, rows: NDArray[np.int64]) -> Tensor:
        return loss.row_losses(setup.model, of.batches.batch(rows))[0]

    by_loss = np.zeros(objective.num_rows)
    with torch.no_grad():
        for rows in setup.batches.in_sequence():
            by_loss[rows] = losses(setup, rows).double().numpy()
    slope = sum(
        objective.gradient(lambda rows=rows: -losses(held_out, rows).sum())
        for rows in held_out.batches.in_sequence()
    )
    influence = influence_on(slope, objective)
    order = np.argsort(influence.batch_rows)
    products = objective.row_derivatives(slope, lambda _: None)
    return {
        "loss": by_loss,
        "influence": -influence.values,
        "gradient": products.values[order],
    }


if __name__ == "__main__":
    main()
