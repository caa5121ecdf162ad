"""A classifier's head on a frozen, trained encoder: no learning rate against a tuned one.

    python benchmarks/head.py MODEL_FOLDER train.jsonl dev.jsonl test.jsonl [--json]

Rows are JSONL with ``text`` and ``label``. A text's features are the mean and the largest of the
encoder's states over its tokens, standardised. The head is softmax regression with a penalty on its
weights. Contenders, for every penalty of one grid:

- conjugate gradient (``regard.optim.ConjugateGradient``, memory 11) on all rows, to a gradient of
  1e-5, evaluated after every step; nothing is set
- AdamW on batches of 64, a grid of learning rates, 20 epochs, the penalty in the loss, evaluated
  after every epoch

The step or epoch with the lowest validation loss counts.

Figures: validation loss and accuracy of the best, passes over the data that the best run took and
that the whole search took, and test accuracy of the choice made on the validation rows.

    python benchmarks/head.py MODEL_FOLDER train.jsonl dev.jsonl test.jsonl --minimum

instead counts the passes to the minimum itself: until the penalised training loss is within a
millionth of its least value, in float64. Conjugate gradient, L-BFGS and Newton's method as they
are; Adam on all rows with the best of a grid of rates, which need not fall for it to count.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import regard
from regard.data.tokenizer import Tokenizer
from regard.optim import LBFGS, ConjugateGradient, FullBatch, NewtonCG
from regard.optim.line_search_optimizer import LineSearchOptimizer

PENALTIES = (1e-3, 1e-2, 1e-1)
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
EPOCHS = 20
ADAM_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
LIMIT = 5000  # passes
BATCH = 64
_CLOSE = 1e-6  # to the least loss, relative
_TOKENS = 256  # of a text that are read
_ROWS = 32  # texts encoded together


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run: how good on validation rows, when, and what it cost."""

    setting: str
    loss: float
    accuracy: float
    test_accuracy: float
    passes: float
    passes_of_run: float


class Rows(msgspec.Struct, frozen=True):
    """Features, [rows, dim], and labels, [rows]."""

    features: Tensor
    labels: Tensor


@torch.no_grad()
def encode(folder: str, texts: Sequence[str]) -> Tensor:
    """Compute the features of texts, [rows, 2 dim]."""
    translator = regard.load(folder)
    model = translator.model.eval().float()
    model.compute_dtype = torch.float32
    encoded = translator.tokenizer.encode(list(texts))
    ids = [[*row[:_TOKENS], Tokenizer.eos_id] for row in encoded]
    features = []
    for start in range(0, len(ids), _ROWS):
        rows = [torch.tensor(row) for row in ids[start : start + _ROWS]]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        states, _ = model.encode(padded)
        hidden = (padded == 0).unsqueeze(2)
        mean = states.masked_fill(hidden, 0.0).sum(1) / (~hidden).sum(1)
        features.append(torch.cat([mean, states.masked_fill(hidden, -torch.inf).amax(1)], dim=1))
    return torch.cat(features)


def read(folder: str, paths: Sequence[str]) -> list[Rows]:
    """Read files of rows; features are standardised by the first file's."""
    tables = [[json.loads(line) for line in Path(path).read_text().splitlines()] for path in paths]
    names = sorted({row["label"] for row in tables[0]})
    features = [encode(folder, [row["text"] for row in table]) for table in tables]
    mean, deviation = features[0].mean(0), features[0].std(0) + 1e-6
    labels = [torch.tensor([names.index(row["label"]) for row in table]) for table in tables]
    return [Rows((f - mean) / deviation, y) for f, y in zip(features, labels, strict=True)]


def loss_of(head: nn.Linear, rows: Rows, penalty: float) -> Tensor:
    """Compute the penalised loss."""
    loss = F.cross_entropy(head(rows.features), rows.labels)
    return loss + 0.5 * penalty * head.weight.square().sum()


@torch.no_grad()
def measure(head: nn.Linear, rows: Rows) -> tuple[float, float]:
    """Return loss without penalty, and accuracy."""
    logits = head(rows.features)
    right = logits.argmax(1) == rows.labels
    return float(F.cross_entropy(logits, rows.labels)), float(right.double().mean())


def new_head(rows: Rows) -> nn.Linear:
    """Build a head of zeros."""
    num_labels = int(rows.labels.max()) + 1
    head = nn.Linear(rows.features.shape[1], num_labels, dtype=rows.features.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def conjugate_gradient(train: Rows, valid: Rows, test: Rows) -> list[Result]:
    """Solve for every penalty; the best step counts."""
    results = []
    for penalty in PENALTIES:
        head = new_head(train)
        optimizer = ConjugateGradient(head.parameters(), memory=11)
        objective = FullBatch([train], _of_batch(head, penalty))
        best: Result | None = None
        while not optimizer.last.gradient_norm < 1e-5 and not optimizer.last.failure:
            optimizer.step(objective)
            passes = optimizer.counts.gradients + optimizer.counts.values / 3
            best = _better(best, head, (valid, test), passes, f"penalty {penalty:g}")
        assert best is not None
        results.append(msgspec.structs.replace(best, passes_of_run=passes))
    return results


def _better(
    best: Result | None, head: nn.Linear, sets: tuple[Rows, Rows], passes: float, setting: str
) -> Result:
    """Return the better of the best so far and the present head."""
    loss, accuracy = measure(head, sets[0])
    if best is not None and best.loss <= loss:
        return best
    return Result(
        setting=setting,
        loss=loss,
        accuracy=accuracy,
        test_accuracy=measure(head, sets[1])[1],
        passes=passes,
        passes_of_run=passes,
    )


def _of_batch(head: nn.Linear, penalty: float) -> Callable[[Rows], tuple[Tensor, int]]:
    return lambda rows: (loss_of(head, rows, penalty), 1)


def adamw(train: Rows, valid: Rows, test: Rows) -> list[Result]:
    """Train with every penalty and rate."""
    results = []
    for penalty in PENALTIES:
        for rate in RATES:
            torch.manual_seed(1)
            head = new_head(train)
            optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.0)
            best: Result | None = None
            for epoch in range(1, EPOCHS + 1):
                for rows in torch.randperm(len(train.labels)).split(BATCH):
                    optimizer.zero_grad()
                    batch = Rows(train.features[rows], train.labels[rows])
                    loss_of(head, batch, penalty).backward()
                    optimizer.step()
                setting = f"penalty {penalty:g}, rate {rate:g}"
                best = _better(best, head, (valid, test), epoch, setting)
            assert best is not None
            results.append(msgspec.structs.replace(best, passes_of_run=float(EPOCHS)))
    return results


SOLVERS: dict[str, Callable[[Sequence[nn.Parameter]], LineSearchOptimizer]] = {
    "cg, memory 11": lambda p: ConjugateGradient(p, memory=11),
    "cg, memory 0": ConjugateGradient,
    "cg, adam preconditioner": lambda p: ConjugateGradient(p, memory=11, preconditioner="adam"),
    "lbfgs": LBFGS,
    "newton-cg": NewtonCG,
}


def least_loss(rows: Rows, penalty: float) -> float:
    """Solve to rounding; convex, so what Newton's method arrives at is the least."""
    head = new_head(rows)
    optimizer = NewtonCG(head.parameters())
    objective, value = objective_of(head, rows, penalty), math.inf
    while not optimizer.last.gradient_norm < 1e-11 and not optimizer.last.failure:
        value = optimizer.step(objective)
    return value


def objective_of(head: nn.Linear, rows: Rows, penalty: float) -> FullBatch:
    """Build the penalised loss of all rows."""

    def loss(outputs: Tensor, batch: Rows) -> Tensor:
        penalised = 0.5 * penalty * head.weight.square().sum()
        return F.cross_entropy(outputs, batch.labels) + penalised

    def penalised_outputs(batch: Rows) -> Tensor:
        return head(batch.features)

    return FullBatch([rows], lambda out, b: (loss(out, b), 1), outputs=penalised_outputs)


def passes_to_minimum(optimizer: LineSearchOptimizer, objective: FullBatch, goal: float) -> float:
    """Step until the loss is at the goal; a value alone counts a third, a product one."""
    value = math.inf
    while value > goal:
        if optimizer.last.failure:
            return math.inf
        value = optimizer.step(objective)
    counts = optimizer.counts
    return counts.gradients + counts.values / 3 + counts.products


def adam_to_minimum(rows: Rows, penalty: float, rate: float, goal: float, limit: float) -> float:
    """Run Adam on all rows until the loss is at the goal; infinite beyond the limit."""
    head = new_head(rows)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    for number in range(1, int(min(limit, LIMIT)) + 1):
        optimizer.zero_grad()
        loss = loss_of(head, rows, penalty)
        if float(loss.detach()) <= goal:
            return number
        loss.backward()
        optimizer.step()
    return math.inf


def run_minimum(rows: Rows) -> None:
    """Print the passes of every method for every penalty, and their ratio to Adam's best."""
    for penalty in PENALTIES:
        goal = (1 + _CLOSE) * least_loss(rows, penalty)
        best, best_name = math.inf, ""
        for rate in ADAM_RATES:
            passes = adam_to_minimum(rows, penalty, rate, goal, best)
            if passes < best:
                best, best_name = passes, f"rate {rate:g}"
        print(f"penalty {penalty:g}   {'Adam, ' + best_name:26s}{best:8.1f}")
        for name, build in SOLVERS.items():
            head = new_head(rows)
            objective = objective_of(head, rows, penalty)
            passes = passes_to_minimum(build(list(head.parameters())), objective, goal)
            print(f"penalty {penalty:g}   {name:26s}{passes:8.1f}   {passes / best:.2f} of Adam's")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("files", nargs=3, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minimum", action="store_true")
    options = parser.parse_args(arguments)
    train, valid, test = read(options.model, options.files)
    shape = tuple(train.features.shape)
    if options.minimum:
        run_minimum(Rows(train.features.double(), train.labels))
        return
    results_of = {
        "conjugate gradient": conjugate_gradient(train, valid, test),
        "AdamW, grid": adamw(train, valid, test),
    }
    best = {name: min(results, key=lambda r: r.loss) for name, results in results_of.items()}
    if options.json:
        print(json.dumps({name: msgspec.to_builtins(r) for name, r in best.items()}))
        return
    print(f"{shape[0]:,} rows of {shape[1]:,} features, {int(train.labels.max()) + 1} classes")
    print(f"{'':20s}{'valid loss':>12s}{'accuracy':>10s}{'test':>8s}{'passes':>8s}{'search':>8s}")
    for name, result in best.items():
        search = sum(each.passes_of_run for each in results_of[name])
        print(
            f"{name:20s}{result.loss:12.4f}{result.accuracy:10.3f}{result.test_accuracy:8.3f}"
            f"{result.passes:8.1f}{search:8.0f}   {result.setting}"
        )


if __name__ == "__main__":
    main()
