"""Steps of 1, 2, 3 and 4 processes (gloo, on the CPU) against each other.

One process prepares the models once, then forks them.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.processes import start_process
from torch import nn
from torch.distributed.tensor import DTensor

from regard.errors import WeightsError
from regard.hub.model_folder import ModelFolder
from regard.runs.run import ignore_events
from regard.runs.session import RunSession
from regard.runs.session_setup import SessionContext
from regard.setup.request import Request
from regard.training.checkpoint import Counters
from regard.training.distribution import ALONE, World
from regard.training.ema import ExponentialMovingAverage
from regard.training.loop import Evaluation, Trainer
from regard.training.plan import Plan, TimeBudget
from regard.training.steppers import build_stepper
from regard.training.train_step import Loss
from regard.training.training_config import OptimizerConfig, TrainingConfig

SIZES = (1, 2, 3, 4)
SIZES_OF_LOOPS = (1, 3)  # a loop waits for its processes many times a step

pytestmark = pytest.mark.slow
STEPS = 3
TINY = ("model.dim=8", "model.hidden_dim=8", "model.num_heads=2", "tokenizer.vocab_size=300")
TRANSLATOR = (*TINY, "model.num_encoder_layers=1", "model.num_decoder_layers=1")
DECODER = (*TINY, "data.max_length=8", "model.num_layers=1")
# The bias of keys has no influence: its gradient is rounding errors, some 1e-18, which AdamW scales
# up by rate / epsilon = rate / 1e-9.
BATCH_RATES = dict.fromkeys(("muon", "adamw", "adam-then-cg"), 1e-4)


def write_data(folder: Path) -> dict[str, Path]:
    """Write a small file of each kind."""
    words = ["red", "old", "cat", "dog", "sees", "the", "a", "house", "tree", "by"]
    texts = [
        " ".join(words[(row * step) % 10] for step in range(2, 4 + row % 6)) + f" {row}"
        for row in range(1, 121)
    ]
    contents = {
        "pairs.tsv": "".join(f"{text}\t{text[::-1]}\n" for text in texts),
        "text.txt": "\n".join(texts),
        "labels.jsonl": "".join(
            f'{{"text": "{text}", "label": "{"ab"[index % 2]}"}}\n'
            for index, text in enumerate(texts)
        ),
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return {name.split(".")[0]: folder / name for name in contents}


def prepare(path: Path, *settings: str):
    """Build the setup of a run."""
    request = Request.parse(
        ("training.batch_tokens=240", *settings), file=None, paths={"path": str(path)}
    )
    context = SessionContext(ModelFolder("unused"), ignore_events, time.monotonic())
    run = RunSession.from_request(request, context)
    run.setup.model.double()
    return run.setup


def prepare_all(folder: Path):
    """Build the setups of all models, by name."""
    paths = write_data(folder)
    return {
        "translator": prepare(paths["pairs"], "task=translation", *TRANSLATOR, "model.dropout=0.1"),
        "translator without copies": prepare(
            paths["pairs"], *TRANSLATOR, "model.dropout=0.1", "model.has_copy=false"
        ),
        "language model": prepare(
            paths["text"], "task=language-modeling", *DECODER, "model.dropout=0"
        ),
        "classifier": prepare(paths["labels"], "task=classification", *TINY, "model.dropout=0.1"),
        "filler of gaps": prepare(
            paths["text"],
            "task=masked-language-modeling",
            *TINY,
            "model.dropout=0.1",
            "data.max_length=8",
        ),
    }


def two_of(batches):
    """Return two of the batches of a run."""
    few = copy.copy(batches)
    few.order = lambda epoch: batches.order(epoch)[:2]
    few.in_sequence = lambda: batches.in_sequence()[:2]
    return few


def seed_dropout(number: int) -> None:
    torch.manual_seed(1_000_003 + number)


def whole(parameter):
    tensor = parameter.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def take_steps(
    setup,
    world,
    *,
    optimizer="muon",
    dtype=torch.float64,
    rows=None,
    progress=0.5,
    uses_fsdp=False,
    **training,
):
    """Take steps with a copy of a model; return its weights and the losses, norms, and counts."""
    if optimizer not in BATCH_RATES:
        training.setdefault("shards", 4)  # more would take longer
    model = copy.deepcopy(setup.model).to(dtype)
    model.compute_dtype = None
    stepper, batches = build_stepper(
        model,
        setup.loss(),
        TrainingConfig(**training),
        OptimizerConfig(name=optimizer, learning_rate=BATCH_RATES.get(optimizer), warmup=0.0),
        two_of(setup.batches),
        seed_dropout,
        world,
        dtype=dtype,
        uses_fsdp=uses_fsdp,
    )
    reports = []
    order = batches.order(0)
    num_steps = STEPS if optimizer in BATCH_RATES else 2
    for step in range(num_steps):
        seed_dropout(step)
        chosen = order[step % len(order)][:rows]
        output = stepper.step(batches.batch(chosen), progress)
        loss = output.loss
        reports.append([float(loss.loss), float(loss.nll), output.gradient_norm, loss.num_tokens])
    return {
        "weights": torch.cat([whole(p).flatten() for p in model.parameters()]),
        "reports": torch.tensor(reports, dtype=torch.float64),
    }


AGREE = {
    (model, optimizer): (model, {"optimizer": optimizer})
    for model, optimizers in {
        "translator": ("muon", "adamw", "cg"),
        "translator without copies": ("newton-cg",),
        "language model": ("muon", "adamw", "cg", "newton-cg"),
        "classifier": ("muon", "adamw", "cg", "newton-cg", "adam-then-cg"),
    }.items()
    for optimizer in optimizers
}
EQUAL = {
    ("equal", model, optimizer): (
        model,
        {"optimizer": optimizer, "dtype": torch.float32, "deterministic": True},
    )
    for model, optimizer in (
        ("translator", "muon"),
        ("classifier", "adamw"),
        ("classifier", "cg"),
        ("translator without copies", "newton-cg"),
    )
}
# Its masked tokens are drawn for all rows of a batch, so that shards are computed one by one.
AGREE["filler of gaps", "adamw"] = "filler of gaps", {"optimizer": "adamw"}
for model in ("classifier", "filler of gaps"):
    AGREE[model, "two rows"] = model, {"optimizer": "adamw", "rows": 2}
AGREE["classifier", "adam-then-cg"][1]["progress"] = 0.9
AGREE_OF_TWO = [name for name in AGREE if name[0].startswith("translator")]
PARTS = {
    ("parts", model, optimizer): (model, {"optimizer": optimizer, "uses_fsdp": True})
    for model, optimizer in (("translator", "muon"), ("classifier", "adamw"))
}
CASES = AGREE | EQUAL | PARTS


def is_computed(name, size):
    """Whether a case is computed by some processes: all are by 1 and by 3, the strictest by any."""
    return size in (1, 3) or name in EQUAL or (size == 2 and name in (*PARTS, *AGREE_OF_TWO))


class Unused(nn.Module):
    """Two layers, of which one is used, and a frozen one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.used, self.unused, self.frozen = (nn.Linear(2, 2) for _ in range(3))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.used(x))


class Pairs:
    """Twelve rows in each batch."""

    def __init__(self):
        self.values = torch.randn(48, 2, generator=torch.Generator().manual_seed(1))

    def order(self, epoch):
        return list(np.arange(48).reshape(4, 12))

    def in_sequence(self):
        return self.order(0)

    def batch(self, rows):
        return self.values[rows]


def squares(model, batch):
    loss = (model(batch) ** 2).mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=len(batch))


def train_toy(world, folder, *, evaluate=lambda: 1.0, poisoned=None, budget=None, patience=4):
    """Train a small model by the loop; return the end of the run, as this process sees it."""
    model, batches = Unused(), Pairs()
    if poisoned is not None:
        batches.values[poisoned] = math.nan
    training = TrainingConfig(patience=patience, patience_steps=0, average=0.5)
    optimizer = OptimizerConfig(name="adamw", learning_rate=0.01)
    stepper, shards = build_stepper(
        model, squares, training, optimizer, batches, seed_dropout, world
    )
    reported = []
    ticks = itertools.count(1 + 1000 * world.rank)  # each process has a clock of its own
    trainer = Trainer(
        model=model,
        average=ExponentialMovingAverage(model, 0.5),
        stepper=stepper,
        batches=shards,
        evaluate=lambda average: Evaluation(
            measures={"loss": evaluate()}, score_name="loss", is_loss=True, overlong_seconds=0.1
        ),
        save_best=lambda average: None,
        seed_dropout=seed_dropout,
        describe_rows=lambda rows: f"rows {rows[0]}-{rows[-1]}",
        config=training,
        folder=folder,
        on_event=reported.append,
        budget=budget,
        start_time=0.0,
        clock=lambda: next(ticks) * (1 + world.rank) / 100,
        world=world,
    )
    counters = Counters(plan=Plan.from_start(12, evaluate_every=2))
    error = ""
    try:
        trainer.run(counters)
    except WeightsError as failure:
        error = str(failure)
    return {
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]),
        "unused": [p.grad is None for p in (*model.unused.parameters(), model.frozen.weight)],
        "step": counters.step,
        "plan": repr(counters.plan),
        "elapsed": counters.elapsed,
        "error": error,
        "num_reported": len(reported),
    }


LOOPS = {
    "to its end": {"patience": 100},
    "until patience ends": {"evaluate": lambda: 1.0, "patience": 1},
    "within minutes": {"budget": TimeBudget(seconds=0.9, reserve=0.0, reserved_evaluations=1)},
    "with a row that is not a number": {"poisoned": 29},
}


def run_loops(world, folder):
    folder = folder / f"runs-{world.size}"
    return {name: train_toy(world, folder, **settings) for name, settings in LOOPS.items()}


def run_cases(setups, world):
    return {
        name: take_steps(setups[model], world, **settings)
        for name, (model, settings) in CASES.items()
        if is_computed(name, world.size)
    }


def run_process(rank: int, size: int, folder: Path, setups) -> None:
    """Run all cases as one of the processes."""
    store = dist.FileStore(str(folder / f"store-{size}"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    world = World(rank=rank, size=size, control=dist.group.WORLD)
    results = run_cases(setups, world)
    if size in SIZES_OF_LOOPS:
        results |= run_loops(world, folder)
    if size == 1:
        for optimizer in ("muon", "adamw"):
            steps = take_steps(setups["language model"], ALONE, optimizer=optimizer)
            results["alone", optimizer] = steps
    torch.save(results, folder / f"{size}-{rank}.pt")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    """Run all cases with every number of processes, one number after the other."""
    setups = prepare_all(folder)
    for size in SIZES:
        children = [fork(run_process, rank, size, folder, setups) for rank in range(size)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(codes):
            sys.exit(f"{size} processes: exit codes {codes}")


def fork(function, *arguments) -> int:
    """Call a function in a copy of this process; return the copy's number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        function(*arguments)
        code = 0
    except Exception:  # noqa: BLE001 - a copy of the process must not go on with its work
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of each process, ``[processes][rank]``."""
    folder = tmp_path_factory.mktemp("processes")
    process = start_process(main, folder)
    process.join(200)
    assert process.exitcode == 0
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in SIZES
    }


@pytest.mark.parametrize("name", AGREE, ids=" ".join)
def test_steps_are_the_same_for_any_number_of_processes(results, name):
    expected = results[1][0][name]
    for size in (2, 3) if name in AGREE_OF_TWO else (3,):
        for result in results[size]:
            got = result[name]
            torch.testing.assert_close(got["weights"], expected["weights"], atol=1e-12, rtol=0)
            torch.testing.assert_close(got["reports"], expected["reports"], atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_steps_without_dropout_are_those_of_a_process_without_torchrun(results, optimizer):
    expected = results[1][0]["alone", optimizer]
    for size in (1, 3):
        got = results[size][0]["language model", optimizer]
        torch.testing.assert_close(got["weights"], expected["weights"], atol=1e-12, rtol=0)
        torch.testing.assert_close(got["reports"], expected["reports"], atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("name", PARTS, ids=" ".join)
def test_processes_with_parts_of_a_model_take_the_steps_of_those_with_all_of_it(results, name):
    expected = results[1][0][name[1:]]
    for size in SIZES[1:3]:
        for result in results[size]:
            got = result[name]
            torch.testing.assert_close(got["weights"], expected["weights"], atol=1e-12, rtol=0)
            torch.testing.assert_close(got["reports"], expected["reports"], atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("name", EQUAL, ids=" ".join)
def test_deterministic_steps_have_the_same_bits_for_any_number_of_processes(results, name):
    expected = results[1][0][name]
    for size in SIZES:
        for result in results[size]:
            assert torch.equal(result[name]["weights"], expected["weights"])
            assert torch.equal(result[name]["reports"], expected["reports"])


@pytest.mark.parametrize("size", SIZES_OF_LOOPS)
def test_every_process_takes_the_same_decisions_in_the_loop(results, size):
    for name in LOOPS:
        for result in results[size]:
            for key in ("step", "plan", "elapsed", "error"):
                assert result[name][key] == results[size][0][name][key]
            assert torch.equal(result[name]["weights"], results[size][0][name]["weights"])


@pytest.mark.parametrize("size", SIZES_OF_LOOPS)
def test_runs_end_at_the_plan_by_patience_or_in_time(results, size):
    first = results[size][0]
    assert first["to its end"]["step"] == 12
    assert first["until patience ends"]["step"] == 4
    assert first["within minutes"]["plan"].count("Revision(") > 1


@pytest.mark.parametrize("size", SIZES_OF_LOOPS)
def test_only_the_first_process_reports(results, size):
    numbers = [result["to its end"]["num_reported"] for result in results[size]]
    assert numbers[0] >= 6
    assert not any(numbers[1:])


@pytest.mark.parametrize("size", SIZES_OF_LOOPS)
def test_a_row_that_is_not_a_number_ends_all_processes_with_the_same_words(results, size):
    for result in results[size]:
        message = result["with a row that is not a number"]["error"]
        assert "loss is nan at step 3 (batch 3, rows 24-35)" in message
        assert "First not finite: the output of used" in message


@pytest.mark.parametrize("size", SIZES_OF_LOOPS)
def test_parameters_that_are_unused_or_frozen_get_no_gradient(results, size):
    for result in results[size]:
        assert result["to its end"]["unused"] == [True, True, True]
