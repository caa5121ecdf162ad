"""A run whose numbers cease to be finite ends with batch, lines, layer, and its last good state."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from regard.cli.wording import error_text
from regard.data.parallel_corpus import ParallelCorpus
from regard.errors import WeightsError
from regard.tasks.translation.data import TranslationData
from regard.training.checkpoint import Counters, checkpoint_path, load_checkpoint, save_checkpoint
from regard.training.ema import ExponentialMovingAverage
from regard.training.events import Warned
from regard.training.loop import Evaluation, Trainer
from regard.training.non_finite import find_non_finite_output, find_non_finite_weights
from regard.training.plan import Plan
from regard.training.train_step import Loss, MiniBatchStep
from regard.training.training_config import OptimizerConfig, TrainingConfig


class Block(nn.Module):
    """A linear map under the name of a feed-forward network."""

    def __init__(self):
        super().__init__()
        self.feed_forward = nn.Linear(2, 2)

    def forward(self, x):
        return self.feed_forward(x)


class Model(nn.Module):
    """Two blocks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        for block in self.decoder:
            x = block(x)
        return x


class Rows:
    """Two rows a batch, in the order of the file."""

    def __init__(self, values):
        self.values = values

    def order(self, epoch):
        return list(np.arange(len(self.values)).reshape(-1, 2))

    def batch(self, rows):
        return self.values[rows]


def squares(model, batch):
    loss = (model(batch) ** 2).mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=len(batch))


def infinite_slope(model, batch):
    """Add a square root, whose gradient at 0 is infinite, where the batch holds a 7."""
    loss = squares(model, batch)
    edge = (model.decoder[1].feed_forward.weight - model.decoder[1].feed_forward.weight).sum()
    total = loss.loss + (edge.sqrt() if bool((batch == 7).any()) else 0)
    return Loss(loss=total, nll=loss.nll, num_tokens=2)


def corpus(lines, *, is_generated=False):
    texts = ["x"] * len(lines)
    pairs = ParallelCorpus(path="pairs.tsv", sources=texts, targets=texts, lines=lines)
    return TranslationData(
        path="pairs.tsv",
        train=pairs,
        valid=pairs,
        test=pairs,
        dropped=[],
        languages="",
        is_generated=is_generated,
    )


def run(folder, values, *, objective=squares, rate=0.01, epochs=1, evaluate_every=100):
    """Train on rows of two numbers; return the events, and the trainer's model."""
    (folder / "checkpoints").mkdir(parents=True)
    model, events = Model(), []
    average = ExponentialMovingAverage(model, 0.9)
    config = OptimizerConfig(name="adamw", learning_rate=rate, warmup=0.0, schedule="constant")
    stepper = MiniBatchStep(model, objective, config)
    trainer = Trainer(
        model=model,
        average=average,
        stepper=stepper,
        batches=Rows(values),
        evaluate=lambda _: Evaluation(measures={"loss": 1.0}, score_name="loss"),
        save_best=lambda _: None,
        seed_dropout=lambda _: None,
        describe_rows=corpus([10 * row + 3 for row in range(len(values))]).locate,
        config=TrainingConfig(),
        folder=folder,
        on_event=events.append,
        budget=None,
        start_time=time.monotonic(),
    )
    counters = Counters(
        plan=Plan.from_start(epochs * len(values) // 2, evaluate_every=evaluate_every)
    )
    save_checkpoint(folder, counters, model, average, stepper)
    trainer.run(counters)
    return model, events


def refused(folder, values, **settings):
    with pytest.raises(WeightsError) as raised:
        run(folder, values, **settings)
    return error_text(raised.value)


def saved(folder):
    """Load a checkpoint; return its counters and model."""
    model = Model()
    config = OptimizerConfig(name="adamw", learning_rate=0.01)
    stepper = MiniBatchStep(model, squares, config)
    return load_checkpoint(folder, model, ExponentialMovingAverage(model, 0.9), stepper), model


ADVICE = "Try, with another -o: --set optimizer.learning_rate=0.0033 --set optimizer.clip=0.5"


def test_a_loss_that_is_not_finite_names_lines_layer_and_the_last_good_checkpoint(tmp_path):
    values = torch.ones(10, 2)
    values[7, 1] = math.nan
    message = refused(tmp_path, values)
    assert message == (
        "loss is nan at step 4 (batch 4, lines 63, 73).  Last good: step 3, saved as "
        f"{checkpoint_path(tmp_path)}.  First not finite: the output of decoder.0.ffn.  "
        f"Largest gradient: decoder.1.ffn 0.927 (step 3).  {ADVICE}"
    )
    counters, model = saved(tmp_path)
    assert counters.step == 3
    assert find_non_finite_weights(model) == []


def test_the_checkpoint_holds_the_weights_before_the_step_that_failed(tmp_path):
    values = torch.ones(10, 2)
    sound, _ = run(tmp_path / "sound", values[:6])
    values[6] = math.inf
    refused(tmp_path / "broken", values)
    _, model = saved(tmp_path / "broken")
    pairs = zip(sound.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_a_gradient_that_is_not_finite_names_the_layers_nearest_the_output_first(tmp_path):
    values = torch.ones(10, 2)
    values[3] = 7
    message = refused(tmp_path, values, objective=infinite_slope)
    assert message == (
        "gradient norm is nan at step 2 (batch 2, lines 23, 33).  Last good: step 1, saved as "
        f"{checkpoint_path(tmp_path)}.  Not finite: gradient of decoder.1.ffn.  "
        f"Largest gradient: decoder.1.ffn 1.08 (step 1).  {ADVICE}"
    )


def test_the_first_step_has_no_largest_gradient_to_report(tmp_path):
    message = refused(tmp_path, torch.full((4, 2), math.inf))
    assert "Largest gradient" not in message
    assert "Last good: step 0, saved as" in message


def test_a_later_epoch_is_named(tmp_path):
    values = torch.ones(4, 2)

    numbers = itertools.count(1)

    def fails_later(model, batch):
        loss = squares(model, batch)
        factor = math.inf if next(numbers) == 4 else 1.0
        return Loss(loss=loss.loss, nll=loss.nll * factor, num_tokens=2)

    message = refused(tmp_path, values, objective=fails_later, epochs=3)
    assert "at step 4 (batch 2 of epoch 2, lines 23, 33).  Last good: step 3" in message


def test_weights_that_a_finite_gradient_has_damaged_are_not_saved(tmp_path):
    message = refused(tmp_path, torch.ones(8, 2), rate=3e38, evaluate_every=1)
    assert message.startswith(
        "weights are not finite after step 1.  Last good: step 0, saved as "
        f"{checkpoint_path(tmp_path)}.  Not finite: weights of decoder.0.ffn, decoder.1.ffn.  "
    )
    counters, model = saved(tmp_path)
    assert counters.step == 0
    assert find_non_finite_weights(model) == []


def test_a_loss_that_is_not_finite_by_itself_is_told_from_one_that_a_layer_spoils():
    model, batch = Model(), torch.ones(2, 2)
    sentence = find_non_finite_output(model, lambda: model(batch).sum() * math.inf)
    assert sentence == "First not finite: the loss itself, every layer's output is finite."
    sentence = find_non_finite_output(model, lambda: model(batch).sum())
    assert sentence == "The same batch gives a finite loss when run again: is the memory sound?"
    model.decoder[1].feed_forward.bias.data[0] = math.nan
    sentence = find_non_finite_output(model, lambda: model(batch).sum())
    assert sentence == "First not finite: the output of decoder.1.ffn."
    assert not any(module._forward_hooks for module in model.modules())


def test_an_exploding_gradient_is_reported_while_the_run_goes_on(tmp_path):
    values = torch.ones(200, 2)
    values[120] = 1000
    _, events = run(tmp_path, values, rate=1e-6)
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert warned[0].startswith("Exploding gradient at step 61 (batch 61, lines 1,203, 1,213): ")


def test_a_batch_of_generated_text_is_placed_by_rows():
    assert corpus([4, 8, 15, 16], is_generated=True).locate([0, 3]) == "rows 4, 16"
    assert corpus([4, 8, 15, 16]).locate([2]) == "line 15"
