from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.published_weights import assert_near, fill, padded_ids, spread

from regard.attention import Local, TopK, peak_saved_bytes
from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.longformer_attention import LongformerAttention
from regard.models.longformer.hf import LONGFORMER_FORMAT
from regard.models.longformer.model import Longformer, LongformerConfig

VOCAB = 50
FORMAT = LONGFORMER_FORMAT
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 90,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-2,
    "attention_window": 4,
}


@pytest.fixture(scope="module")
def transformers():
    package = pytest.importorskip("transformers")
    assert package.LongformerForMaskedLM  # imported on first use, which takes its time
    return package


def published(transformers, name: str = "LongformerForMaskedLM", **changes):
    """Build the model of `transformers` with random weights."""
    theirs = getattr(transformers, name)(transformers.LongformerConfig(**SMALL | changes)).eval()
    spread(theirs)
    return theirs


def load(theirs, num_global: int):
    """Build our model of the same weights."""
    fields = theirs.config.to_dict() | {"num_global": num_global}
    config = FORMAT.adapt(FORMAT.read(fields), set(theirs.state_dict()))
    ours = Longformer(config, VOCAB).eval()
    assert not fill(ours, FORMAT, config, theirs)
    return ours


def run(theirs, ids, num_global: int, **inputs):
    """Run theirs with the first tokens global."""
    is_global = (torch.arange(ids.shape[1]) < num_global).long().expand_as(ids)
    mask = (ids != theirs.config.pad_token_id).long()
    return theirs(ids, attention_mask=mask, global_attention_mask=is_global, **inputs)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 3, 4, 6]),
    window=st.sampled_from([4, 6, 16]),
    num_global=st.integers(0, 3),
    lengths=st.lists(st.integers(3, 70), min_size=1, max_size=3).map(tuple),
)
def test_logits_are_those_of_transformers(transformers, layers, heads, window, num_global, lengths):
    theirs = published(
        transformers,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        attention_window=window,
    )
    ids = padded_ids(VOCAB, lengths, pad_id=1)
    expected = run(theirs, ids, num_global).logits
    assert_near(load(theirs, num_global)(ids), expected, ids, pad_id=1)


def test_layers_of_different_windows_are_those_of_transformers(transformers):
    theirs = published(transformers, attention_window=[4, 8])
    ids = padded_ids(VOCAB, (24, 5), pad_id=1)
    assert_near(load(theirs, 2)(ids), run(theirs, ids, 2).logits, ids, pad_id=1)


def test_segments_and_activation_are_those_of_transformers(transformers):
    theirs = published(transformers, type_vocab_size=2, hidden_act="relu", pad_token_id=3)
    ids = padded_ids(VOCAB, (12, 7), pad_id=3)
    segments = (torch.arange(12) > 4).long().expand_as(ids)
    expected = run(theirs, ids, 1, token_type_ids=segments).logits
    assert_near(load(theirs, 1)(ids, segments=segments), expected, ids, pad_id=3)


def test_states_and_vector_of_a_bare_encoder_are_those_of_transformers(transformers):
    theirs = published(transformers, "LongformerModel")
    ours = load(theirs, 2)
    ids = padded_ids(VOCAB, (12, 7), pad_id=1)
    expected, hidden = run(theirs, ids, 2), ours.hidden_states(ids)
    assert_near(hidden, expected.last_hidden_state, ids, pad_id=1)
    torch.testing.assert_close(ours.pooled(hidden, ids), expected.pooler_output, rtol=0, atol=1e-4)


def test_fields_written_open_in_transformers_and_read_back_the_same(transformers):
    config = LongformerConfig(num_layers=2, dim=24, num_heads=3, window=(4, 8), num_global=2)
    fields = FORMAT.write(config, VOCAB)
    opened = transformers.AutoConfig.for_model(**fields)
    theirs = getattr(transformers, fields["architectures"][0])(opened)
    assert FORMAT.adapt(FORMAT.read(opened.to_dict()), set(theirs.state_dict())) == config


@pytest.mark.parametrize(
    ("architecture", "num_global"),
    [("LongformerForMaskedLM", 0), ("LongformerForSequenceClassification", 1)],
)
def test_global_tokens_are_those_of_the_published_model_by_default(architecture, num_global):
    assert FORMAT.read({"architectures": [architecture]}).num_global == num_global
    assert FORMAT.read({"architectures": architecture}).num_global == num_global


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (7, "window must be even and 2 or more, not 7"),
        ((4, 4), "window must be one number or one for each of 12 layers, not 2"),
    ],
)
def test_windows_are_checked(window, message):
    with pytest.raises(ValueError) as caught:
        LongformerConfig(window=window)
    assert str(caught.value) == message


def test_a_published_window_that_is_not_a_number_is_refused():
    with pytest.raises(ConfigError) as caught:
        FORMAT.read({"attention_window": "wide"})
    assert str(caught.value) == (
        "config.json: attention_window='wide': expected a whole number or a list of them."
    )


def attention(pattern, num_global: int) -> LongformerAttention:
    torch.manual_seed(0)
    return LongformerAttention(8, 2, pattern=pattern, num_global=num_global).double()


@pytest.mark.parametrize("length", [1, 2, 3, 11])
@pytest.mark.parametrize("pattern", [Local(1, 1), TopK(2)])
def test_texts_as_short_as_their_global_tokens_are_read(length, pattern):
    x = torch.randn(2, length, 8, dtype=torch.float64)
    assert attention(pattern, 2)(x, lengths=torch.tensor([length, 1])).shape == x.shape


def test_a_change_is_seen_within_the_window_and_by_global_tokens_only():
    mix, x = attention(Local(1, 1), 1), torch.randn(1, 9, 8, dtype=torch.float64)
    changed = x.clone()
    changed[0, 5] += 1.0
    moved = (mix(changed) - mix(x)).abs().amax(-1)[0] > 1e-9
    assert moved.nonzero()[:, 0].tolist() == [0, 4, 5, 6]


def test_a_change_of_a_global_token_is_seen_by_all():
    mix, x = attention(Local(1, 1), 1), torch.randn(1, 9, 8, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0] += 1.0
    assert bool(((mix(changed) - mix(x)).abs().amax(-1)[0] > 1e-9).all())


@pytest.mark.parametrize("length", [7, 700])
def test_the_weights_of_every_row_sum_to_one(length):
    mix, records = attention(Local(1, 1), 2), []
    mix.on_attention = records.append
    x = torch.randn(1, length, 8, dtype=torch.float64)
    expected = mix(x)
    weights = torch.cat([record.weights.to_dense() for record in records], dim=2)
    assert weights.shape == (1, 2, length, length)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, length).double())
    mix.on_attention = None
    torch.testing.assert_close(mix(x), expected)


def test_long_texts_give_what_short_methods_give():
    """From 512 x 512 pairs on attention is computed block by block."""
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "dim": 8, "num_heads": 2, "hidden_dim": 8, "max_positions": 1200}
    model = Longformer(LongformerConfig(**sizes, window=4, num_global=2), 20).eval().double()
    model.compute_dtype = torch.float64
    ids = torch.randint(1, 20, (1, 1200))
    short = model.hidden_states(torch.cat([ids[:, :2], ids[:, 2:200]], dim=1))
    # One layer: a token far from the end of the short text sees the same of both.
    torch.testing.assert_close(model.hidden_states(ids)[:, 2:198], short[:, 2:198])


def test_the_reported_memory_is_that_of_windows_and_global_rows():
    model = Longformer(LongformerConfig(num_layers=2, dim=8, num_heads=2, num_global=2), 20)
    # Two numbers of four bytes: a window's dense scores at the most tokens that are computed so,
    # and two global rows.
    of_window = peak_saved_bytes(Local(1, 1), 4096)
    assert model.attention_bytes(AttentionConfig(), 4096) == 2 * 2 * (of_window + 8 * 2)


def test_a_summary_tells_the_window():
    config = LongformerConfig(num_layers=2, window=(64, 128))
    assert config.summary(AttentionConfig()) == (
        "2 layers, d=768, 12 heads, ff 3072, post-norm, attention full, window 64 / 128, 1 global"
    )


def test_a_graph_of_all_rows_gives_what_rows_of_one_question_give(monkeypatch):
    config = LongformerConfig(
        num_layers=2, dim=24, num_heads=3, hidden_dim=40, window=4, question_end_id=2
    )
    model = Longformer(config, VOCAB).eval()
    spread(model)
    ids = torch.randint(3, VOCAB, (4, 12), generator=torch.Generator().manual_seed(0))
    ids[0, 3], ids[1, 0], ids[2, 11] = 2, 2, 2  # the last row has no end of a question
    lengths = torch.tensor([12, 7, 12, 9])
    is_token = torch.arange(12) < lengths[:, None]
    with torch.inference_mode():
        expected = model.hidden_states(ids, lengths=lengths)[is_token]
        monkeypatch.setattr("regard.models.longformer.model.is_recording", lambda: True)
        states = model.hidden_states(ids, lengths=lengths)[is_token]
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)
