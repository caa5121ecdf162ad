"""Decoders that stand alone: variants, caches, derivatives, what a position sees."""

from __future__ import annotations

import msgspec
import pytest
import torch

from regard.attention import peak_saved_bytes
from regard.layers.attention_config import AttentionConfig
from regard.models.gpt.model import Gpt, GptConfig

VOCAB = 20
SMALL = GptConfig(num_layers=2, dim=16, num_heads=4, hidden_dim=24, dropout=0.1)
GPT2 = {
    "norm_kind": "layer",
    "activation": "gelu_tanh",
    "bias": True,
    "positions": "learned",
    "max_positions": 16,
}
VARIANTS = [
    {},
    GPT2,
    {"num_kv_heads": 2},
    {"num_kv_heads": 1, "head_dim": 6, "bias": True},
    {"tied": False, "rotary_base": 500.0},
    {"norm_kind": "layer", "activation": "relu", "positions": "learned", "tied": False},
]
IDS = torch.tensor([[5, 6, 7, 8, 9, 4, 2, 3, 11, 12], [9, 4, 2, 0, 17, 3, 3, 6, 19, 1]])


def build(attention="full", **changes) -> Gpt:
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL, **changes)
    model = Gpt(config, VOCAB, AttentionConfig(pattern=attention)).double().eval()
    model.compute_dtype = torch.float64
    with torch.no_grad():  # so that neither biases nor tables are negligible
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request):
    return request.param


@pytest.fixture
def model(variant):
    return build(**variant)


def refusal(**changes) -> str:
    with pytest.raises(ValueError) as caught:
        msgspec.structs.replace(SMALL, **changes)
    return str(caught.value)


def assert_reads_on_as_it_reads(model: Gpt, prefill: int) -> None:
    whole, state = model(IDS), model.init_state()
    first = model.decode_step(IDS[:, :prefill], state)
    torch.testing.assert_close(first, whole[:, prefill - 1], rtol=0, atol=1e-12)
    rows = torch.arange(2)
    for place in range(prefill, IDS.shape[1]):
        if place == 7:  # as sampling does: drop, repeat and reorder rows
            rows = torch.tensor([1, 0, 1])
            state.select(rows)
        assert len(state) == place
        logits = model.decode_step(IDS[rows, place : place + 1], state)
        torch.testing.assert_close(logits, whole[rows, place], rtol=0, atol=1e-12)


@pytest.mark.parametrize("prefill", [1, 3, 6])
@pytest.mark.parametrize("attention", ["full", "local:4", ("local:2", "full")], ids=str)
def test_cached_generation_equals_the_whole_pass(variant, attention, prefill):
    assert_reads_on_as_it_reads(build(attention, **variant), prefill)


def test_several_tokens_may_follow_a_cache(model):
    state = model.init_state()
    model.decode_step(IDS[:, :3], state)
    logits = model.decode_step(IDS[:, 3:8], state)
    torch.testing.assert_close(logits, model(IDS)[:, 7], rtol=0, atol=1e-12)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_windowed_cache_stays_bounded(positions):
    model = build("local:4", positions=positions, max_positions=16)
    state = model.init_state()
    model.decode_step(IDS, state)
    for _ in range(4):
        model.decode_step(IDS[:, :1], state)
    assert len(state) == 14
    kept = {cache.keys.shape[2] for cache in state.caches}  # type: ignore[attr-defined]
    assert kept == {model.init_state().caches[0].size}  # type: ignore[attr-defined]
    assert kept == {5}  # itself and the four before it


def test_logits_have_one_row_a_token(model):
    assert model(IDS).shape == (2, 10, VOCAB)


def test_a_token_does_not_see_what_follows_it(model):
    changed = IDS.clone()
    changed[:, 6] = 18
    before, after = model(IDS), model(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=1e-13)
    assert not torch.allclose(before[:, 6], after[:, 6])


def test_every_token_matters_to_the_last(model):
    before = model(IDS)[:, -1]
    for place in range(IDS.shape[1]):
        changed = IDS.clone()
        changed[:, place] = 18
        assert not torch.allclose(model(changed)[:, -1], before)


def test_the_order_of_tokens_matters(model):
    swapped = IDS[:, [1, 0, *range(2, 10)]]
    assert not torch.allclose(model(swapped)[:, -1], model(IDS)[:, -1])


def test_a_row_is_as_alone_where_others_are_in_its_batch(model):
    torch.testing.assert_close(model(IDS)[:1], model(IDS[:1]), rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model(IDS).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("attention", ["full", "local:4"])
def test_second_derivatives_are_those_of_the_gradient(variant, attention):
    if variant.get("activation") == "relu":  # which has a kink
        variant = variant | {"activation": "gelu"}
    model = build(attention, **variant)
    parameters = list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]

    def gradient(create_graph=False):
        loss = model(IDS).logsumexp(-1).sum()
        return torch.autograd.grad(loss, parameters, create_graph=create_graph)

    product = torch.autograd.grad(gradient(create_graph=True), parameters, direction)
    step, sides = 1e-6, []
    for move in (step, -2 * step):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter.add_(along, alpha=move)
        sides.append(gradient())
    for found, after, before in zip(product, *sides, strict=True):
        # Central differences are good to the square of the step and the rounding over it.
        scale = float(found.abs().max()) + 1.0
        torch.testing.assert_close(found, (after - before) / (2 * step), rtol=0, atol=1e-5 * scale)


def test_dropout_is_on_in_training_alone():
    model = build(dropout=0.5)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    assert not torch.allclose(model(IDS), model(IDS))


def test_weights_stay_float32_while_activations_are_bfloat16(variant):
    model = build(**variant).float()
    model.compute_dtype = torch.bfloat16
    assert model(IDS).dtype == torch.bfloat16
    assert model.decode_step(IDS, model.init_state()).dtype == torch.bfloat16
    model(IDS).float().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


@torch.no_grad()
def test_bfloat16_logits_are_near_those_of_float64(model):
    exact = model(IDS)
    model.compute_dtype = torch.bfloat16
    error = (model(IDS).double() - exact).square().mean().sqrt()
    # 8 bits of mantissa, 2^-9 a rounding, through some ten roundings in each of two layers.
    assert float(error) < 0.05 * float(exact.std())


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, GPT2], ids=str)
def test_new_models_guess_every_token_about_alike(changes):
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL, num_layers=6, dim=128, hidden_dim=256, **changes)
    logits = Gpt(config, 1000).eval()(torch.randint(1000, (4, 16)))
    assert 0.1 < float(logits.std()) < 0.5  # 0.02 sqrt(128) = 0.23


@torch.no_grad()
def test_maps_to_the_stream_begin_smaller_the_more_blocks_add_to_it():
    for num_layers in (1, 8):
        torch.manual_seed(0)
        model = Gpt(msgspec.structs.replace(SMALL, num_layers=num_layers, dim=64), VOCAB)
        glorot = (6 / (64 + 64)) ** 0.5
        largest = float(model.get_parameter("blocks.0.self_attention.output.weight").abs().max())
        assert largest == pytest.approx(glorot * (2 * num_layers) ** -0.5, rel=0.01)


def test_a_tied_table_is_one():
    sizes = [sum(p.numel() for p in build(tied=tied).parameters()) for tied in (True, False)]
    assert sizes[1] - sizes[0] == VOCAB * SMALL.dim


@pytest.mark.slow
@pytest.mark.parametrize("variant", [GPT2, *VARIANTS[3:]], ids=str)
def test_it_learns_a_tiny_set_by_heart(variant):
    model = build(**variant | {"dropout": 0.0}).float().train()
    model.compute_dtype = torch.float32
    ids = torch.tensor([[3, 9, 4, 4, 7, 11], [5, 4, 9, 9, 2, 8], [6, 5, 3, 2, 13, 4]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model(ids[:, :-1]).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
        optimizer.step()
    state, row = model.eval().init_state(), ids[:, :1]
    for _ in range(5):
        following = model.decode_step(row[:, len(state) :], state).argmax(-1)
        row = torch.cat([row, following[:, None]], dim=1)
    assert torch.equal(row, ids)


def test_attention_bytes_are_those_of_every_layer():
    attention = AttentionConfig(pattern=("full", "local:4"))
    one = [peak_saved_bytes(p, 64, itemsize=8) for p in attention.decoder_patterns(2)]
    assert build().attention_bytes(attention, 64) == 4 * sum(one)


def test_a_summary_tells_the_dimensions():
    config = msgspec.structs.replace(SMALL, num_kv_heads=2)
    assert config.summary(AttentionConfig(pattern="local:4")) == (
        "2 layers, d=16, 4 heads (2 of keys and values), ff 24 swiglu, rms norm, "
        "rotary positions, attention local:4"
    )


def test_a_summary_tells_the_decoder_s_pattern_alone():
    config = msgspec.structs.replace(SMALL, **GPT2)
    assert config.summary(AttentionConfig(decoder=("local:4", "full"))) == (
        "2 layers, d=16, 4 heads, ff 24 gelu_tanh, layer norm, "
        "learned positions, attention local:4 / full"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers must be 1 or more, not 0"),
        ({"dim": 18}, "dim must be a multiple of num_heads (4), not 18"),
        ({"head_dim": 0}, "head_dim must be 1 or more, not 0"),
        ({"head_dim": 5}, "head_dim must be even with rotary positions, not 5"),
        ({"dim": 12}, "dim / num_heads must be even with rotary positions, not 3"),
        ({"num_kv_heads": 3}, "num_kv_heads must divide num_heads (4), not 3"),
        ({"num_kv_heads": 0}, "num_kv_heads must divide num_heads (4), not 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0, not 0.0"),
        ({"rotary_base": float("nan")}, "rotary_base must be above 0, not nan"),
        ({"max_positions": 0}, "max_positions must be 1 or more, not 0"),
    ],
    ids=str,
)
def test_a_size_that_cannot_be_is_refused(changes, message):
    assert refusal(**changes) == message


@pytest.mark.parametrize(("positions", "longest"), [("learned", 128), ("rotary", 256)])
def test_the_longest_text_has_positions(positions, longest):
    """``regard info`` computes costs for it."""
    assert GptConfig(positions=positions, max_positions=128).longest_input(256) == longest
