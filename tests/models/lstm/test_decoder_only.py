"""The decoder of the LSTM alone, as a language model."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from regard.models import LstmConfig, LstmDecoder

VOCAB = 20
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11], [1, 12, 13, 4, 4, 14, 3, 9]])
CLOSE = {"rtol": 0, "atol": 1e-12}


def test_a_recurrent_language_model_equals_its_definition():
    torch.manual_seed(0)
    model = LstmDecoder(LstmConfig(num_decoder_layers=1, dim=8), VOCAB).double().eval()
    model.compute_dtype = torch.float64
    lstm: Any = model.blocks[0].lstm
    hidden = cell = torch.zeros(2, 8, dtype=torch.float64)
    rows = []
    for ids in IDS.unbind(1):
        x = F.embedding(ids, model.output_weight) * math.sqrt(8)
        i, f, g, o = (lstm.input(x) + lstm.recurrent(hidden)).chunk(4, dim=-1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        rows.append(model.readout(hidden).tanh() @ model.output_weight.T)
    torch.testing.assert_close(model(IDS), torch.stack(rows, dim=1), **CLOSE)
