"""The Transformer: shapes, masks, cached decoding, configurations."""

import math

import msgspec
import pytest
import torch

from regard.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
from regard.models.transformer import Transformer, TransformerConfig

SMALL = TransformerConfig(
    num_encoder_layers=2, num_decoder_layers=2, dim=16, num_heads=2, hidden_dim=32, dropout=0.1
)


def build(**changes):
    torch.manual_seed(0)
    return Transformer(msgspec.structs.replace(SMALL, **changes), 20).double().eval()


def with_dtype(model):
    model.compute_dtype = torch.float64
    return model


CONFIGURATIONS = [
    {},
    {"norm": "post"},
    {"positions": "learned", "max_positions": 8},
    {"tied": "target"},
    {"tied": "none", "activation": "gelu"},
    {"num_encoder_layers": 1, "num_decoder_layers": 3},
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
    state = model.start(SOURCE)
    stepwise = torch.stack([model.step(TARGET[:, t], state) for t in range(4)], dim=1)
    torch.testing.assert_close(stepwise, model(SOURCE, TARGET))


def test_selected_rows_of_the_state_go_on_alone(model):
    state = model.start(SOURCE)
    model.step(TARGET[:, 0], state)
    state.select(torch.tensor([1]))
    logits = model.step(TARGET[1:, 1], state)
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
