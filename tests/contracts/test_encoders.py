"""Every encoder of text keeps the contract of an encoder."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from tests.derivatives import assert_every_parameter_has_a_gradient, assert_second_derivatives

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.models import ENCODERS
from regard.models.base.encoder import EncoderConfig

VOCAB = 20
OWN_SIZES = {"longformer": {"window": 4}, "modernbert": {"window": (0, 4)}}
OF_BERT = [name for name, family in ENCODERS.items() if issubclass(family.config, EncoderConfig)]
"""Families with the options of BERT, and its initial weights."""
IDS = torch.tensor([[5, 6, 7, 8, 9, 2, 11], [9, 4, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0]])
LENGTHS = (7, 3, 1)
IS_VALID = IDS != 0


def build(family: str, attention: AttentionConfig | None = None, **changes):
    """Build a small model in float64, in evaluation mode."""
    torch.manual_seed(0)
    model = ENCODERS[family].model(
        settings(family, **changes), VOCAB, attention or AttentionConfig()
    )
    model = model.double().eval()
    model.compute_dtype = torch.float64
    with torch.no_grad():  # larger than small initial weights, so that all parts show
        for parameter in model.parameters():
            if parameter.dim() > 1 and family in OF_BERT:
                parameter.mul_(10.0)
    return model


def settings(family: str, **changes):
    """Make small settings, by the names that a family has for them."""
    sizes = {"num_layers": 2, "dim": 16, "num_heads": 2, "hidden_dim": 32, "max_positions": 16}
    sizes |= OWN_SIZES.get(family, {}) | changes
    kind = ENCODERS[family].config
    if "num_encoder_layers" in kind.__struct_fields__:  # settings of an encoder-decoder
        sizes["num_encoder_layers"] = sizes.pop("num_layers")
    return kind(**sizes)


def loss_of(model):
    """Take in logits and the vector of each text, padding left out."""
    hidden = model.hidden_states(IDS)
    logits = model.logits(hidden[IS_VALID])
    return logits.logsumexp(-1).sum() + model.pooled(hidden, IDS).exp().sum()


@pytest.fixture(params=ENCODERS)
def family(request):
    return request.param


@pytest.fixture
def model(family):
    return build(family)


def test_logits_have_one_row_a_token(model):
    assert model(IDS).shape == (3, 7, VOCAB)


def test_logits_are_those_of_the_last_states(model):
    hidden = model.hidden_states(IDS)
    assert hidden.shape == (3, 7, 16)
    torch.testing.assert_close(model.logits(hidden[IS_VALID]), model(IDS)[IS_VALID])


def test_a_token_is_seen_from_both_sides(model):
    changed = IDS[:1].clone()
    changed[0, 3] = 17
    moved = (model(changed) - model(IDS[:1])).abs().amax(-1)[0] > 1e-9
    assert bool(moved[2:5].all())


def test_padding_changes_nothing(model):
    whole = model(IDS)
    for row, length in enumerate(LENGTHS):
        alone = model(IDS[row : row + 1, :length])
        torch.testing.assert_close(whole[row : row + 1, :length], alone, rtol=0, atol=1e-12)


def test_a_row_is_as_alone_where_others_are_in_its_batch(model):
    torch.testing.assert_close(model(IDS)[:1], model(IDS[:1]), rtol=0, atol=1e-12)


def variants(*changes: dict):
    """Pair every family with no changes, and those of BERT's options with each of some."""
    pairs = [(family, {}) for family in ENCODERS]
    return pairs + [(family, change) for family in OF_BERT for change in changes]


@pytest.mark.parametrize(("family", "changes"), variants({"pooling": "mean"}, {"has_pooler": True}))
def test_the_vector_of_a_text_does_not_depend_on_its_padding(family, changes):
    model = build(family, **changes)
    vectors = model.pooled(model.hidden_states(IDS), IDS)
    assert vectors.shape == (3, 16)
    for row, length in enumerate(LENGTHS):
        ids = IDS[row : row + 1, :length]
        alone = model.pooled(model.hidden_states(ids), ids)
        torch.testing.assert_close(vectors[row : row + 1], alone, rtol=0, atol=1e-12)


def test_the_padding_of_another_id_is_masked_alike(family):
    model, other = build(family), build(family, pad_id=19)
    ids = IDS.masked_fill(~IS_VALID, 19)
    torch.testing.assert_close(other(ids)[IS_VALID], model(IDS)[IS_VALID])


def test_a_batch_of_padding_alone_is_finite(model):
    ids = torch.zeros(2, 3, dtype=torch.long)
    assert bool(model(ids).isfinite().all())
    assert bool(model.pooled(model.hidden_states(ids), ids).isfinite().all())


@pytest.mark.parametrize("family", OF_BERT)
def test_segments_matter(family):
    model = build(family, num_segments=2)
    segments = torch.ones_like(IDS)
    assert not torch.allclose(model(IDS, segments=segments), model(IDS))
    torch.testing.assert_close(model(IDS, segments=0 * segments), model(IDS))


@pytest.mark.parametrize(("family", "changes"), variants({"norm": "pre", "has_pooler": True}))
def test_every_parameter_gets_a_gradient(family, changes):
    assert_every_parameter_has_a_gradient(build(family, **changes), loss_of)


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
    torch.testing.assert_close(model(IDS), first, rtol=0, atol=0)


def test_weights_stay_float32_while_activations_are_bfloat16(family):
    model = build(family, **{"has_pooler": True} if family in OF_BERT else {}).float()
    model.compute_dtype = torch.bfloat16
    hidden = model.hidden_states(IDS)
    logits, vectors = model.logits(hidden), model.pooled(hidden, IDS)
    assert {logits.dtype, vectors.dtype} == {torch.bfloat16}
    (logits.float().logsumexp(-1).sum() + vectors.float().sum()).backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def test_bfloat16_logits_are_near_those_of_float64(family):
    model = build(family)
    exact = model(IDS)[IS_VALID].detach()
    model.compute_dtype = torch.bfloat16
    rounded = model(IDS)[IS_VALID].detach().double()
    # 8 bits of mantissa through two layers and the head.
    assert float((rounded - exact).abs().max()) < 0.1 * float(exact.std())


@pytest.mark.parametrize(
    "pattern",
    ["full", "local:2", "strided:2", "local:0.3", "random:2:1", "top_k:2", "hierarchical:2"],
)
def test_it_attends_by_any_pattern(family, pattern):
    model = build(family, AttentionConfig(encoder=pattern))
    whole = model(IDS)
    for row, length in enumerate(LENGTHS):
        alone = model(IDS[row : row + 1, :length])
        torch.testing.assert_close(whole[row : row + 1, :length], alone, rtol=0, atol=1e-12)
    loss_of(model).backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


@pytest.mark.parametrize("pattern", ["local:1", "strided:3", "top_k:2"])
def test_another_pattern_gives_other_logits(family, pattern):
    other = build(family, AttentionConfig(pattern=pattern))
    assert not torch.allclose(other(IDS), build(family)(IDS))


def test_layers_may_alternate_between_patterns(family):
    mixed = build(family, AttentionConfig(pattern=("local:1", "full")))
    assert not torch.allclose(mixed(IDS), build(family, AttentionConfig(pattern="local:1"))(IDS))


@pytest.mark.parametrize("name", ["decoder", "cross"])
def test_a_pattern_for_a_decoder_is_refused(family, name):
    with pytest.raises(ConfigError, match=rf"attention\.{name}=local:4: {family} has no decoder"):
        build(family, AttentionConfig(**{name: "local:4"}))


def test_the_memory_of_attention_is_reported(model):
    assert model.attention_bytes(AttentionConfig(), 100) > 0


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


@pytest.mark.parametrize("family", OF_BERT)
def test_parameters_of_the_default_configuration_begin_small(family):
    made = ENCODERS[family]
    model = made.model(made.config(num_layers=1, dim=64, num_heads=2, hidden_dim=64), VOCAB)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert 0.015 < float(parameter.detach().std()) < 0.025, name


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_learns_masked_words_by_heart(family, norm):
    torch.manual_seed(2)
    sizes = {"dim": 32, "hidden_dim": 64, "dropout": 0.0, "max_positions": 8}
    model = ENCODERS[family].model(settings(family, **sizes, norm=norm), VOCAB)
    words = torch.randint(3, VOCAB, (8, 6))
    is_masked = torch.zeros(8, 6, dtype=torch.bool)
    is_masked[torch.arange(8), torch.arange(8) % 6] = True
    shown = words.masked_fill(is_masked, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(
            model.logits(model.hidden_states(shown)[is_masked]), words[is_masked]
        ).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert torch.equal(model.eval()(shown).argmax(-1)[is_masked], words[is_masked])
