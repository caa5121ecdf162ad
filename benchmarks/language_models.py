"""Decoders compared on running text, at equal time and about equal parameters.

    python benchmarks/language_models.py train.txt dev.txt test.txt [--minutes 4] [--json]

GPT (rotary, SwiGLU), Transformer-XL, MesaNet and gated linear attention (MesaNet's layer without
its solve): four layers of 256, one vocabulary, segments of 128 tokens, each with the same
wall-clock budget. Figures: perplexity a token and bits a byte on the test text.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec

import regard

SIZES = ("model.num_layers=4", "model.dim=256", "model.num_heads=4", "model.dropout=0")
CONTENDERS = {
    "gpt": ("model.family=gpt", "model.hidden_dim=704"),
    "transformer_xl": ("model.family=transformer_xl", "model.hidden_dim=1024", "model.memory=128"),
    "mesanet": ("model.family=mesanet", "model.hidden_dim=704"),
    "gated linear": ("model.family=mesanet", "model.hidden_dim=704", "model.solver=none"),
}
COMMON = (
    "preset=tiny",
    "tokenizer.vocab_size=4000",
    "data.max_length=128",
    "data.allow_overlap=true",
    "training.batch_tokens=2048",
    "optimizer.learning_rate=0.006",
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one contender, on the test text."""

    name: str
    num_parameters: int
    perplexity: float
    bits_per_byte: float
    steps: int


def run(name: str, data: list[str], minutes: float) -> Result:
    """Train a contender and test it."""
    train, valid, test = data
    settings = [*COMMON, *SIZES, *CONTENDERS[name], f"data.valid={valid}", f"data.test={test}"]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model"
        generator = regard.train(train, output, preset="tiny", minutes=minutes, settings=settings)
        lines = (output / "metrics.jsonl").read_text().splitlines()
        steps = max(json.loads(line)["step"] for line in lines)
        report: Any = regard.evaluate(output, test, drop_overlap=True)
    return Result(
        name=name,
        num_parameters=sum(p.numel() for p in generator.model.parameters()),
        perplexity=report.perplexity,
        bits_per_byte=report.bits_per_byte,
        steps=steps,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs=3, metavar="FILE")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--only", default=",".join(CONTENDERS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = []
    for name in options.only.split(","):
        results.append(run(name, options.data, options.minutes))
        if not options.json:
            show(results[-1])
    if options.json:
        print(json.dumps(msgspec.to_builtins(results)))


def show(result: Result) -> None:
    """Print a line."""
    print(
        f"{result.name:16s} {result.num_parameters / 1e6:5.2f} M   {result.steps:6,d} steps   "
        f"perplexity {result.perplexity:7.2f}   {result.bits_per_byte:.3f} bits/byte",
        flush=True,
    )


if __name__ == "__main__":
    main()
