"""The benchmark of methods that see all rows runs, and its tasks are what they say."""

import pytest
import torch
from benchmarks.full_batch import addition, main, new_model, reversal


@pytest.mark.slow
def test_a_small_run_prints_every_case(capsys):
    main(["--small", "--seeds", "0"])
    printed = capsys.readouterr().out
    for case in ("reversal", "addition", "overhead", "Adam, rate 0.01", "newton-cg, damped"):
        assert case in printed


def test_the_labels_of_reversal_are_the_sources_backwards():
    task = reversal(4, 0)
    assert torch.equal(task.labels, task.sources.flip(1))
    assert torch.equal(task.inputs[:, 1:], task.labels[:, :-1])


def test_the_labels_of_addition_are_the_sums():
    task = addition(50, 0)
    digits = task.sources - 3
    first = digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2]
    second = digits[:, 4] * 100 + digits[:, 5] * 10 + digits[:, 6]
    places = torch.tensor([1, 10, 100, 1000])
    assert torch.equal(((task.labels - 3) * places).sum(1), first + second)


def test_the_model_has_about_a_hundred_thousand_parameters():
    count = sum(parameter.numel() for parameter in new_model(0, 40).parameters())
    assert 80_000 < count < 120_000
