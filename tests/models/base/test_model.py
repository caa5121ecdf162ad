"""What a model prints: one screen that says what it is."""

from __future__ import annotations

import torch

from regard.layers.attention_config import AttentionConfig
from regard.models import GptConfig, TransformerConfig, make_model


def test_a_model_prints_its_size_dimensions_patterns_type_and_device():
    config = GptConfig(num_layers=2, dim=16, num_heads=2, hidden_dim=32)
    model = make_model(config, 50, AttentionConfig(decoder="local:4"))
    text = repr(model)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert text.startswith(f"Gpt(\n  parameters: {num_parameters:,}\n  config: GptConfig(")
    assert "num_layers=2, dim=16" in text
    assert "Local" in text
    assert text.endswith("  type: float32 on cpu\n)")
    assert text.count("\n") == 5


def test_frozen_weights_other_types_and_the_meta_device_show():
    with torch.device("meta"):
        sizes = TransformerConfig(
            num_encoder_layers=1, num_decoder_layers=1, dim=16, num_heads=2, hidden_dim=32
        )
        model = make_model(sizes, 50, AttentionConfig())
    model.to(torch.bfloat16)
    next(model.parameters()).requires_grad_(False)
    assert " trained)" in repr(model)
    assert "type: bfloat16 on meta" in repr(model)
    assert "nn.Module" not in repr(model)
    assert len(torch.nn.Module.__repr__(model).splitlines()) > 20
