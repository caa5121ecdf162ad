"""Any encoder joined with any decoder: patterns, sizes, masks, memory."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch

from regard.attention import Full, Local
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.dropout import Dropout
from regard.layers.linear import Linear
from regard.layers.longformer_attention import LongformerAttention
from regard.layers.relative_attention import RelativeAttention
from regard.models import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    LongformerConfig,
    MesaNetConfig,
    TransformerXlConfig,
)
from regard.models.encoder_decoder.model import PART_CONFIGS

VOCAB = 20
SMALL = {"num_layers": 3, "dim": 16, "num_heads": 2, "hidden_dim": 24}
NO_PATTERNS = AttentionConfig()
BERT, GPT = BertConfig(**SMALL), GptConfig(**SMALL)
SOURCE = torch.tensor([[5, 6, 7, 8, 9, 2], [9, 4, 2, 0, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12, 4, 7, 8, 3], [1, 13, 14, 15, 9, 8, 2, 6]])


def build(encoder=BERT, decoder=GPT, attention=NO_PATTERNS) -> EncoderDecoderModel:
    torch.manual_seed(0)
    config = EncoderDecoderConfig(encoder=encoder, decoder=decoder)
    model = EncoderDecoderModel(config, VOCAB, attention).double().eval()
    model.compute_dtype = torch.float64
    return model


def write(model: EncoderDecoderModel) -> torch.Tensor:
    """Compute the logits of the target token by token."""
    state = model.init_state(SOURCE)
    return torch.stack([model.decode_step(column, state) for column in TARGET.unbind(1)], dim=1)


def test_every_layer_attends_by_the_patterns_of_its_side():
    model = build(
        LongformerConfig(**SMALL, num_global=0),
        TransformerXlConfig(**SMALL),
        AttentionConfig(encoder=("full", "local:5"), decoder="local:2", cross=("full", "local:4")),
    )
    modules = list(model.modules())
    found = [repr(m.pattern) for m in modules if isinstance(m, LongformerAttention)]
    assert found == [repr(Local(256, 256)), repr(Local(5, 5)), repr(Local(256, 256))]
    found = [m.pattern.terms()[0].before for m in modules if isinstance(m, RelativeAttention)]
    assert found == [2, 2, 2]
    found = [repr(block.cross_attention.pattern) for block in model.decoder_blocks]
    assert found == [repr(Full()), repr(Local(4, 4)), repr(Full())]


def test_an_encoder_may_average_keys_where_the_decoder_does_not():
    model = build(attention=AttentionConfig(pattern="hierarchical:2", decoder="full"))
    assert model(SOURCE, TARGET).isfinite().all()


@pytest.mark.parametrize("name", ["pattern", "decoder"])
def test_a_pattern_is_refused_for_a_decoder_that_has_none(name):
    attention = AttentionConfig(**{name: "local:4"})
    with pytest.raises(ConfigError, match=rf"^attention\.{name}=local:4: mesanet has no attention"):
        build(BERT, MesaNetConfig(**SMALL), attention)


def test_patterns_of_the_source_go_with_a_decoder_that_has_none():
    decoder = MesaNetConfig(**SMALL, solver="none")
    model = build(BERT, decoder, AttentionConfig(encoder="local:1", cross="local:1"))
    torch.testing.assert_close(write(model), model(SOURCE, TARGET), rtol=0, atol=1e-12)
    assert not torch.allclose(model(SOURCE, TARGET), build(decoder=decoder)(SOURCE, TARGET))


def test_sides_may_differ_in_size():
    model = build(decoder=GptConfig(**SMALL | {"dim": 32}))
    assert isinstance(model.encoder_output, Linear)
    assert model.hidden_states(SOURCE, TARGET).shape == (2, 8, 32)
    torch.testing.assert_close(write(model), model(SOURCE, TARGET), rtol=0, atol=1e-12)
    assert not list(build().encoder_output.parameters())


def test_what_reads_no_source_is_left_out():
    encoder = BertConfig(**SMALL, has_mlm_head=True, has_pooler=True)
    names = {name.partition(".")[0] for name, _ in build(encoder).encoder.named_parameters()}
    assert names == {"output_weight", "embedding", "blocks"}


def test_one_seed_draws_the_masks_of_both_sides():
    model = build().train()
    sides = {name.partition(".")[0] for name, m in model.named_modules() if isinstance(m, Dropout)}
    assert sides == {"encoder", "decoder"}
    outputs = [(torch.manual_seed(3), model(SOURCE, TARGET))[1] for _ in range(2)]
    assert torch.equal(*outputs)


def test_each_side_has_its_own_table_and_padding_where_it_says_so():
    torch.manual_seed(0)
    encoder = BertConfig(**SMALL, pad_id=1, position_offset=2)
    config = EncoderDecoderConfig(encoder=encoder, decoder=GPT, source_rows=31, start_id=4)
    model = EncoderDecoderModel(config, VOCAB).eval()
    assert (model.pad_id, model.start_id, model.vocab_size) == (1, 4, VOCAB)
    assert len(model.encoder.output_weight) == 31
    row, padded = torch.tensor([[30, 6, 2]]), torch.tensor([[30, 6, 2, 1, 1]])
    assert torch.allclose(model(row, TARGET[:1]), model(padded, TARGET[:1]), atol=1e-6)
    with pytest.raises(ValueError, match=r"^source_rows must be 1 or more, not 0$"):
        EncoderDecoderConfig(source_rows=0)
    with pytest.raises(ValueError, match=r"^start_id must be 0 or more, not -1$"):
        EncoderDecoderConfig(start_id=-1)


def test_a_transformer_xl_writes_alike_up_to_its_memory():
    long, short = (build(decoder=TransformerXlConfig(**SMALL, memory=size)) for size in (7, 3))
    torch.testing.assert_close(long(SOURCE, TARGET), short(SOURCE, TARGET), rtol=0, atol=0)
    torch.testing.assert_close(write(long), long(SOURCE, TARGET), rtol=0, atol=1e-12)
    found, whole = write(short), short(SOURCE, TARGET)
    torch.testing.assert_close(found[:, :4], whole[:, :4], rtol=0, atol=1e-12)
    assert not torch.allclose(found[:, 4:], whole[:, 4:])


def test_beams_of_one_source_change_places_without_it():
    model, rows = build(), torch.tensor([0, 0, 1, 1])
    state = model.init_state(SOURCE)
    state.select(rows)
    model.decode_step(TARGET[rows, 0], state)
    memory = state.memory
    state.select(torch.tensor([1, 0, 3, 2]))
    assert state.memory is memory
    torch.testing.assert_close(
        model.decode_step(TARGET[rows, 1], state), model(SOURCE[rows], TARGET[rows])[:, 1]
    )


def test_the_last_layer_but_one_aligns():
    model = build()
    assert model.alignment_attention is model.decoder_blocks[1].cross_attention
    records = []
    model.alignment_attention.on_attention = records.append
    model(SOURCE, TARGET)
    assert records[0].weights.shape == (2, 2, 8, 6)


def test_attention_of_both_sides_and_between_them_is_reported():
    sparse = {"encoder": "local:8", "decoder": "local:8", "cross": "local:8"}
    least, *costs = (
        build().attention_bytes(AttentionConfig(**sparse | one), 4096)
        for one in ({}, {"encoder": "top_k:4"}, {"decoder": "top_k:4"}, {"cross": "top_k:4"})
    )
    assert min(costs) > least


def test_its_line_tells_both_sides():
    config = EncoderDecoderConfig(encoder=BERT, decoder=MesaNetConfig(**SMALL, solver="none"))
    assert config.summary(AttentionConfig(encoder="local:4", cross="local:9")) == (
        "bert (3 layers, d=16, 2 heads, ff 24, post-norm, attention local:4) + "
        "mesanet (3 layers, d=16, 2 heads, ff 24, gated linear attention), cross local:9"
    )


def test_settings_and_weights_to_start_from_allow_the_same_families():
    hints = get_type_hints(EncoderDecoderConfig)
    assert {part: get_args(hints[part]) for part in PART_CONFIGS} == PART_CONFIGS
