"""One step of an optimizer: what it changes, and that it waits for its device once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.data.batching import PairBatches, TokenRows
from regard.data.labeled_text import LabeledTextBatches
from regard.data.token_stream import StreamBatches
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.linear import Linear
from regard.layers.lora import add_low_rank
from regard.models import (
    Bert,
    BertConfig,
    Classifier,
    Gpt,
    GptConfig,
    Transformer,
    TransformerConfig,
)
from regard.tasks.classification.loss import ClassificationLoss
from regard.tasks.language_modeling.loss import LanguageModelLoss
from regard.tasks.sequence_to_sequence.loss import TargetLoss
from regard.training.ema import ExponentialMovingAverage
from regard.training.full_batch_step import FullBatchStep, MicroBatches
from regard.training.train_step import Loss, MiniBatchStep, build_optimizers
from regard.training.training_config import OptimizerConfig

VOCABULARY = 50
SIZES = {"dim": 16, "hidden_dim": 32, "num_heads": 2, "dropout": 0.1}


def quadratic(model, batch):
    loss = ((model(batch) - 1) ** 2).mean()
    return Loss(loss=loss, nll=loss.detach(), num_tokens=len(batch))


def build(name="adamw", **settings):
    torch.manual_seed(0)
    model = torch.nn.Sequential(Linear(4, 4), Linear(4, 4))
    config = OptimizerConfig(name=name, learning_rate=0.05, warmup=0.0, **settings)
    return model, MiniBatchStep(model, quadratic, config)


BATCH = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_steps_lower_the_loss(name):
    _, stepper = build(name)
    losses = [float(stepper.step(BATCH, 0.0).loss.nll) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_every_parameter_belongs_to_one_optimizer(name):
    model, stepper = build(name)
    owned = [
        id(parameter)
        for optimizer in stepper.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())


def test_muon_without_a_matrix_leaves_all_to_adamw():
    """Adapters of rank 1 are vectors."""
    model = torch.nn.Sequential(Linear(4, 4)).requires_grad_(False)
    add_low_rank(model, rank=1, alpha=1.0)
    stepper = MiniBatchStep(model, quadratic, OptimizerConfig(name="muon", learning_rate=0.05))
    losses = [float(stepper.step(BATCH, 0.5).loss.nll) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert sum(len(group["params"]) for group in stepper.optimizers[0].param_groups) == 0


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_a_restored_state_continues_to_the_same_bits(name):
    model, stepper = build(name)
    for _ in range(3):
        stepper.step(BATCH, 0.1)
    copy, second = build(name)
    copy.load_state_dict(model.state_dict())
    second.load({key: value.clone() for key, value in stepper.state().items()})
    for _ in range(3):
        stepper.step(BATCH, 0.2)
        second.step(BATCH, 0.2)
    for first, again in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(first, again)


def test_a_gradient_that_is_not_finite_changes_no_weight():
    model, stepper = build()
    before = [parameter.clone() for parameter in model.parameters()]
    norm = stepper.step(BATCH * float("inf"), 0.0).gradient_norm
    assert not norm < float("inf")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_gradient_is_clipped_to_the_norm_asked_for():
    model, stepper = build(clip=1e-3)
    norm = stepper.step(BATCH, 0.0).gradient_norm
    clipped = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    assert norm > 0.1
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def test_an_optimizer_that_takes_no_steps_on_batches_is_refused():
    config = OptimizerConfig(name="cg", learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"optimizer\.name=cg: takes no steps on batches"):
        build_optimizers(Linear(3, 3), config, torch.float32)


def test_an_optimizer_on_batches_needs_a_learning_rate():
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate=none: adamw needs one"):
        build_optimizers(Linear(3, 3), OptimizerConfig(name="adamw"), torch.float32)


def rows(lengths):
    """Return rows of token ids, 3 or more."""
    generator = np.random.default_rng(0)
    return TokenRows([generator.integers(3, VOCABULARY, length).tolist() for length in lengths])


class Stream:
    """A stream of tokens."""

    ids = np.random.default_rng(0).integers(3, VOCABULARY, 100).astype(np.int32)

    def __len__(self):
        return len(self.ids)


def translator(*, has_copy=False):
    config = TransformerConfig(
        num_encoder_layers=1, num_decoder_layers=1, has_copy=has_copy, **SIZES
    )
    batches = PairBatches(rows([5, 7, 9]), rows([4, 6, 6]), batch_tokens=64, seed=1)
    return Transformer(config, VOCABULARY, AttentionConfig()), batches, TargetLoss(0.1)


def copying_translator():
    return translator(has_copy=True)


def language_model():
    model = Gpt(GptConfig(num_layers=1, **SIZES), VOCABULARY, AttentionConfig())
    return model, StreamBatches(Stream(), length=24, batch_tokens=72), LanguageModelLoss(0.0)


def classifier():
    encoder = Bert(BertConfig(num_layers=1, **SIZES), VOCABULARY, AttentionConfig())
    batches = LabeledTextBatches(rows([5, 7, 9]), [0, 1, 1], batch_tokens=64)
    return Classifier(encoder, num_labels=2), batches, ClassificationLoss(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("build", [translator, copying_translator, language_model, classifier])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_step_waits_once(build, optimizer):
    torch.manual_seed(0)
    model, batches, loss = build()
    order = batches.in_sequence()
    with PretendedGpu() as gpu:
        model.to(DEVICE).train()
        average = ExponentialMovingAverage(model, 0.9)
        config = OptimizerConfig(name=optimizer, learning_rate=0.01, warmup=0.0)
        stepper = MiniBatchStep(model, loss, config)
        stepper.step(batches.batch(order[0]), 0.0)  # makes the state of the optimizer
        gpu.waits.clear()
        output = stepper.step(batches.batch(order[-1]), 0.0)
        average.update(4)
        waits = list(gpu.waits)
    assert [wait.partition(" ")[2].split(":")[0] for wait in waits] == ["at training/train_step.py"]
    # The figures that the loop looks at are in main memory.
    assert output.loss.nll.device == output.gradient_norms.device == torch.device("cpu")
    assert float(output.loss.nll) > 0
    assert output.gradient_norm == pytest.approx(float(output.gradient_norms.norm()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cg", "lbfgs"])
def test_a_step_of_all_rows_waits_once_an_evaluation_and_once_for_its_figures(name):
    torch.manual_seed(0)
    model, batches, loss = translator()
    with PretendedGpu() as gpu:
        model.to(DEVICE).train()
        config = OptimizerConfig(name=name)
        stepper = FullBatchStep(model, loss, config, MicroBatches(batches), torch.manual_seed)
        for number in range(4):
            gpu.waits.clear()
            output = stepper.step(None, 0.0)
            if number:  # the first step also guesses its length, and evaluates its start twice
                assert len(gpu.waits) == stepper.optimizer.last.evaluations + 1
    assert output.loss.nll.device == output.gradient_norms.device == torch.device("cpu")


@pytest.mark.parametrize("build", [translator, copying_translator, language_model, classifier])
def test_a_step_there_equals_one_on_the_cpu(build):
    weights = []
    for is_there in (False, True):
        torch.manual_seed(0)
        model, batches, loss = build()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # whose masks differ
        with PretendedGpu():
            model.to(DEVICE if is_there else "cpu").train()
            # AdamW would scale up what is rounding alone, such as the gradient of a key's bias.
            config = OptimizerConfig(name="sgd", learning_rate=0.01, warmup=0.0)
            stepper = MiniBatchStep(model, loss, config)
            for numbers in batches.in_sequence():
                stepper.step(batches.batch(numbers), 0.0)
            weights.append([weight.detach().cpu() for weight in model.parameters()])
    for on_cpu, there in zip(*weights, strict=True):
        torch.testing.assert_close(there, on_cpu, rtol=1e-4, atol=1e-5)


def test_labels_are_taken_as_a_mask_takes_them():
    from regard.training.token_loss import _LabeledPositions

    labels = torch.tensor([[3, 0, 5], [0, 0, 7]])
    x = torch.randn(2, 3, 4, requires_grad=True)
    taken = _LabeledPositions(labels, 0, x.device)
    assert torch.equal(taken(x), x[labels != 0])
    assert taken(labels).tolist() == [3, 5, 7]
    (gradient,) = torch.autograd.grad((taken(x) ** 2).sum(), x)
    (expected,) = torch.autograd.grad((x[labels != 0] ** 2).sum(), x)
    assert torch.equal(gradient, expected)
