"""The memory that a run is predicted to need, and what is advised where it does not fit."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from regard.attention import Full
from regard.attention.backends import saved_memory as keeping
from regard.cli.wording import error_text
from regard.errors import ResourceError
from regard.layers.attention_config import AttentionConfig
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.setup import estimate as planning
from regard.setup.estimate import predict_memory_bytes, require_memory

CONFIG = TransformerConfig(num_encoder_layers=2, num_decoder_layers=2, dim=64, num_heads=4)
MODEL = Transformer(CONFIG, 50)
NOW = 10**9


def prepared(attention, batch_tokens, length):
    """What of a prepared run decides its memory."""
    return cast(
        Any,
        SimpleNamespace(
            model=MODEL,
            config=SimpleNamespace(
                attention=attention, training=SimpleNamespace(batch_tokens=batch_tokens)
            ),
            batches=SimpleNamespace(longest=length),
        ),
    )


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Two gigabytes are free, one is taken."""
    monkeypatch.setattr(planning, "peak_memory_bytes", lambda: NOW)
    monkeypatch.setattr(planning, "available_memory_bytes", lambda: 2 * NOW)


@pytest.fixture
def kernels(monkeypatch):
    """Predict as where attention's kernels are compiled."""
    monkeypatch.setattr(keeping, "instructions", lambda: "avx2")


def refusal(attention, batch_tokens, length):
    with pytest.raises(ResourceError) as raised:
        require_memory(prepared(attention, batch_tokens, length))
    return error_text(raised.value)


def test_attention_that_keeps_every_pair_is_told_with_what_keeps_less(kernels):
    attention = AttentionConfig(pattern="top_k:16", cross=("top_k:8", "local:9"))
    assert refusal(attention, 4096, 4096) == (
        "needs about 3.8 GB, 2 GB are free (attention encoder top_k:16, decoder top_k:16, "
        "cross top_k:8 / local:9 at length 4,096).  Fits: --set attention.pattern=local:512 --set "
        "attention.cross=full (1.2 GB)."
    )


def test_a_large_batch_is_told_with_a_smaller_one(kernels):
    assert refusal(AttentionConfig(), 100_000, 200) == (
        "needs about 5.9 GB, 2 GB are free (batch of 100,000 tokens).  "
        "Fits: --set training.batch_tokens=12500 (1.6 GB)."
    )


def test_both_are_told_where_both_fit(kernels):
    assert refusal(AttentionConfig(pattern="top_k:4"), 6000, 2048) == (
        "needs about 2.8 GB, 2 GB are free (attention top_k:4 at length 2,048).  "
        "Fits: --set attention.pattern=local:512 (1.3 GB) or --set training.batch_tokens=3000 "
        "(1.9 GB)."
    )


def test_a_smaller_model_is_advised_where_nothing_else_fits():
    assert refusal(AttentionConfig(), 100_000_000, 200_000).endswith(
        "are free (batch of 100,000,000 tokens).  Smaller: --preset tiny"
    )


def test_what_is_advised_is_accepted(kernels):
    require_memory(prepared(AttentionConfig(pattern="local:512"), 6000, 2048))
    require_memory(prepared(AttentionConfig(pattern="top_k:4"), 3000, 2048))
    require_memory(prepared(AttentionConfig(), 12500, 200))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["full", "local:64", "top_k:8"])
@pytest.mark.parametrize("length", [200, 600])
def test_a_step_keeps_about_what_is_predicted(pattern, length):
    attention = AttentionConfig(pattern=pattern, cross=pattern)
    config = TransformerConfig(
        num_encoder_layers=2, num_decoder_layers=2, dim=64, hidden_dim=256, num_heads=4, dropout=0.0
    )
    model = Transformer(config, 50, attention)
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(3, 50, (2, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.hidden_states(ids, ids)
    kept = sum(size for size, _ in found.values())
    predicted = predict_memory_bytes(model, attention, 2 * length, length) - NOW
    predicted -= 16 * sum(parameter.numel() for parameter in model.parameters())
    # The prediction is of batches of shorter sentences, which are computed by the definition.
    if pattern != "top_k:8" and keeping.saved_bytes(Full(), length, length) == 0:
        predicted = 24 * 64 * 4 * 4 * 2 * length
    assert 0.5 * predicted < kept < 1.1 * predicted  # what is passing, and dropout, is left out
