"""Every decoder of `DECODERS` keeps the contract of a language model."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.derivatives import assert_every_parameter_has_a_gradient, assert_second_derivatives

from regard.models import DECODERS

VOCAB = 20
OWN_SIZES: dict[str, dict[str, Any]] = {
    "mesanet": {"num_iterations": 50, "tolerance": 1e-13},
    "conv_s2s": {"kernel_width": 5},  # two layers see nine tokens
}
IDS = torch.tensor(
    [[1, 5, 6, 7, 8, 9, 10, 11], [1, 12, 13, 4, 4, 14, 3, 9], [1, 19, 18, 6, 5, 3, 3, 2]]
)


def settings(family: str, **changes):
    """Make small settings, by the names that a family has for them."""
    sizes = {"num_layers": 2, "dim": 16, "num_heads": 2, "hidden_dim": 32, "dropout": 0.1}
    sizes |= OWN_SIZES.get(family, {}) | changes
    kind = DECODERS[family].config
    if "num_decoder_layers" in kind.__struct_fields__:  # settings of an encoder-decoder
        sizes["num_decoder_layers"] = sizes.pop("num_layers")
        if "tied" in sizes:
            sizes["tied"] = "target" if sizes["tied"] else "none"
    return kind(**{name: size for name, size in sizes.items() if name in kind.__struct_fields__})


def build(family: str, **changes):
    """Build a small model in float64, in evaluation mode."""
    torch.manual_seed(0)
    model = DECODERS[family].model(settings(family, **changes), VOCAB).double().eval()
    model.compute_dtype = torch.float64
    return model


def loss_of(model):
    return model(IDS).logsumexp(-1).sum()


def nll_of(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def assert_close(found, wanted, tolerance=1e-10):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@pytest.fixture(params=DECODERS)
def family(request):
    return request.param


@pytest.fixture
def model(family):
    return build(family)


def test_logits_have_one_row_a_token(model):
    assert model(IDS).shape == (3, 8, VOCAB)


def test_the_last_states_map_to_the_logits(model):
    hidden = model.hidden_states(IDS)
    assert hidden.shape == (3, 8, 16)
    assert torch.equal(model.logits(hidden), model(IDS))


def test_a_token_does_not_see_what_follows_it(model):
    changed = IDS.clone()
    changed[:, 4] = 17
    before, after = model(IDS), model(changed)
    assert_close(before[:, :4], after[:, :4], tolerance=1e-12)
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_every_token_matters_to_the_last(model):
    before = model(IDS)[:, -1]
    for place in range(IDS.shape[1]):
        changed = IDS.clone()
        changed[:, place] = 17
        assert not torch.allclose(model(changed)[:, -1], before, rtol=0, atol=1e-9)


def test_the_order_of_tokens_matters(model):
    swapped = IDS[:, [0, 2, 1, 3, 4, 5, 6, 7]]
    assert not torch.allclose(model(IDS)[:, -1], model(swapped)[:, -1])


@pytest.mark.parametrize("num_first", [1, 2, 5])
def test_reading_on_from_a_state_equals_the_whole_pass(model, num_first):
    whole = model(IDS)
    state, rows = model.init_state(), torch.arange(3)
    assert_close(model.decode_step(IDS[:, :num_first], state), whole[:, num_first - 1])
    for place in range(num_first, IDS.shape[1]):
        if place in (5, 6):  # as beam search does: drop, repeat and reorder rows
            keep = torch.tensor([2, 0, 2, 1])
            state.select(keep)
            rows = rows[keep]
        logits = model.decode_step(IDS[rows, place : place + 1], state)
        assert_close(logits, whole[rows, place])
        assert len(state) == place + 1


def test_reading_on_by_several_tokens_equals_the_whole_pass(model):
    whole, state = model(IDS), model.init_state()
    for first, last in ((0, 3), (3, 5), (5, 8)):
        assert_close(model.decode_step(IDS[:, first:last], state), whole[:, last - 1])


def test_padding_changes_nothing_before_it(model):
    padded = IDS.clone()
    padded[1, 5:], padded[2, 3:] = 0, 0
    whole = model(padded)
    for row, length in enumerate((8, 5, 3)):
        assert_close(whole[row : row + 1, :length], model(IDS[row : row + 1, :length]))


def test_a_row_is_as_alone_where_others_are_in_its_batch(model):
    assert_close(model(IDS)[:1], model(IDS[:1]))


def test_every_parameter_gets_a_gradient(model):
    assert_every_parameter_has_a_gradient(model, loss_of)


def test_second_derivatives_are_those_of_the_gradient(model):
    assert_second_derivatives(model, loss_of)


def test_dropout_is_on_in_training_and_off_in_evaluation(family):
    model = build(family, dropout=0.5)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    torch.manual_seed(1)
    first = model(IDS)
    assert not torch.allclose(first, model(IDS))
    torch.manual_seed(1)
    assert torch.equal(model(IDS), first)


def test_weights_stay_float32_while_activations_are_bfloat16(family):
    model = build(family).float()
    model.compute_dtype = torch.bfloat16
    logits = model(IDS)
    assert logits.dtype == torch.bfloat16
    state = model.init_state()
    assert model.decode_step(IDS[:, :3], state).dtype == torch.bfloat16
    assert model.decode_step(IDS[:, 3:4], state).dtype == torch.bfloat16
    logits.float().sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def test_bfloat16_logits_are_near_those_of_float64(family):
    model = build(family)
    exact = model(IDS).detach()
    model.compute_dtype = torch.bfloat16
    rounded = model(IDS).detach().double()
    # 8 bits of mantissa through two layers.
    assert float((rounded - exact).abs().max()) < 0.1 * float(exact.std())


def test_a_state_dict_round_trip_gives_equal_logits(family):
    model, other = build(family), build(family)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(model(IDS), other(IDS))


def test_a_tied_table_is_one(family):
    tied, untied = (
        sum(parameter.numel() for parameter in build(family, tied=is_tied).parameters())
        for is_tied in (True, False)
    )
    assert untied - tied == VOCAB * 16


IMPOSSIBLE = {
    "num_layers": 0,
    "num_decoder_layers": 0,
    "num_heads": 0,
    "hidden_dim": 0,
    "dim": 15,
    "dropout": 1.0,
}


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (family, name)
        for family, made in DECODERS.items()
        for name in IMPOSSIBLE
        if name in made.config.__struct_fields__
    ],
)
def test_a_size_that_cannot_be_is_refused_by_its_name(family, name):
    given = name.replace("_decoder_", "_")
    with pytest.raises(ValueError, match=f"^{name} must be "):
        settings(family, **{given: IMPOSSIBLE[name]})


@pytest.mark.slow
def test_it_learns_a_tiny_set_by_heart(family):
    model = build(family, dropout=0.0, dim=32).float().train()
    model.compute_dtype = torch.float32
    torch.manual_seed(2)
    texts = torch.cat([torch.arange(3, 11)[:, None], torch.randint(3, VOCAB, (8, 6))], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nll_of(model, texts).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    assert nll_of(model, texts).item() < 0.1
    state, found = model.init_state(), texts[:, :1]
    for _ in range(6):
        logits = model.decode_step(found[:, -1:], state)
        found = torch.cat([found, logits.argmax(-1, keepdim=True)], dim=1)
    assert found.tolist() == texts.tolist()
