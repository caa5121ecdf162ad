"""Padding ids within a text: positions are counted as `transformers` counts them."""

from __future__ import annotations

import pytest
import torch

from regard.layers.embedding import count_positions
from regard.tasks.opening import open_published

transformers = pytest.importorskip("transformers")
IDS = torch.tensor([[5, 6, 1, 7, 8, 9, 1, 1], [1, 5, 6, 1, 1, 8, 9, 2], [5, 6, 7, 8, 9, 4, 1, 1]])
LENGTHS = torch.tensor([6, 8, 6])
MASK = (torch.arange(8) < LENGTHS[:, None]).long()
TOLERANCE = {"rtol": 0, "atol": 1e-6}  # of sums of 16 numbers in float32


def test_positions_are_those_of_columns_without_padding():
    assert count_positions(IDS[2:, :6], 1) is None
    assert count_positions(IDS, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Roberta", "XLMRoberta", "Camembert", "Longformer"])
def test_encoders_that_count_after_padding_skip_it_within_a_text(name, tmp_path):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
        pad_token_id=1,
        **({"attention_window": 8} if name == "Longformer" else {}),
    )
    theirs = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(IDS, attention_mask=MASK).logits
        logits = open_published(tmp_path).model(IDS, lengths=LENGTHS)
    is_token = MASK.bool()
    torch.testing.assert_close(logits[is_token], expected[is_token], **TOLERANCE)


@pytest.mark.slow
def test_translators_with_positions_of_fairseq_skip_padding_on_both_sides(tmp_path):
    torch.manual_seed(0)
    config = transformers.M2M100Config(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
    )
    theirs = transformers.M2M100ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    targets = torch.tensor([[2, 5, 1, 7, 8], [2, 6, 7, 8, 9], [2, 9, 9, 4, 3]])
    with torch.no_grad():
        expected = theirs(input_ids=IDS, attention_mask=MASK, decoder_input_ids=targets).logits
        logits = open_published(tmp_path).model(IDS, targets, lengths=LENGTHS)
    torch.testing.assert_close(logits, expected, **TOLERANCE)
