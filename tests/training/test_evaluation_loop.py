"""An evaluation is timed until the device has computed it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from regard.training import evaluation_loop
from regard.training.evaluation_loop import time_evaluation


class Clock:
    """A device that computes when it is waited for, a second a batch, and the time."""

    def __init__(self):
        self.now, self.num_asked = 0.0, 0

    def perf_counter(self):
        return self.now

    def compute(self, model, batch):
        self.num_asked += 1

    def finish_work(self, device):
        assert device == torch.device("cpu")
        self.now, self.num_asked = self.now + self.num_asked, 0


class Batches:
    def in_sequence(self):
        return list(np.arange(12).reshape(6, 2))

    def batch(self, rows):
        return rows


def test_an_evaluation_is_timed_until_its_last_batch_is_computed(monkeypatch):
    clock, model = Clock(), nn.Linear(1, 1)
    model.compute_dtype = torch.float32
    monkeypatch.setattr(evaluation_loop, "time", clock)
    monkeypatch.setattr(evaluation_loop, "finish_work", clock.finish_work)
    assert time_evaluation(clock.compute, model, Batches()) == 6.0  # without the first, slower one
