"""The types that activations are computed in."""

import torch

from regard.training.precision import compute_dtype


def test_a_precision_is_a_type_of_activations():
    assert compute_dtype("bf16") == torch.bfloat16
    assert compute_dtype("float32") == torch.float32
