"""The rows of a process are computed at once where no mask of dropout depends on that."""

from __future__ import annotations

import pytest
import torch
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.models import Transformer, TransformerConfig
from regard.training.shards import is_joinable


@pytest.mark.parametrize(
    ("device", "dropout", "expected"),
    [("cpu", 0.1, True), ("cpu", 0.0, True), (DEVICE, 0.1, False), (DEVICE, 0.0, True)],
)
def test_shards_are_joined_on_a_cpu_and_elsewhere_without_dropout(device, dropout, expected):
    config = TransformerConfig(
        num_encoder_layers=1, num_decoder_layers=1, dim=8, num_heads=2, dropout=dropout
    )
    with PretendedGpu():
        model = Transformer(config, 20).to(torch.device(device))
        assert is_joinable(model, batches=None) is expected
