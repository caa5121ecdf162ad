"""The loss of no task waits for the device in a training step, forward and backward.

Its value and gradient are those of the CPU, and all of it has a method in a fixed order there. A
batch comes in main memory, where lengths and labels are looked at.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.contracts import test_decoders, test_encoders, test_families
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.data.batching import Batch
from regard.data.labeled_inputs import InputBatch
from regard.data.labeled_text import LabeledTextBatch
from regard.data.token_stream import TextBatch
from regard.models import PatchTst, PatchTstConfig, SpanModel, Vit, VitConfig
from regard.models.base.classifier import Classifier
from regard.tasks.classification.loss import ClassificationLoss
from regard.tasks.forecasting.loss import QuantileLoss
from regard.tasks.forecasting.series_windows import SeriesWindowBatch
from regard.tasks.language_modeling.loss import LanguageModelLoss
from regard.tasks.masked_language_modeling.loss import MaskedTokenLoss
from regard.tasks.multi_label_classification.loss import MultiLabelLoss
from regard.tasks.question_answering.loss import SpanLoss
from regard.tasks.question_answering.text_windows import TextWindowBatch
from regard.tasks.sequence_to_sequence.loss import TargetLoss

ROWS = np.arange(3)
LABELS = torch.tensor([0, 2, 1])
IDS = test_encoders.IDS
SMALL = {"num_layers": 1, "dim": 16, "num_heads": 2, "hidden_dim": 32}


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def translation(family, coverage=0.0):
    target = test_families.TARGET
    batch = Batch(
        source_ids=test_families.SOURCE, target_ids=target, labels=target.roll(-1, 1), rows=ROWS
    )
    return TargetLoss(0.1, coverage=coverage), test_families.build(family), batch


def language_modeling(family):
    ids = test_decoders.IDS
    batch = TextBatch(ids=ids, labels=ids.roll(-1, 1), rows=np.arange(len(ids)))
    return LanguageModelLoss(0.1), test_decoders.build(family), batch


def masked_language_modeling():
    labels = torch.where(torch.arange(7) % 2 == 0, IDS, -1)
    return (
        MaskedTokenLoss(0.1),
        test_encoders.build("bert"),
        TextBatch(ids=IDS, labels=labels, rows=ROWS),
    )


def text_classification(pooling):
    encoder = test_encoders.build("bert", pooling=pooling, has_mlm_head=False)
    model = Classifier(encoder, 3)
    return ClassificationLoss(0.1), model, LabeledTextBatch(ids=IDS, labels=LABELS, rows=ROWS)


def texts_with_several_labels():
    model = Classifier(test_encoders.build("bert", has_mlm_head=False), 2)
    labels = torch.tensor([[0, 1], [1, 1], [0, 0]])
    return MultiLabelLoss(0.0), model, LabeledTextBatch(ids=IDS, labels=labels, rows=ROWS)


def question_answering():
    encoder = test_encoders.build("bert", has_mlm_head=False)
    batch = TextWindowBatch(
        ids=IDS,
        lengths=torch.tensor(test_encoders.LENGTHS),
        segments=None,
        roles=torch.where(IDS == 0, -1, IDS % 3),
        is_context=IDS > 0,
        starts=torch.tensor([2, 1, 0]),
        ends=torch.tensor([3, 1, 0]),
        rows=ROWS,
    )
    return SpanLoss(0.1), SpanModel(encoder, has_roles=True), batch


def sounds():
    model = Vit(VitConfig(**SMALL, input="features", num_features=4, num_labels=3))
    inputs = InputBatch(
        inputs=draw(3, 8, 4), lengths=torch.tensor([8, 5, 2]), labels=LABELS, rows=ROWS
    )
    return ClassificationLoss(0.1), model, inputs


def images():
    model = Vit(VitConfig(**SMALL, height=8, width=8, patch_height=4, patch_width=4, num_labels=3))
    inputs = InputBatch(inputs=draw(3, 3, 8, 8), lengths=None, labels=LABELS, rows=ROWS)
    return ClassificationLoss(0.1), model, inputs


def forecasting():
    sizes = {"window": 8, "horizon": 3, "patch": 2, "scaled_steps": 8}
    model = PatchTst(PatchTstConfig(**SMALL, **sizes, num_members=2))
    targets = draw(3, 3)
    targets[1, 2] = torch.nan
    batch = SeriesWindowBatch(
        values=draw(3, 8),
        is_missing=torch.zeros(3, 8, dtype=torch.bool),
        calendar=torch.zeros(3, 6, 0),
        known=torch.zeros(3, 11, 0),
        observed=torch.zeros(3, 8, 0),
        targets=targets,
    )
    return QuantileLoss(), model, batch


TASKS = {
    "translation": lambda: translation("transformer"),
    "translation with coverage": lambda: translation(test_families.COPYING, coverage=0.5),
    "language modeling": lambda: language_modeling("gpt"),
    "masked language modeling": masked_language_modeling,
    "texts by their first token": lambda: text_classification("first"),
    "texts by their mean": lambda: text_classification("mean"),
    "texts with several labels": texts_with_several_labels,
    "question answering": question_answering,
    "sounds": sounds,
    "images": images,
    "forecasting": forecasting,
}


def step(loss_function, model, batch):
    """Return the loss of a step, and the gradient of every weight that has one."""
    model.zero_grad(set_to_none=True)
    loss = loss_function(model, batch)
    loss.loss.backward()
    return loss, [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_waits_for_nothing_and_is_that_of_the_cpu(task):
    loss_function, model, batch = TASKS[task]()
    model = model.double().eval()  # dropout draws other masks there
    expected, of_cpu = step(loss_function, copy.deepcopy(model), batch)
    with PretendedGpu() as gpu:
        model = model.to(DEVICE)
        for repeats_its_bits in (True, False):
            gpu.waits.clear()
            torch.use_deterministic_algorithms(repeats_its_bits)
            try:
                loss, gradients = step(loss_function, model, batch)
            finally:
                torch.use_deterministic_algorithms(False)
            assert gpu.waits == []
            assert loss.num_tokens == expected.num_tokens
            assert loss.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
            for there, here in zip(gradients, of_cpu, strict=True):
                torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-8)
