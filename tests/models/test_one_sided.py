"""One side of a family alone: the decoder as a language model, the encoder as a reader."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    DECODERS,
    ENCODERS,
    ConvDecoder,
    ConvS2SConfig,
    LstmConfig,
    LstmDecoder,
    Transformer,
    TransformerConfig,
    TransformerDecoder,
    TransformerEncoder,
)

VOCAB = 20
IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11], [1, 12, 13, 4, 4, 14, 3, 9]])
CLOSE = {"rtol": 0, "atol": 1e-12}


def transformer(kind: Any, attention=AttentionConfig(), **changes):  # noqa: B008
    torch.manual_seed(0)
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dim": 16, "num_heads": 2}
    config = TransformerConfig(**sizes | {"hidden_dim": 24} | changes)
    model = kind(config, VOCAB, attention).double().eval()
    model.compute_dtype = torch.float64
    return model


VARIANTS = [
    {},
    {"norm": "post"},
    {"positions": "learned", "has_embedding_scale": False},
    {"positions": "learned", "position_offset": 2, "has_embedding_norm": True},
    {"positions": "sinusoidal_halves", "activation": "swiglu", "tied": "none"},
]


@pytest.mark.parametrize("changes", [*VARIANTS, {"has_output_bias": True}], ids=str)
def test_a_decoder_reads_on_as_it_reads(changes):
    model = transformer(TransformerDecoder, **changes)
    if model.output_bias is not None:
        torch.nn.init.normal_(model.output_bias)
    whole, state = model(IDS), model.init_state()
    for place in range(IDS.shape[1]):
        found = model.decode_step(IDS[:, place : place + 1], state)
        torch.testing.assert_close(found, whole[:, place], **CLOSE)


def test_a_bias_of_the_output_is_added_to_the_logits():
    plain, biased = (transformer(TransformerDecoder, has_output_bias=has) for has in (False, True))
    assert (plain.has_plain_logits, biased.has_plain_logits) == (True, False)
    with torch.no_grad():
        biased.output_bias += torch.arange(VOCAB)
    torch.testing.assert_close(biased(IDS), plain(IDS) + torch.arange(VOCAB), **CLOSE)


@pytest.mark.parametrize("family", ["transformer", "lstm", "conv_s2s"])
def test_what_tells_of_a_source_changes_nothing(family):
    made = DECODERS[family]
    sizes = {"num_decoder_layers": 2, "dim": 16}
    few, many = (
        sum(
            p.numel()
            for p in made.model(made.config(**sizes, num_encoder_layers=n), VOCAB).parameters()
        )
        for n in (1, 5)
    )
    assert few == many


def test_the_lines_tell_one_side():
    config, attention = TransformerConfig(num_encoder_layers=3), AttentionConfig(decoder="local:8")
    assert DECODERS["transformer"].summary(config, attention) == (
        "6 layers, d=512, 8 heads, ff 2048, pre-norm, attention local:8"
    )
    assert ENCODERS["transformer"].summary(config, AttentionConfig(encoder="local:8")) == (
        "3 layers, d=512, 8 heads, ff 2048, pre-norm, attention local:8"
    )
    assert DECODERS["lstm"].summary(LstmConfig(), AttentionConfig()) == "2 layers, d=512"
    assert DECODERS["conv_s2s"].summary(ConvS2SConfig(), AttentionConfig()) == (
        "8 layers, d=512, kernel 3"
    )


@pytest.mark.parametrize("name", ["pattern", "encoder", "decoder", "cross"])
@pytest.mark.parametrize("family", ["lstm", "conv_s2s"])
def test_a_pattern_is_refused_where_there_is_no_attention(family, name):
    made, attention = DECODERS[family], AttentionConfig(**{name: "local:4"})
    with pytest.raises(ConfigError) as caught:
        made.model(made.config(), VOCAB, attention)
    assert str(caught.value) == (
        f"attention.{name}=local:4: {family} has no attention.  "
        "Leave it out; its cost is linear in the length."
    )


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


def test_a_convolution_sees_as_far_back_as_its_kernels_reach():
    torch.manual_seed(0)
    config = ConvS2SConfig(num_decoder_layers=2, dim=8, kernel_width=3)
    model = ConvDecoder(config, VOCAB).double().eval()
    model.compute_dtype = torch.float64
    before = model(IDS)[:, -1]
    for place in range(IDS.shape[1]):
        changed = IDS.clone()
        changed[:, place] = 17
        is_seen = not torch.allclose(model(changed)[:, -1], before, **CLOSE)
        assert is_seen == (place >= 3)  # 1 + 2 (3 - 1) positions


def test_what_a_convolution_keeps_is_bounded():
    model = ConvDecoder(ConvS2SConfig(num_decoder_layers=2, dim=8), VOCAB)
    state = model.init_state()
    for _ in range(5):
        model.decode_step(IDS, state)
    assert len(state) == 40
    assert [cache.inputs.shape for cache in state.caches] == [(2, 2, 8)] * 2


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_an_encoder_is_that_of_the_whole_transformer(changes):
    side, whole = transformer(TransformerEncoder, **changes), transformer(Transformer, **changes)
    for part, other in (("embedding", "source_embedding"), ("blocks", "encoder")):
        weights = getattr(whole, other).state_dict()
        getattr(side, part).load_state_dict(weights)
    torch.testing.assert_close(side.hidden_states(IDS), whole.encode(IDS)[0], **CLOSE)


def test_a_transformer_tells_no_segments_apart():
    with pytest.raises(ConfigError, match=r"^segments: a Transformer has no table of them"):
        transformer(TransformerEncoder)(IDS, segments=torch.zeros_like(IDS))


@pytest.mark.parametrize(("changes", "longest"), [({}, 10**9), ({"positions": "learned"}, 512)])
def test_learned_positions_alone_limit_the_length_of_a_text(changes, longest):
    found = transformer(TransformerEncoder, **changes).config.max_positions
    assert min(found, 10**9) == longest


def test_a_head_that_is_dropped_is_gone():
    model = transformer(TransformerEncoder)
    model.drop_head()
    assert model.head is None and not model.config.has_mlm_head
    with pytest.raises(ConfigError, match=r"^has_mlm_head=false"):
        model(IDS)
