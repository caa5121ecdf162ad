"""Batches for a GPU are built in a thread, one ahead, and are what they are without it."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest
import torch
from tests.pretended_gpu import DEVICE, PretendedGpu
from tests.training.test_train_step import rows, translator
from torch import Tensor

from regard.data.batching import PairBatches
from regard.training.checkpoint import Counters
from regard.training.device import pin_batch
from regard.training.ema import ExponentialMovingAverage
from regard.training.loop import Evaluation, Trainer
from regard.training.plan import Plan
from regard.training.prefetch import Prefetcher
from regard.training.shards import Shard, ShardedBatch
from regard.training.train_step import MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ORDER = [np.array([number]) for number in range(6)]


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("regard-batches")]


class Builder:
    """Builds a batch from its number, and remembers where."""

    def __init__(self, bad=None):
        self.bad, self.built, self.names = bad, [], []

    def __call__(self, numbers):
        self.built.append(int(numbers[0]))
        self.names.append(threading.current_thread().name)
        if self.built[-1] == self.bad:
            raise ValueError("row 3 cannot be read")
        return f"batch {numbers[0]}"


def pairs():
    return zip(ORDER, [*ORDER[1:], None], strict=True)


def test_batches_come_in_order_and_one_is_built_ahead():
    builder = Builder()
    with Prefetcher(builder, DEVICE) as prefetcher:
        for number, (numbers, following) in enumerate(pairs()):
            assert prefetcher.batch(numbers, following) == f"batch {number}"
            assert number + 1 <= len(builder.built) <= number + 2
    assert builder.built == [0, 1, 2, 3, 4, 5]
    assert all(name.startswith("regard-batches") for name in builder.names)
    assert threads() == []


def test_for_a_cpu_they_are_built_when_they_are_asked_for():
    builder = Builder()
    with Prefetcher(builder, CPU) as prefetcher:
        for number, (numbers, following) in enumerate(pairs()):
            prefetcher.batch(numbers, following)
            assert len(builder.built) == number + 1
    assert set(builder.names) == {threading.current_thread().name}


def test_a_batch_other_than_the_expected_one_is_built():
    builder = Builder()
    with Prefetcher(builder, DEVICE) as prefetcher:
        prefetcher.batch(ORDER[0], ORDER[1])
        assert prefetcher.batch(ORDER[4], None) == "batch 4"


def test_what_is_raised_in_the_thread_is_raised_at_its_turn():
    builder = Builder(bad=3)
    with Prefetcher(builder, DEVICE) as prefetcher:
        for numbers, following in list(pairs())[:3]:
            prefetcher.batch(numbers, following)
        with pytest.raises(ValueError, match=r"^row 3 cannot be read$"):
            prefetcher.batch(ORDER[3], ORDER[4])
    assert threads() == []


def test_an_interrupt_leaves_no_thread():
    with pytest.raises(KeyboardInterrupt), Prefetcher(Builder(), DEVICE) as prefetcher:
        prefetcher.batch(ORDER[0], ORDER[1])
        raise KeyboardInterrupt
    assert threads() == []


class Record(msgspec.Struct, frozen=True):
    """A batch whose labels stay in main memory."""

    on_host = frozenset({"labels"})

    ids: Tensor
    labels: Tensor
    rows: list


def test_for_cuda_batches_are_pinned_but_for_what_stays_in_main_memory(monkeypatch):
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x + 100)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    record = Record(torch.arange(3), torch.arange(3), [7])
    pinned = pin_batch(record)
    assert pinned.ids.tolist() == [100, 101, 102]
    assert pinned.labels is record.labels
    assert pinned.rows == [7]
    sharded = ShardedBatch([Shard(4, record)])
    with Prefetcher(lambda _: sharded, CUDA) as prefetcher:
        (shard,) = prefetcher.batch(ORDER[0], None).shards
    assert shard.index == 4
    assert shard.batch.ids.tolist() == [100, 101, 102]


def train(folder, num_steps):
    """Train a translator there; return its weights."""
    torch.manual_seed(0)
    model, _, loss = translator()
    batches = PairBatches(rows(range(3, 15)), rows(range(3, 15)), batch_tokens=32, seed=1)
    assert len(batches.order(0)) == 5
    with PretendedGpu():
        model.to(DEVICE).train()
        config = OptimizerConfig(name="sgd", learning_rate=1e-3, warmup=0.0)
        trainer = Trainer(
            model=model,
            average=ExponentialMovingAverage(model, 0.0),
            stepper=MiniBatchStep(model, loss, config),
            batches=batches,
            evaluate=lambda _: Evaluation(measures={"loss": 1.0}, score_name="loss", is_loss=True),
            save_best=lambda _: None,
            seed_dropout=torch.manual_seed,
            describe_rows=str,
            config=TrainingConfig(patience=10_000),
            folder=folder,
            on_event=lambda _: None,
            budget=None,
            start_time=0.0,
        )
        trainer.run(Counters(plan=Plan.from_start(num_steps, evaluate_every=num_steps)))
        return {name: value.cpu() for name, value in model.state_dict().items()}


@pytest.mark.slow
def test_a_run_that_builds_ahead_ends_with_the_same_bits(tmp_path, monkeypatch):
    ahead = train(tmp_path, 7)
    assert threads() == []
    monkeypatch.setattr(Prefetcher, "__enter__", lambda self: self)
    in_place = train(tmp_path, 7)
    assert ahead.keys() == in_place.keys()
    assert all(torch.equal(ahead[name], in_place[name]) for name in ahead)
