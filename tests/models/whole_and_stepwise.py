"""What every encoder-decoder keeps to, however it reads: steps, padding, gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regard.models import EncoderDecoder


def assert_decodes_as_it_reads(
    model: EncoderDecoder[Any], source: Tensor, target: Tensor, *, select_at: int
) -> None:
    """Decode two texts token by token as in one pass; on the way rows are reordered and repeated.

    Args:
        model: In float64.
        source: ``[2, source_length]``.
        target: ``[2, length]``.
        select_at: Step before which the rows change.
    """
    whole = model(source, target)
    state, rows = model.init_state(source), torch.arange(2)
    for place in range(target.shape[1]):
        if place == select_at:
            rows = torch.tensor([1, 0, 1])
            state.select(rows)
        logits = model.decode_step(target[rows, place], state)
        torch.testing.assert_close(logits, whole[rows, place], rtol=0, atol=1e-12)


def assert_padding_changes_nothing(
    model: EncoderDecoder[Any], source: Tensor, target: Tensor, *, length: int
) -> None:
    """Compare the second text, of which `length` source tokens are no padding, with it alone."""
    alone = model(source[1:, :length], target[1:])
    torch.testing.assert_close(model(source, target)[1:], alone, rtol=0, atol=1e-12)


def assert_every_parameter_gets_a_gradient(
    model: EncoderDecoder[Any], source: Tensor, target: Tensor
) -> None:
    """Take the gradient in training; none is zero everywhere."""
    model.train()
    model(source, target).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
