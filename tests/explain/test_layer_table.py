"""Operations against those that PyTorch counts, parameters against the model's."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regard.attention import Full, TopK
from regard.explain.layer_table import (
    format_table,
    forward_flops_per_token,
    layer_table,
    training_flops_per_token,
)
from regard.layers import recurrent
from regard.layers.attention_config import AttentionConfig
from regard.layers.layer import Description, Layer, count_flops
from regard.layers.lora import add_low_rank
from regard.layers.mesa_layer import ShortConvolution
from regard.layers.multi_head_attention import MultiHeadAttention
from regard.layers.norm import LayerNorm
from regard.layers.seq2seq_attention import BahdanauAttention
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    FAMILIES,
    Bert,
    BertConfig,
    Classifier,
    EncoderDecoder,
)
from regard.models.gpt.model import Gpt, GptConfig

VOCAB, LENGTH = 50, 20
HEADS = {"num_heads": 2, "hidden_dim": 48}
SIDES = {"num_encoder_layers": 2, "num_decoder_layers": 3, "dim": 32}
SIZES = {
    "transformer": SIDES | HEADS,
    "lstm": SIDES,
    "conv_s2s": SIDES,
    "t5": SIDES | HEADS,
    "longformer": {"num_layers": 2, "dim": 32, "window": 4, "num_global": 2} | HEADS,
    "transformer_xl": {"num_layers": 2, "dim": 32, "memory": 8} | HEADS,
    "mesanet": {"num_layers": 2, "dim": 32, "tolerance": 0.0, "num_iterations": 3} | HEADS,
    "encoder_decoder": {
        "encoder": BertConfig(num_layers=2, dim=16, **HEADS),
        "decoder": GptConfig(num_layers=3, dim=32, **HEADS),
    },
}
REGISTRIES = {
    "encoder-decoder": ENCODER_DECODERS,
    "decoder": DECODERS,
    "encoder": ENCODERS,
}
EVERY_ROLE = pytest.mark.parametrize(
    ("families", "family"),
    [
        pytest.param(families, family, id=f"{family} as {role}")
        for role, families in REGISTRIES.items()
        for family in families
    ],
)


@pytest.fixture(autouse=True)
def cells_one_by_one(monkeypatch):
    """PyTorch does not look into its own kernel of an LSTM."""
    monkeypatch.setattr(recurrent, "_fused", recurrent.run_cells)


def build(family, pattern="full", cross="full", families=FAMILIES, **changes):
    sizes = SIZES.get(family, {"num_layers": 2, "dim": 32} | HEADS)
    made = families[family]
    attention = AttentionConfig(pattern=pattern, cross=cross)
    return made.model(made.config(**sizes | changes), VOCAB, attention).eval()


def run(model, length):
    ids = torch.randint(3, VOCAB, (1, length))
    return model(ids, ids) if isinstance(model, EncoderDecoder) else model(ids)


def counted(model, length=LENGTH):
    """Count what PyTorch does."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(model, length)
    return counter.get_total_flops()


def not_counted(model, length=LENGTH):
    """Count what we do and PyTorch does not: sums of products that are no product of matrices."""
    flops = 0
    for module in model.modules():
        if isinstance(module, ShortConvolution):
            flops += 2 * module.weight.numel() * length
        if isinstance(module, BahdanauAttention):
            flops += 2 * module.weight.numel() * length**2
    return flops


def hidden_pairs(model, length=LENGTH):
    """Count what is computed and then hidden: pairs that a pattern does not allow."""
    flops = 0
    for module in model.modules():
        if isinstance(module, MultiHeadAttention) and not hasattr(module, "num_global"):
            costs = (p.cost(length, length, dim=module.head_dim) for p in (Full(), module.pattern))
            every_pair, allowed_pairs = (cost.flops for cost in costs)
            flops += module.num_heads * (every_pair - allowed_pairs)
    return flops


def ours(model, length=LENGTH):
    flops = forward_flops_per_token(layer_table(model, length)) * length
    assert flops == pytest.approx(round(flops), abs=1e-6)
    return round(flops)


@EVERY_ROLE
def test_operations_of_every_family_are_those_that_are_run(families, family):
    pattern = {"longformer": "local:40"}.get(family, "full")  # as wide as the text: all pairs
    model = build(family, pattern, families=families)
    assert ours(model) == counted(model) + not_counted(model) - hidden_pairs(model)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("lstm", {"attention": "none", "bidirectional": False}),
        ("lstm", {"attention": "bahdanau"}),
        ("lstm", {"luong_score": "dot", "input_feeding": False}),
        ("transformer", {"norm": "post", "tied": "none", "positions": "learned"}),
        ("transformer", {"has_embedding_norm": True}),
        ("gpt", {"num_kv_heads": 1, "positions": "learned", "tied": False}),
        ("transformer_xl", {"norm": "post", "tied": False}),
        ("mesanet", {"solver": "none"}),
        ("mesanet", {"num_iterations": 7}),
        ("bert", {"norm": "pre", "has_pooler": True}),
        ("longformer", {"num_global": 0, "window": 40}),
    ],
)
def test_operations_follow_the_options(family, changes):
    model = build(family, **changes)
    assert ours(model) == counted(model) + not_counted(model) - hidden_pairs(model)


@pytest.mark.parametrize("length", [1, 63, 64, 150])
def test_the_mesa_layer_counts_its_chunks_whole(length):
    model = build("mesanet")
    assert ours(model, length) == counted(model, length) + not_counted(model, length)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["local:3", "strided:4|global:0", "top_k:2"])
def test_pairs_that_a_pattern_forbids_are_not_counted(pattern):
    model = build("transformer", pattern, cross="local:2,5")
    assert hidden_pairs(model) > 0
    assert ours(model) == counted(model) - hidden_pairs(model)


def test_long_windows_cost_by_their_pairs():
    model = build("gpt", "local:64")
    long, longer = (ours(model, length) / length for length in (4096, 8192))
    assert longer == pytest.approx(long, rel=0.01)


def test_top_k_costs_what_full_attention_does():
    assert TopK(2).cost(30, 30, dim=8).flops == Full().cost(30, 30, dim=8).flops


def test_global_tokens_see_all_and_others_their_window():
    model = build("longformer")
    rows = {row.name: row for row in layer_table(model, LENGTH)}
    maps = (3 + 2 + 1) * LENGTH + 2  # q, k, v; global k, v; output; global q of two
    pairs = 2 * LENGTH  # of the two global queries
    for query in range(2, LENGTH):
        seen = set(range(max(0, query - 2), min(LENGTH, query + 3))) | {0, 1}
        pairs += len(seen)
    of_layer = 2 * 32 * 32 * maps + 4 * 32 * pairs
    assert rows["blocks.0-1.self_attention"].flops_per_token * LENGTH == 2 * of_layer


def test_a_classifier_maps_one_vector_of_a_text():
    encoder = Bert(BertConfig(**SIZES_OF_BERT, has_pooler=True, has_mlm_head=False), VOCAB)
    model = Classifier(encoder, 3).eval()
    assert ours(model) == counted(model)
    rows = layer_table(model, LENGTH)
    assert [row.shape for row in rows if row.depth == 0][-2:] == [(32,), (3,)]


def test_an_encoder_without_a_head_ends_in_its_states():
    model = Bert(BertConfig(**SIZES_OF_BERT, has_mlm_head=False), VOCAB).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.hidden_states(torch.randint(3, VOCAB, (1, LENGTH)))
    assert ours(model) == counter.get_total_flops()


SIZES_OF_BERT = {"num_layers": 2, "dim": 32} | HEADS


@EVERY_ROLE
def test_rows_add_up_to_the_parameters(families, family):
    model = build(family, families=families)
    rows = layer_table(model, LENGTH)
    top = [row for row in rows if row.depth == 0]
    assert sum(row.num_parameters for row in top) == sum(p.numel() for p in model.parameters())
    assert sum(row.weight_bytes for row in top) == 4 * sum(p.numel() for p in model.parameters())


@EVERY_ROLE
def test_rows_within_a_row_add_up_to_it(families, family):
    rows = layer_table(build(family, families=families), LENGTH)
    for row in rows:
        inner = [part for part in rows if part.depth and part.name.startswith(f"{row.name}.")]
        if inner:
            assert sum(part.num_parameters for part in inner) == row.num_parameters
            assert sum(part.flops_per_token for part in inner) == row.flops_per_token


def test_each_side_of_an_encoder_decoder_has_its_own_size():
    rows = {row.name: row for row in layer_table(build("encoder_decoder"), LENGTH)}
    names = ("encoder.embedding", "encoder.blocks.0-1", "encoder_output", "decoder.blocks.0-2")
    assert [rows[name].shape for name in names] == [(20, 16), (20, 16), (20, 32), (20, 32)]


@pytest.mark.slow
def test_layers_with_low_rank_changes_cost_more():
    model = build("gpt")
    add_low_rank(model, rank=2, alpha=4.0)
    assert ours(model) == counted(model) - hidden_pairs(model)


def test_training_costs_three_forward_passes():
    rows = layer_table(build("gpt"), LENGTH)
    assert training_flops_per_token(rows) == 3 * forward_flops_per_token(rows)


def test_embeddings_that_are_looked_up_cost_nothing():
    rows = {row.name: row for row in layer_table(build("gpt"), LENGTH)}
    assert rows["embedding"].flops_per_token == 0
    assert rows["embedding"].num_parameters == VOCAB * 32
    assert rows["output_weight"].flops_per_token == 2 * VOCAB * 32
    assert (rows["output_weight"].num_parameters, rows["output_weight"].ties) == (0, ("embedding",))


def test_a_bias_on_the_logits_belongs_to_the_output():
    rows = {
        row.name: row for row in layer_table(build("transformer", has_output_bias=True), LENGTH)
    }
    output = rows["output_weight"]
    assert (output.num_parameters, output.flops_per_token) == (VOCAB, 2 * VOCAB * 32)


def test_equal_blocks_share_a_row_and_others_do_not():
    model = build("gpt", ("local:4", "local:4", "full"), num_layers=5)
    rows = [row for row in layer_table(model, LENGTH) if row.depth == 0]
    assert [(row.name, row.count) for row in rows] == [
        ("embedding", 1),
        ("blocks.0-1", 2),
        ("blocks.2", 1),
        ("blocks.3-4", 2),
        ("norm", 1),
        ("output_weight", 1),
    ]


def test_a_module_of_another_library_is_described_by_its_class_and_children():
    class OddLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = LayerNorm(32)
            self.inner = nn.Linear(32, 32)
            self.weight = nn.Parameter(torch.zeros(7))

    model = Gpt(GptConfig(num_layers=1, dim=32, **HEADS), VOCAB)
    model.blocks[0] = OddLayer()
    rows = {row.name: row for row in layer_table(model, LENGTH)}
    assert rows["blocks.0"].kind == "odd layer"
    assert rows["blocks.0"].num_parameters == 64 + 32 * 33 + 7
    assert rows["blocks.0.inner"].flops_per_token == 2 * 32 * 32
    assert count_flops(model.blocks[0], 3) == 3 * 2 * 32 * 32


def test_a_new_layer_describes_itself():
    class Doubling(Layer):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(32, 32))

        def describe(self):
            return Description("doubling", ("two of each",))

        def flops(self, length):
            return 7 * length

    model = Gpt(GptConfig(num_layers=1, dim=32, **HEADS), VOCAB)
    model.blocks[0] = Doubling()
    row = {row.name: row for row in layer_table(model, LENGTH)}["blocks.0"]
    assert (row.kind, row.flops_per_token, row.shape) == ("doubling, two of each", 7, (LENGTH, 32))


def test_a_norm_of_embeddings_and_the_rows_before_the_first_position_are_named():
    shape = {"positions": "learned", "max_positions": 10, "position_offset": 2}
    model = build("transformer", has_embedding_norm=True, **shape)
    kinds = {row.name: row.kind for row in layer_table(model, LENGTH)}
    for side in ("source", "target"):
        assert kinds[f"{side}_embedding"].endswith(", 12 learned positions, layer norm")


def test_the_table_reads_well():
    model = Gpt(GptConfig(num_layers=2, dim=32, positions="learned", **HEADS), VOCAB)
    lines = [line.rstrip() for line in format_table(layer_table(model, LENGTH))]
    lines = [re.sub(" {2,}", " | ", line) for line in lines]
    assert lines == [
        "part | kind | output | parameters | FLOP a token | weights",
        "embedding | embedding, 50 tokens of 32, 1,024 learned positions | 20 x 32 | 34,368 | 0"
        " | 0.14 MB",
        "blocks.0-1 | block x 2 | 20 x 32 | 17,536 | 37,504 | 0.07 MB",
        " | attention_residual.norm | RMS norm | 20 x 32 | 64 | 0 | 0.00 MB",
        " | self_attention | self-attention, 2 heads of 16, pattern causal | 20 x 32 | 8,192"
        " | 19,072 | 0.03 MB",
        " | feed_forward_residual.norm | RMS norm | 20 x 32 | 64 | 0 | 0.00 MB",
        " | feed_forward | feed-forward, 32 to 48 to 32, swiglu | 20 x 32 | 9,216 | 18,432"
        " | 0.04 MB",
        "norm | RMS norm | 20 x 32 | 32 | 0 | 0.00 MB",
        "output_weight | output, 32 to 50 (weights of embedding) | 20 x 50 | 0 | 3,200 | 0.00 MB",
    ]
