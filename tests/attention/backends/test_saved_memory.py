"""The memory that is predicted of a call of `attend` beside what autograd really keeps."""

import pytest
import torch

from regard.attention import (
    Causal,
    Full,
    Hierarchical,
    Local,
    TopK,
    attend,
    peak_saved_bytes,
    saved_bytes,
)
from regard.attention.backends.cpu_kernels import instructions

ROWS, HEADS, DIM = 2, 2, 4


def really_kept(pattern, length, dtype, lengths):
    """Sum the storages that autograd saves, for each head of each row."""
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    inputs = [
        torch.randn(ROWS, HEADS, length, DIM, dtype=dtype, requires_grad=True) for _ in range(3)
    ]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(*inputs, pattern=pattern, lengths=lengths)
    return sum(size for size, _ in found.values()) / (ROWS * HEADS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [200, 500, 800])
@pytest.mark.parametrize(
    "pattern",
    [Full(), Causal(), Local(8, 8), TopK(8), Hierarchical(16), Hierarchical(64)],
    ids=repr,
)
def test_what_is_kept_is_what_is_predicted(pattern, length, dtype):
    lengths = (None, torch.tensor([length, length - 3]))
    if isinstance(pattern, Hierarchical):
        lengths = None
    predicted = saved_bytes(pattern, length, length, itemsize=dtype.itemsize)
    found = really_kept(pattern, length, dtype, lengths)
    # Beside it there are masks, a byte a pair for all heads, and what grows with the length alone.
    assert found <= 1.1 * predicted + length**2 / HEADS + 40 * DIM * length * dtype.itemsize
    assert found >= 0.3 * predicted


def test_long_texts_keep_nothing_by_pair_unless_keys_are_chosen_by_score():
    assert saved_bytes(Full(), 8192, 8192) == 0
    assert saved_bytes(TopK(16), 8192, 8192) == 8 * 8192**2


def test_a_token_of_a_shorter_text_may_keep_more():
    assert peak_saved_bytes(Full(), 100) == 8 * 100
    assert peak_saved_bytes(Full(), 8192) == 8 * (511 if instructions() is None else 127)
    assert peak_saved_bytes(Full(), 8192, is_plain=False) == 8 * 511
    assert peak_saved_bytes(TopK(4), 8192) == 8 * 8192
