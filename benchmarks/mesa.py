"""The Mesa layer: what its chunks save, and what it can do that attention without a solve cannot.

    python benchmarks/mesa.py [--seconds 60] [--only speed,recall,regression]

speed       forward and backward over 2,048 positions, chunk by chunk and position by position
            (the same function with a chunk of 1), float32; medians of three, both in turn
recall      associative recall (Arora et al. 2023): pairs of key and value, then keys whose values
            are asked for; trained on a mixture of sizes as there, the largest with more pairs than
            a head has dimensions; accuracy by number of pairs after equal time
regression  in-context linear regression (Garg et al. 2022): rows x, y = W x with a new W in every
            sequence; mean squared error of the last predictions over that of predicting zero

Contenders of recall and regression: MesaNet, gated linear attention (the same layer without the
solve) and GPT with full attention, two layers of 64 with two heads, AdamW at 3e-3 with a cosine.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.attention import mesa
from regard.models import Decoder, Gpt, GptConfig, MesaNet, MesaNetConfig

NUM_PAIRS, NUM_KEYS, VOCAB = (4, 8, 16, 32, 48), 64, 130
NUM_ROWS, FEATURES = 24, 8
BATCH = 32
SIZES = {"num_layers": 2, "dim": 64, "num_heads": 2, "hidden_dim": 128, "dropout": 0.0}


def contenders() -> dict[str, Decoder]:
    """Make the models, each from the same seed."""
    made = {}
    for name, (config, kind) in {
        "mesanet": (MesaNetConfig(**SIZES), MesaNet),
        "gated linear": (MesaNetConfig(**SIZES, solver="none"), MesaNet),
        "gpt": (GptConfig(**SIZES), Gpt),
    }.items():
        torch.manual_seed(0)
        made[name] = kind(config, VOCAB)
    return made


def speed() -> None:
    """Time chunks and single positions."""
    torch.manual_seed(0)
    length, heads, dim = 2048, 4, 64
    q, k, v = (F.normalize(torch.randn(1, heads, length, dim), dim=-1) for _ in range(3))
    tensors = [x.requires_grad_() for x in (q, k, v)]
    forget = torch.full((1, heads, length), -1 / 256)

    def run(chunk: int) -> float:
        begun = time.perf_counter()
        out = mesa(
            *tensors,
            regularization=torch.ones(heads, dim),
            forget=forget,
            num_iterations=30,
            tolerance=1e-5,
            chunk=chunk,
        )
        torch.autograd.grad(out.square().sum(), tensors)
        return time.perf_counter() - begun

    run(64)
    times: dict[int, list[float]] = {64: [], 1: []}
    for _ in range(3):
        for chunk, seconds in times.items():
            seconds.append(run(chunk))
    chunked, single = (statistics.median(times[chunk]) for chunk in (64, 1))
    print(f"speed   chunks {chunked:.2f} s   single {single:.2f} s   ratio {single / chunked:.1f}")


def recall_batch(generator: torch.Generator, num_pairs: int) -> tuple[Tensor, Tensor]:
    """Draw sequences key value key value ... key value, then keys with labels where asked for."""
    order = torch.rand(BATCH, NUM_KEYS, generator=generator).argsort(1)
    keys = order[:, :num_pairs] + 1
    values = torch.randint(NUM_KEYS + 1, VOCAB, (BATCH, num_pairs), generator=generator)
    asked = torch.rand(BATCH, num_pairs, generator=generator).argsort(1)[:, : num_pairs // 2]
    pairs = torch.stack([keys, values], 2).flatten(1)
    questions = torch.stack([keys.gather(1, asked), values.gather(1, asked)], 2).flatten(1)
    ids = torch.cat([pairs, questions], 1)
    labels = torch.full_like(ids, -100)
    labels[:, 2 * num_pairs :: 2] = questions[:, 1::2]
    return ids, labels


def train(model: nn.Module, loss: Callable[[], Tensor], seconds: float) -> int:
    """Take as many steps as fit; return their number."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    begun, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - begun) < seconds:
        warm = min(1.0, (steps + 1) / 100)
        rate = 3e-3 * warm * (0.5 + 0.5 * math.cos(math.pi * spent / seconds))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    return steps


def recall(seconds: float) -> None:
    """Compare on associative recall."""
    for name, model in contenders().items():
        generator = torch.Generator().manual_seed(1)

        def loss(model: nn.Module = model, generator: torch.Generator = generator) -> Tensor:
            index = int(torch.randint(len(NUM_PAIRS), (), generator=generator))
            ids, labels = recall_batch(generator, NUM_PAIRS[index])
            return F.cross_entropy(model(ids).flatten(0, 1), labels.flatten())

        steps = train(model.train(), loss, seconds)
        shares = [f"{n}: {100 * recalled(model.eval(), n):5.1f} %" for n in NUM_PAIRS]
        print(f"recall      {name:14s} {steps:5d} steps   {'   '.join(shares)}", flush=True)


@torch.no_grad()
def recalled(model: nn.Module, num_pairs: int) -> float:
    """Return the fraction of values that are recalled, 0 to 1."""
    generator = torch.Generator().manual_seed(2)
    hits = total = 0
    for _ in range(20):
        ids, labels = recall_batch(generator, num_pairs)
        is_asked = labels != -100
        hits += int((model(ids).argmax(-1) == labels)[is_asked].sum())
        total += int(is_asked.sum())
    return hits / total


class Regressor(nn.Module):
    """A decoder over rows of numbers: x and y in turn, each mapped to its size."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.read_in, self.read_out = (
            nn.Linear(FEATURES + 1, decoder.dim),
            nn.Linear(decoder.dim, 1),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Predict y of every row from the rows before, ``[batch, rows]``."""
        rows = torch.stack([F.pad(x, (0, 1)), F.pad(y[..., None], (FEATURES, 0))], 2).flatten(1, 2)
        states = self.read_in(rows)
        for block in self.decoder.blocks:
            states = block(states)
        return self.read_out(self.decoder.norm(states))[:, ::2, 0]


def regression_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows x and y of a linear map, a new one in every sequence."""
    x = torch.randn(BATCH, NUM_ROWS, FEATURES, generator=generator)
    w = torch.randn(BATCH, FEATURES, 1, generator=generator) / FEATURES**0.5
    return x, (x @ w).squeeze(-1)


def regression(seconds: float) -> None:
    """Compare on in-context linear regression."""
    for name, decoder in contenders().items():
        model = Regressor(decoder)
        generator = torch.Generator().manual_seed(1)

        def loss(model: nn.Module = model, generator: torch.Generator = generator) -> Tensor:
            x, y = regression_batch(generator)
            return (model(x, y) - y).square().mean()

        steps = train(model.train(), loss, seconds)
        test = torch.Generator().manual_seed(2)
        with torch.no_grad():
            batches = [regression_batch(test) for _ in range(20)]
            wrong = torch.cat([(model.eval()(x, y) - y).square() for x, y in batches])
            size = torch.cat([y.square() for _, y in batches])
        errors = [float(wrong[:, row].mean() / size.mean()) for row in (8, 12, 23)]
        text = "   ".join(f"row {r} {e:.3f}" for r, e in zip((9, 13, 24), errors, strict=True))
        print(f"regression  {name:14s} error {text}   {steps:5d} steps")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", default="speed,recall,regression")
    options = parser.parse_args()
    if "speed" in options.only:
        speed()
    if "recall" in options.only:
        recall(options.seconds)
    if "regression" in options.only:
        regression(options.seconds)


if __name__ == "__main__":
    main()
