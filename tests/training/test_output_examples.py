"""What a run shows of its validation data while it trains, for tasks that write no text."""

import json
import math

import pytest
import torch
from torch import nn

import regard
from regard.training.ema import ExponentialMovingAverage
from regard.training.evaluation_loop import LossEvaluator
from regard.training.events import Evaluated
from regard.training.output_examples import choose_examples, output_example

TEXTS = [f"the {noun} number {n} is {('good', 'bad')[n % 2]}" for n, noun in enumerate("abcde" * 8)]
FILES = {
    "a.csv": ["text,label", *(f"{text},{text.split()[-1]}" for text in TEXTS)],
    "b.jsonl": [
        json.dumps(
            {"context": text, "question": f"what is number {n}?", "answers": text.split()[-1]}
        )
        for n, text in enumerate(TEXTS)
    ],
    "c.txt": [", and ".join([text] * 5) for text in TEXTS],
    "d.csv": ["time,value", *(f"{n},{10 + math.sin(n / 4):.2f}" for n in range(300))],
}
SETTINGS = ("training.evaluations=1", "training.epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_run_shows_what_becomes_of_validation_rows(tmp_path, name):
    path, events = tmp_path / name, []
    path.write_text("\n".join(FILES[name]) + "\n")
    settings = ("preset=tiny", *SETTINGS) if name[0] != "d" else SETTINGS
    regard.train(path, tmp_path / "m", settings=settings, report=events.append)
    examples = next(event for event in events if isinstance(event, Evaluated)).examples
    assert 1 <= len(examples) <= 5
    for source, output, reference in ((e.source, e.output, e.reference) for e in examples):
        if name == "a.csv":
            assert source in TEXTS and reference == source.split()[-1]
            assert output.split(" (")[0] in ("good", "bad") and output.endswith(" %)")
        elif name == "b.jsonl":
            assert reference == ("good", "bad")[int(source.split()[-1][:-1]) % 2]
        elif name == "c.txt":
            assert any(line.startswith(f"{source} {reference}") for line in FILES[name])
        else:
            first = int(source.removeprefix("value from "))
            assert source == f"value from {first}" and len(output.split()) > 1
            assert float(reference.split()[0]) == pytest.approx(10 + math.sin(first / 4), abs=0.01)


def test_a_model_that_gives_no_numbers_shows_nothing():
    def raise_error(model):
        raise AssertionError

    model = nn.Linear(2, 2)
    model.compute_dtype = torch.float32
    evaluator = LossEvaluator(model, lambda _: {"loss": math.nan}, raise_error)
    assert evaluator(ExponentialMovingAverage(model, 0.0)).examples == []


def test_examples_are_few_and_short():
    assert choose_examples(1000) == [0, 200, 400, 600, 800]
    assert choose_examples(0) == []
    assert len(output_example("a" * 999, "", "").source) == 400
