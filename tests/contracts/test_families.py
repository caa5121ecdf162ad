"""Every family of `ENCODER_DECODERS` keeps the contract of an encoder-decoder.

So does every pair of an encoder and a decoder that `EncoderDecoderConfig` allows.
"""

from __future__ import annotations

import io
from typing import Any, get_args, get_type_hints

import pytest
import torch
from tests.derivatives import assert_every_parameter_has_a_gradient, assert_second_derivatives

from regard.data.batching import Batch
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.models import ENCODER_DECODERS, EncoderDecoderConfig
from regard.tasks.sequence_to_sequence.loss import TargetLoss

VOCAB = 20
OWN_SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"num_heads": 2, "hidden_dim": 32},
    "t5": {"num_heads": 2, "hidden_dim": 32, "activation": "geglu_tanh"},
    "bert": {"max_positions": 8},
    "longformer": {"max_positions": 8, "window": 4},
    "modernbert": {"max_positions": 8, "window": (0, 4)},
    "mesanet": {"num_iterations": 50, "tolerance": 1e-13},
}
SIDES = {
    side: {config.__struct_config__.tag: config for config in get_args(hint)}
    for side, hint in get_type_hints(EncoderDecoderConfig).items()
    if side in ("encoder", "decoder")
}
PAIRS = [f"{encoder}+{decoder}" for encoder in SIDES["encoder"] for decoder in SIDES["decoder"]]
LEARNING_PAIRS = ["bert+gpt", "longformer+transformer_xl", "bert+mesanet"]
"""Each encoder and each decoder once."""
COPYING = "transformer that copies"
ALONE = [family for family in ENCODER_DECODERS if family != "encoder_decoder"]
TIED = {"t5": ("all", "inputs")}
"""Values of `tied` of a family that has not all of them."""
SOURCE = torch.tensor([[5, 6, 7, 8, 9, 2], [9, 4, 2, 0, 0, 0], [3, 2, 0, 0, 0, 0]])
TARGET = torch.tensor([[1, 10, 11, 12, 4, 7], [1, 13, 14, 15, 9, 8], [1, 3, 3, 5, 6, 12]])


def build(family: str, **changes):
    """Build a small model in float64, in evaluation mode."""
    torch.manual_seed(0)
    if "+" in family:
        model = join(family, changes)
    else:
        sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dim": 16, "dropout": 0.1}
        if family == COPYING:
            family, changes = "transformer", {"has_copy": True} | changes
        made = ENCODER_DECODERS[family]
        model = made.model(made.config(**sizes | OWN_SIZES.get(family, {}) | changes), VOCAB)
    model = model.double().eval()
    model.compute_dtype = torch.float64
    return model


def join(pair: str, changes: dict[str, Any], **of_decoder):
    """Join an encoder and a decoder, both of the same size where nothing else is said."""
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "dim": 16, "dropout": 0.1}
    encoder, decoder = pair.split("+")
    joined = EncoderDecoderConfig(
        encoder=SIDES["encoder"][encoder](**sizes | OWN_SIZES[encoder] | changes),
        decoder=SIDES["decoder"][decoder](
            **sizes | OWN_SIZES.get(decoder, {}) | changes | of_decoder
        ),
    )
    return ENCODER_DECODERS["encoder_decoder"].model(joined, VOCAB)


def loss_of(model):
    return model(SOURCE, TARGET).square().sum()  # the log-sum-exp of log-probabilities is 0


@pytest.fixture(params=[*ALONE, COPYING, *PAIRS])
def family(request):
    return request.param


@pytest.fixture
def model(family):
    return build(family)


def test_logits_have_one_row_a_target_token(model):
    assert model(SOURCE, TARGET).shape == (3, 6, VOCAB)


def test_a_target_token_does_not_see_what_follows_it(model):
    changed = TARGET.clone()
    changed[:, 4] = 17
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


@pytest.mark.slow
def test_every_source_token_matters_to_the_first_target_token(model):
    before = model(SOURCE[:1], TARGET[:1])[0, 0]
    for place in range(SOURCE.shape[1]):
        changed = SOURCE[:1].clone()
        changed[0, place] = 17
        assert not torch.allclose(model(changed, TARGET[:1])[0, 0], before)


def test_decoding_token_by_token_equals_the_whole_pass(model):
    whole = model(SOURCE, TARGET)
    state, rows = model.init_state(SOURCE), torch.arange(3)
    for place in range(TARGET.shape[1]):
        if place == 3:  # as beam search does: drop, repeat and reorder rows
            rows = torch.tensor([2, 0, 2, 1])
            state.select(rows)
        logits = model.decode_step(TARGET[rows, place], state)
        torch.testing.assert_close(logits, whole[rows, place], rtol=0, atol=1e-12)


def test_padding_of_the_source_changes_nothing(model):
    whole = model(SOURCE, TARGET)
    for row, length in enumerate((6, 3, 2)):
        alone = model(SOURCE[row : row + 1, :length], TARGET[row : row + 1])
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=1e-12)


def test_a_row_is_as_alone_where_others_are_in_its_batch(model):
    alone = model(SOURCE[:1], TARGET[:1])
    torch.testing.assert_close(model(SOURCE, TARGET)[:1], alone, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient(model):
    assert_every_parameter_has_a_gradient(model, loss_of)


@pytest.mark.slow
def test_second_derivatives_are_those_of_the_gradient(model):
    assert_second_derivatives(model, loss_of)


@pytest.mark.slow
def test_dropout_is_on_in_training_and_off_in_evaluation(family):
    model = build(family, dropout=0.5)
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.train()
    torch.manual_seed(1)
    first = model(SOURCE, TARGET)
    assert not torch.allclose(first, model(SOURCE, TARGET))
    torch.manual_seed(1)
    torch.testing.assert_close(model(SOURCE, TARGET), first, rtol=0, atol=0)


def test_weights_stay_float32_while_activations_are_bfloat16(family):
    model = build(family).float()
    model.compute_dtype = torch.bfloat16
    logits = model(SOURCE, TARGET)
    dtype = torch.float32 if family == COPYING else torch.bfloat16  # of probabilities, of logits
    assert logits.dtype == dtype
    assert model.decode_step(TARGET[:, 0], model.init_state(SOURCE)).dtype == dtype
    logits.float().sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def test_bfloat16_logits_are_near_those_of_float64(family):
    model = build(family)
    exact = model(SOURCE, TARGET).detach()
    model.compute_dtype = torch.bfloat16
    rounded = model(SOURCE, TARGET).detach().double()
    # 8 bits of mantissa through two layers on either side.
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
    assert torch.equal(model(SOURCE, TARGET), other(SOURCE, TARGET))


@pytest.mark.parametrize("family", [*ALONE, COPYING])
def test_tied_tables_are_one(family):
    sizes = [
        sum(parameter.numel() for parameter in build(family, tied=tied).parameters())
        for tied in TIED.get(family, ("all", "target", "none"))
    ]
    more_rows = [(larger - sizes[0]) // 16 for larger in sizes]
    assert more_rows == [0, VOCAB, 2 * VOCAB][: len(sizes)]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_output_of_a_pair_is_tied_to_its_decoder(pair):
    tied, untied = (
        sum(parameter.numel() for parameter in join(pair, {}, tied=is_tied).parameters())
        for is_tied in (True, False)
    )
    assert untied - tied == VOCAB * 16


@pytest.mark.slow
@pytest.mark.parametrize("family", [*ALONE, COPYING, *LEARNING_PAIRS])
def test_it_learns_a_tiny_set_by_heart(family, monkeypatch):
    monkeypatch.setitem(OWN_SIZES, "mesanet", {"num_iterations": 10})
    model = build(family, dropout=0.0, dim=32).float().train()
    model.compute_dtype = torch.float32
    torch.manual_seed(2)
    words = torch.randint(3, VOCAB, (8, 5))
    batch = Batch(
        source_ids=words,
        target_ids=torch.cat([torch.ones(8, 1, dtype=torch.long), words.flip(1)], dim=1),
        labels=torch.cat([words.flip(1), torch.full((8, 1), 2)], dim=1),
        rows=torch.arange(8).numpy(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=7e-3)
    # What is copied goes on at first; that all distances differ takes time to learn.
    for _ in range(60 if family in (COPYING, "t5") else 45):
        optimizer.zero_grad()
        TargetLoss(label_smoothing=0.0)(model, batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    assert float(TargetLoss(label_smoothing=0.0)(model, batch).nll) < 0.1
    found = beam_search(model, words, BeamSearchConfig(beam=2))
    assert [hypotheses[0].ids for hypotheses in found] == words.flip(1).tolist()
