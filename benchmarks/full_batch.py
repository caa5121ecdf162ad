"""Transformers on all rows at once: the conjugate-gradient family and Adam, cost counted.

    python benchmarks/full_batch.py                     # all cases, about half an hour
    python benchmarks/full_batch.py --only reversal --rows 512 --seeds 0 1 --model encoder
    python benchmarks/full_batch.py --small             # does it run, not how well

Cost: 1 for a gradient over all rows, 1/3 for a value alone, 1 for a curvature product; what is
computed over a part of the rows counts as that part. Nothing of ours is tuned; Adam has a grid of
rates, and its best counts. float32.

- reversal  a Transformer of about 100,000 parameters learns to write a sequence backwards: cost
            until the loss is 1e-3. Models: 2+2 layers; an encoder of 2, which sees the whole
            sequence; a gpt of 2, which reads the sequence and then what it wrote
- addition  the first of them adds two numbers of three digits: accuracy on unseen sums after equal
            cost, Adam on mini-batches
- overhead  time of conjugate gradient's own work over its evaluations, 10 M parameters; needs
            an idle machine
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.models.bert.model import Bert, BertConfig
from regard.models.gpt.model import Gpt, GptConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.optim import LBFGS, ConjugateGradient, FullBatch, GradientDescent, NewtonCG
from regard.optim.line_search_optimizer import LineSearchOptimizer

TARGET = 1e-3
RATES = (1e-2, 5e-3, 2e-2, 3e-3, 3e-2, 1e-3)
_FIRST = 3  # token of the first symbol: padding, begin and end come before it
_BEGIN = 1
_PLUS = _FIRST + 10
_VOCAB_SIZE = _FIRST + 16
_MICRO_BATCHES = 8


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a run: those of the claims, or tiny ones."""

    rows: int = 2048
    limit: float = 400.0
    overhead_rows: int = 8192
    dim: int = 40


class Task(msgspec.Struct, frozen=True):
    """Source ids, decoder inputs and labels, [rows, length] each."""

    sources: Tensor
    inputs: Tensor
    labels: Tensor


def reversal(rows: int, seed: int, *, length: int = 10, num_symbols: int = 16) -> Task:
    """Draw sequences and write them backwards."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randint(_FIRST, _FIRST + num_symbols, (rows, length), generator=generator)
    return _task(sources, sources.flip(1))


def addition(rows: int, seed: int) -> Task:
    """Draw sums of two numbers of three digits, the answer's last digit first."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(0, 1000, (2, rows), generator=generator)
    plus = torch.full((rows, 1), _PLUS)
    sources = torch.cat([_digits(a, 3), plus, _digits(b, 3)], dim=1)
    return _task(sources, _digits(a + b, 4).flip(1))


def _digits(numbers: Tensor, count: int) -> Tensor:
    powers = 10 ** torch.arange(count - 1, -1, -1)
    return _FIRST + numbers.unsqueeze(1) // powers % 10


def _task(sources: Tensor, labels: Tensor) -> Task:
    begin = torch.full((len(labels), 1), _BEGIN)
    return Task(sources, torch.cat([begin, labels[:, :-1]], dim=1), labels)


def new_model(seed: int, dim: int) -> Transformer:
    """Build a Transformer of 2+2 layers; about 100,000 parameters at dim 40."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        num_encoder_layers=2,
        num_decoder_layers=2,
        dim=dim,
        num_heads=4,
        hidden_dim=4 * dim,
        dropout=0.0,
    )
    return Transformer(config, _VOCAB_SIZE)


class SourceOnly(nn.Module):
    """An encoder that predicts the label of every position from the source alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        config = BertConfig(
            num_layers=2,
            dim=dim,
            num_heads=4,
            hidden_dim=4 * dim,
            dropout=0.0,
            norm="pre",
            max_positions=16,
        )
        self.encoder = Bert(config, _VOCAB_SIZE)

    def forward(self, sources: Tensor, inputs: Tensor) -> Tensor:  # noqa: ARG002 - as Transformer
        """Compute logits, ``[batch, length, vocab]``."""
        return self.encoder(sources)


class OneText(nn.Module):
    """A gpt that reads source and labels as one text."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        config = GptConfig(num_layers=2, dim=dim, num_heads=4, hidden_dim=3 * dim, dropout=0.0)
        self.decoder = Gpt(config, _VOCAB_SIZE)

    def forward(self, sources: Tensor, inputs: Tensor) -> Tensor:
        """Compute the logits of the labels, ``[batch, length, vocab]``."""
        return self.decoder(torch.cat([sources, inputs], dim=1))[:, sources.shape[1] :]


NewModel = Callable[[int, int], nn.Module]
"""Builds a model from a seed and the dimension of one of 2+2 layers."""


def new_of_one_side(kind: Callable[[int], nn.Module]) -> NewModel:
    """Return what builds a model of 2 layers, about as large as those of 2+2."""

    def build(seed: int, dim: int) -> nn.Module:
        torch.manual_seed(seed)
        return kind(8 * (dim // 5))

    return build


MODELS: dict[str, NewModel] = {
    "encoder-decoder": new_model,
    "encoder": new_of_one_side(SourceOnly),
    "gpt": new_of_one_side(OneText),
}


def new_objective(model: nn.Module, task: Task) -> FullBatch:
    """Build the mean loss over all rows."""
    parts = (part.tensor_split(_MICRO_BATCHES) for part in (task.sources, task.inputs, task.labels))
    return FullBatch(
        list(zip(*parts, strict=True)),
        lambda outputs, batch: F.cross_entropy(outputs.flatten(0, 1), batch[2].flatten()),
        outputs=lambda batch: model(batch[0], batch[1]),
        model=model,
    )


Build = Callable[[Sequence[nn.Parameter]], LineSearchOptimizer]
OURS: dict[str, Build] = {
    "cg, memory 11": lambda p: ConjugateGradient(p, memory=11),
    "cg, memory 0": ConjugateGradient,
    "cg, adam preconditioner": lambda p: ConjugateGradient(p, memory=11, preconditioner="adam"),
    "lbfgs": LBFGS,
    "newton-cg, damped, quarter": lambda p: NewtonCG(
        p, region="levenberg-marquardt", curvature_fraction=0.25
    ),
    "newton-cg, damped": lambda p: NewtonCG(p, region="levenberg-marquardt"),
    "newton-cg, trust region": NewtonCG,
    "gradient-descent": GradientDescent,
}


def cost_of(optimizer: LineSearchOptimizer, objective: FullBatch) -> float:
    """Weigh what an optimizer has evaluated."""
    counts = optimizer.counts
    products = objective.curvature_fraction * counts.products
    return counts.gradients + counts.values / 3 + products


def descend(optimizer: LineSearchOptimizer, objective: FullBatch, limit: float) -> float:
    """Step to the target or the limit; return the cost, infinite at the limit."""
    value = math.inf
    while value > TARGET:
        if cost_of(optimizer, objective) > limit or optimizer.last.failure:
            return math.inf
        value = optimizer.step(objective)
    return cost_of(optimizer, objective)


def adam(model: nn.Module, objective: FullBatch, rate: float, limit: float) -> float:
    """Run Adam on all rows to the target; return its cost, infinite at the limit."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    objective.bind(list(model.parameters()))
    for number in range(1, int(limit) + 1):
        if objective.gradient() <= TARGET:
            return number
        optimizer.step()
    return math.inf


def run_reversal(scale: Scale, seeds: Sequence[int], model_name: str) -> None:
    """Print the cost of every method, and its ratio to the best of Adam."""
    print(f"reversal: {model_name}, {scale.rows:,} rows; cost to a loss of {TARGET:g}")
    new = MODELS[model_name]
    for seed in seeds:
        task = reversal(scale.rows, seed + 100)
        best, limit = math.inf, scale.limit
        for rate in RATES:
            model = new(seed, scale.dim)
            cost = adam(model, new_objective(model, task), rate, limit)
            text = f"> {limit:.0f}" if math.isinf(cost) else f"{cost:.1f}"
            print(f"  seed {seed}   {f'Adam, rate {rate:g}':26s}{text:>8s}", flush=True)
            best = min(best, cost)
            limit = min(limit, best)
        for name, build in OURS.items():
            model = new(seed, scale.dim)
            optimizer = build(list(model.parameters()))
            cost = descend(optimizer, new_objective(model, task), scale.limit)
            comparison = f"{cost / best:.2f} of the best Adam"
            print(f"  seed {seed}   {name:26s}{cost:8.1f}   {comparison}", flush=True)


def run_addition(scale: Scale, seeds: Sequence[int]) -> None:
    """Print accuracy on unseen sums after equal cost."""
    print(f"addition: {scale.rows:,} rows; fraction of unseen sums that are right")
    limit = scale.limit / 4
    for seed in seeds:
        task, unseen = addition(scale.rows, seed + 100), addition(1000, seed + 200)
        for rate in (1e-3, 3e-3, 1e-2):
            model = new_model(seed, scale.dim)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate)
            for _ in range(int(limit)):
                for rows in torch.randperm(len(task.labels)).split(64):
                    logits = model(task.sources[rows], task.inputs[rows])
                    optimizer.zero_grad()
                    F.cross_entropy(logits.flatten(0, 1), task.labels[rows].flatten()).backward()
                    optimizer.step()
            name = f"Adam, batches, rate {rate:g}"
            print(f"  seed {seed}   {name:28s}{limit:6.0f} passes  {right(model, unseen):6.3f}")
        for name in ("cg, memory 11", "cg, adam preconditioner"):
            model = new_model(seed, scale.dim)
            optimizer = OURS[name](list(model.parameters()))
            objective = new_objective(model, task)
            while cost_of(optimizer, objective) < limit and not optimizer.last.failure:
                optimizer.step(objective)
            cost = cost_of(optimizer, objective)
            print(f"  seed {seed}   {name:28s}{cost:6.0f} passes  {right(model, unseen):6.3f}")


@torch.no_grad()
def right(model: nn.Module, task: Task) -> float:
    """Return the fraction of rows whose every token is predicted from those before it."""
    predicted = model(task.sources, task.inputs).argmax(2)
    return float((predicted == task.labels).all(1).double().mean())


class TimedBatch(FullBatch):
    """Measures the seconds of its evaluations."""

    seconds = 0.0

    def gradient(self) -> float:
        """Compute value and gradient."""
        begun = time.perf_counter()
        value = super().gradient()
        self.seconds += time.perf_counter() - begun
        return value

    def value(self) -> float:
        """Compute the value."""
        begun = time.perf_counter()
        value = super().value()
        self.seconds += time.perf_counter() - begun
        return value


def run_overhead(scale: Scale) -> None:
    """Print the fraction of conjugate gradient's own work."""
    torch.manual_seed(0)
    width = 512 if scale.dim == Scale().dim else 16
    model = nn.Sequential(
        *(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(5)
        )
    )
    batches = [torch.randn(2, 2048, width) for _ in range(max(1, scale.overhead_rows // 2048))]
    for memory in (0, 11):
        objective = TimedBatch(batches, lambda b: (F.mse_loss(model(b[0]), b[1]), 1), model=model)
        optimizer = ConjugateGradient(model.parameters(), memory=memory)
        optimizer.step(objective)
        objective.seconds, begun = 0.0, time.perf_counter()
        for _ in range(8):
            optimizer.step(objective)
        taken = time.perf_counter() - begun
        fraction = (taken - objective.seconds) / objective.seconds
        print(f"overhead: memory {memory:2d}   {100 * fraction:.1f} % of the evaluations")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="reversal,addition,overhead")
    parser.add_argument("--rows", type=int, default=Scale().rows)
    parser.add_argument("--model", choices=MODELS, default="encoder-decoder", help="of reversal")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(arguments)
    scale = Scale(rows=options.rows)
    if options.small:
        scale = Scale(rows=16, limit=2.0, overhead_rows=64, dim=8)
    cases = options.only.split(",")
    unknown = set(cases) - {"reversal", "addition", "overhead"}
    if unknown:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; reversal, addition, overhead")
    if "reversal" in cases:
        run_reversal(scale, options.seeds, options.model)
    if "addition" in cases:
        run_addition(scale, options.seeds)
    if "overhead" in cases:
        run_overhead(scale)


if __name__ == "__main__":
    main()
