"""The Transformer: shapes, masks, cached decoding, configurations."""

import math

import msgspec
import pytest
import torch

from regard.attention import Causal, Full, Local
from regard.layers.attention_config import AttentionConfig
from regard.layers.cache import WindowCache
from regard.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
from regard.layers.transformer_block import TransformerBlock
from regard.models.transformer.model import Transformer, TransformerConfig

SMALL = TransformerConfig(
    num_encoder_layers=2, num_decoder_layers=2, dim=16, num_heads=2, hidden_dim=32, dropout=0.1
)


def build(**changes):
    torch.manual_seed(0)
    attention = changes.pop("attention", AttentionConfig())
    config = msgspec.structs.replace(SMALL, **changes)
    return Transformer(config, 20, attention).double().eval()


def with_dtype(model):
    model.compute_dtype = torch.float64
    return model


CONFIGURATIONS = [
    {},
    {"norm": "post"},
    {"positions": "learned", "max_positions": 8},
    {"positions": "learned", "max_positions": 8, "position_offset": 2, "has_embedding_norm": True},
    {"tied": "target"},
    {"tied": "none", "activation": "gelu"},
    {"num_encoder_layers": 1, "num_decoder_layers": 3},
    {"attention": AttentionConfig(pattern="local:1")},
    {"attention": AttentionConfig(encoder="hierarchical:2", cross="local:2")},
]


@pytest.fixture(params=CONFIGURATIONS, ids=str)
def model(request):
    return with_dtype(build(**request.param))


SOURCE = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12], [1, 13, 14, 15]])


def test_logits_have_one_row_a_target_token(model):
    assert model(SOURCE, TARGET).shape == (2, 4, 20)


def test_a_target_token_does_not_see_what_follows_it(model):
    changed = TARGET.clone()
    changed[:, 3] = 3
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_padding_of_the_source_changes_nothing(model):
    alone = model(SOURCE[1:, :3], TARGET[1:])
    torch.testing.assert_close(model(SOURCE, TARGET)[1:], alone)


def test_decoding_with_a_cache_equals_the_whole_pass(model):
    state = model.init_state(SOURCE)
    stepwise = torch.stack([model.decode_step(TARGET[:, t], state) for t in range(4)], dim=1)
    torch.testing.assert_close(stepwise, model(SOURCE, TARGET))


def test_selected_rows_of_the_state_continue_alone(model):
    state = model.init_state(SOURCE)
    model.decode_step(TARGET[:, 0], state)
    state.select(torch.tensor([1]))
    logits = model.decode_step(TARGET[1:, 1], state)
    torch.testing.assert_close(logits, model(SOURCE, TARGET)[1:, 1])


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model(SOURCE, TARGET).logsumexp(-1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_tied_embeddings_are_one_table():
    assert len({id(t) for t in tables(build())}) == 1
    assert len({id(t) for t in tables(build(tied="target"))}) == 2
    assert len({id(t) for t in tables(build(tied="none"))}) == 3


def tables(model):
    return model.source_embedding.weight, model.target_embedding.weight, model.output_weight


def test_weights_stay_float32_while_activations_are_bfloat16():
    model = build().float()
    model.compute_dtype = torch.bfloat16
    logits = model(SOURCE, TARGET)
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def test_second_derivatives_exist():
    model = with_dtype(build())
    parameters = list(model.parameters())
    loss = model(SOURCE, TARGET).logsumexp(-1).sum()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    product = torch.autograd.grad(sum((g * g).sum() for g in gradients), parameters)
    assert all(torch.isfinite(entry).all() for entry in product)


def test_the_base_preset_has_the_papers_size():
    with torch.device("meta"):
        model = Transformer(TransformerConfig(norm="post"), 37_000)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(65e6, rel=0.05)  # Vaswani et al. 2017, table 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 18, "num_heads": 4}, "dim must be even and a multiple of num_heads (4), not 18"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"num_encoder_layers": 0}, "num_encoder_layers must be 1 or more, not 0"),
    ],
)
def test_impossible_dimensions_are_refused(change, message):
    with pytest.raises(ValueError) as raised:
        msgspec.structs.replace(SMALL, **change)
    assert str(raised.value) == message


def test_sinusoids_follow_the_papers_formula():
    table = sinusoids(50, 8)
    for position in (0, 1, 49):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            assert float(table[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_sinusoidal_table_grows_with_the_input():
    positions = SinusoidalPositions(8)
    torch.testing.assert_close(positions(1000, 3), sinusoids(1003, 8)[1000:])


def test_learned_positions_past_the_table_take_its_last_row():
    positions = LearnedPositions(4, 3)
    assert torch.equal(positions(1, 4)[2], positions.weight[2])
    assert torch.equal(positions(1, 4)[3], positions.weight[2])


PATTERNS = ["full", "local:3", "strided:2", "global:0", "local:2|global:0", "top_k:3"]
LONG_SOURCE = torch.tensor([[5, 6, 7, 8, 9, 4, 3, 10, 2], [9, 4, 3, 6, 2, 0, 0, 0, 0]])
LONG_TARGET = torch.tensor([[1, 10, 11, 12, 4, 5, 6, 7, 8], [1, 13, 14, 15, 9, 8, 7, 6, 5]])


def with_attention(**settings):
    return with_dtype(build(attention=AttentionConfig(**settings)))


def assert_decodes_as_it_reads(model):
    """Compare decoding token by token, rows reordered half-way, with the whole pass."""
    whole = model(LONG_SOURCE, LONG_TARGET)
    state = model.init_state(LONG_SOURCE)
    rows = torch.arange(2)
    for t in range(LONG_TARGET.shape[1]):
        if t == 5:
            rows = torch.tensor([1, 0, 1])
            state.select(rows)
        logits = model.decode_step(LONG_TARGET[rows, t], state)
        torch.testing.assert_close(logits, whole[rows, t], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_decodes_with_its_cache_as_it_reads(pattern):
    assert_decodes_as_it_reads(with_attention(pattern=pattern))


@pytest.mark.parametrize("pattern", [*PATTERNS, "local:2,1", "causal"])
def test_every_pattern_of_cross_attention_decodes_as_it_reads(pattern):
    assert_decodes_as_it_reads(with_attention(cross=pattern))


def test_a_list_of_patterns_alternates_over_the_layers():
    model = with_attention(pattern=("local:1", "full"), cross=("full", "local:3"))
    blocks = [block for block in model.encoder if isinstance(block, TransformerBlock)]
    assert [block.self_attention.pattern for block in blocks] == [Local(1, 1), Full()]
    found = [block.self_attention.pattern for block in model.decoder_blocks]
    assert found == [Local(1, 0) & Causal(), Causal()]
    found = [block.cross_attention.pattern for block in model.decoder_blocks]
    assert found == [Full(), Local(3, 3)]
    assert_decodes_as_it_reads(model)


def test_a_window_bounds_the_cache_of_decoding():
    model = with_attention(decoder="local:3")
    state = model.init_state(LONG_SOURCE)
    for t in range(LONG_TARGET.shape[1]):
        model.decode_step(LONG_TARGET[:, t], state)
    for cache in state.caches:
        assert isinstance(cache, WindowCache)
        assert len(cache) == LONG_TARGET.shape[1]
        assert cache.keys is not None
        assert cache.keys.shape[2] == 4


def test_a_window_limits_what_a_target_token_sees():
    model = with_attention(decoder="local:1")  # two layers: two positions back
    changed = LONG_TARGET.clone()
    changed[:, 2] = 3
    before, after = model(LONG_SOURCE, LONG_TARGET), model(LONG_SOURCE, changed)
    torch.testing.assert_close(before[:, 5:], after[:, 5:])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_padded_sources_as_long_as_the_targets_do_not_blank_the_targets():
    model = with_attention()
    records = []
    model.decoder_blocks[0].cross_attention.on_attention = records.append
    model(LONG_SOURCE, LONG_TARGET)
    assert LONG_SOURCE.shape == LONG_TARGET.shape
    weights = records[0].weights
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 9, dtype=torch.float64))
