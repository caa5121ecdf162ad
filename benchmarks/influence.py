"""Influence of training rows, next to simpler rankings: what training without the first rows loses.

    python benchmarks/influence.py MODEL_FOLDER TEST_FILE [--texts 5] [--left-out 0.01]
        [--damping 0.004,0.04] [--json]

For some inputs of the test file, the training rows are ranked by what the model's output owes to
them; the model is trained again without the first ones, and the log-probability of the same output
is computed. The more it falls, the better the ranking (brittleness: Ilyas et al. 2022,
"Datamodels", section 4). Rankings:

    influence      inverse curvature by conjugate gradient (`regard.explain.influence`)
    gradient       the product of gradients: TracIn (Pruthi et al. 2020) at the last weights
    nearest        TF-IDF of words of the input; for classifiers, of rows with the same label
    random         as many rows, drawn at random

Figures: mean fall in nats with its standard error over the inputs, and the part of the inputs whose
output falls by more than by random rows. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import linear_kernel

import regard
from regard.explain.faithfulness import open_rows
from regard.explain.influence import (
    InfluenceOptions,
    Retrainer,
    RowInfluence,
    TrainingObjective,
    open_training,
    row_influence,
    score_with,
    training_length,
)
from regard.explain.prediction import ClassPrediction
from regard.hub.model_folder import ModelFolder


def main() -> None:
    """Rank, train again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--texts", type=int, default=5)
    parser.add_argument("--left-out", type=float, default=0.01)
    parser.add_argument("--damping", default="0.004")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    predictor = regard.load(options.model)
    objective = TrainingObjective(open_training(predictor))
    retrainer = Retrainer(objective.setup, training_length(ModelFolder(options.model)))
    nearest = nearest_rows(objective)
    complete = retrainer.train_without([])
    falls: dict[str, list[float]] = {}
    for number, open_row in enumerate(
        open_rows(predictor, options.data, num_rows=options.texts), start=1
    ):
        prediction = open_row()
        assert isinstance(prediction, ClassPrediction)
        by_damping = {
            f"influence, damping {damping}": row_influence(
                prediction, objective, InfluenceOptions(damping=float(damping))
            )
            for damping in options.damping.split(",")
        }
        first = next(iter(by_damping.values()))
        rankings = {name: influence.values for name, influence in by_damping.items()}
        rankings |= {
            "gradient": gradient_products(prediction, objective, first),
            "nearest": nearest(prediction),
            "random": np.random.default_rng(number).random(len(first.values)),
        }
        num_left_out = max(1, round(options.left_out * len(first.values)))
        before = score_with(prediction, complete)
        for name, values in rankings.items():
            rows = first.rows_of(np.argsort(-values, kind="stable")[:num_left_out])
            after = score_with(prediction, retrainer.train_without(rows))
            falls.setdefault(name, []).append(before - after)
        print(
            number, {name: round(values[-1], 3) for name, values in falls.items()}, file=sys.stderr
        )
    for name, values in falls.items():
        mean, error = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
        wins = np.mean(np.array(values) > np.array(falls["random"]))
        if options.json:
            print(json.dumps({"ranking": name, "falls": values}))
        else:
            print(f"{name:28s} {mean:7.3f} ± {error:.3f} nats   more than random: {wins:.0%}")


def gradient_products(
    prediction: ClassPrediction, objective: TrainingObjective, influence: RowInfluence
) -> NDArray[np.float64]:
    """Return the products of the gradients of all training rows with that of the output."""
    slope = objective.gradient(lambda: prediction.scores(prediction.full_weights()).sum())
    derivatives = objective.row_derivatives(slope, lambda _: None)
    return -np.bincount(influence.owners, derivatives.values)


def nearest_rows(
    objective: TrainingObjective,
) -> Callable[[ClassPrediction], NDArray[np.float64]]:
    """Return a function that computes how near training rows are to the input of a prediction."""
    setup = objective.setup
    rows = [setup.training_row(row) for row in range(len(setup.dataset.train))]
    targets = {row.target for row in rows}
    vectorizer = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]")
    matrix = vectorizer.fit_transform(row.text for row in rows)

    def near(prediction: ClassPrediction) -> NDArray[np.float64]:
        words = (f.text for f in prediction.features if not (f.is_written or f.is_special))
        similarity = linear_kernel(matrix, vectorizer.transform(["".join(words)]))[:, 0]
        output = prediction.outputs[0].text
        if output in targets and len(prediction.outputs) == 1:
            similarity = similarity * [row.target == output for row in rows]
        return similarity

    return near


if __name__ == "__main__":
    main()
