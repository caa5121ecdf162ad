from __future__ import annotations

import pytest
import torch
from torch import nn

from regard.attention import Full, Local, peak_saved_bytes
from regard.layers.attention_config import AttentionConfig
from regard.models import Classifier, SpanModel
from regard.models.modernbert.model import ModernBert, ModernBertConfig

VOCAB = 30
SIZES = {"dim": 16, "num_heads": 2, "hidden_dim": 24}
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 4, 2, 0, 0]])


def build(attention: AttentionConfig | None = None, **changes) -> ModernBert:
    torch.manual_seed(0)
    config = ModernBertConfig(**{"num_layers": 4, **SIZES} | changes)
    return ModernBert(config, VOCAB, attention or AttentionConfig()).eval()


def patterns(model) -> list:
    return [block.self_attention.pattern for block in model.blocks]


def test_every_third_layer_sees_all_tokens_by_a_base_of_its_own():
    model = build(window=(0, 8, 8))
    assert patterns(model) == [Full(), Local(4, 4), Local(4, 4), Full()]
    bases = [block.self_attention.rotary.base for block in model.blocks]
    assert bases == [160_000.0, 10_000.0, 10_000.0, 160_000.0]


def test_one_window_is_that_of_all_layers_and_half_of_it_is_rounded_down():
    assert patterns(build(num_layers=2, window=9)) == [Local(4, 4), Local(4, 4)]


def test_a_pattern_that_is_set_replaces_windows():
    model = build(AttentionConfig(pattern=("local:2", "full")), window=8)
    assert patterns(model) == [Local(2, 2), Local(4, 4)] * 2


def test_the_first_attention_has_no_norm():
    model = build()
    norms = [type(block.attention_residual.norm) for block in model.blocks]
    assert norms[0] is nn.Identity
    assert nn.Identity not in norms[1:]


def test_a_model_has_no_biases_but_those_of_its_logits():
    names = [name for name, _ in build().named_parameters() if name.endswith("bias")]
    assert names == ["head.bias"]


def test_memory_is_linear_in_the_length_where_there_are_windows():
    model, attention = build(num_layers=2, window=(0, 8)), AttentionConfig()
    size = model.compute_dtype.itemsize
    pairs = sum(peak_saved_bytes(p, 512, itemsize=size) for p in (Full(), Local(4, 4)))
    assert model.attention_bytes(attention, 512) == 2 * pairs


def test_padding_changes_nothing_on_either_side_of_the_window():
    model = build(window=(0, 128, 128)).double()
    ids = torch.randint(1, VOCAB, (5, 140))
    lengths = (140, 129, 128, 65, 64)
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
    whole = model.hidden_states(ids)
    for row, length in enumerate(lengths):
        alone = model.hidden_states(ids[row : row + 1, :length])
        torch.testing.assert_close(whole[row : row + 1, :length], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_labels_are_read_through_the_head_of_masked_tokens(pooling):
    encoder = build(pooling=pooling)
    head, states = encoder.head, encoder.hidden_states(IDS)
    encoder.drop_head()
    classifier = Classifier(encoder, 3).eval()
    classifier.output_weight.data.normal_()
    vectors = states[:, 0]
    if pooling == "mean":
        vectors = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    expected = head.norm(nn.functional.gelu(head.dense(vectors))) @ classifier.output_weight.T
    torch.testing.assert_close(classifier(IDS), expected)


def test_answers_are_read_through_the_same_head_at_each_token():
    encoder = build()
    head, states = encoder.head, encoder.hidden_states(IDS)
    encoder.drop_head()
    model = SpanModel(encoder, has_roles=False).eval()
    model.output_weight.data.normal_()
    expected = head.norm(nn.functional.gelu(head.dense(states))) @ model.output_weight.T
    torch.testing.assert_close(model(IDS), expected)
    assert model.vector_layers() == []
    assert model.unused_layers() == []


def test_a_classifier_may_have_no_head_of_its_own():
    encoder = build(has_pooler=False, pooling="mean")
    encoder.drop_head()
    assert encoder.pooler is None
    assert Classifier(encoder, 2)(IDS).shape == (2, 2)


def test_a_summary_tells_the_windows():
    full = AttentionConfig()
    assert ModernBertConfig().summary(full) == (
        "22 layers, d=768, 12 heads, ff 1152, pre-norm, attention full, window 128 in 14 of 22 "
        "layers"
    )
    assert "window" not in ModernBertConfig(window=0).summary(full)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": -1}, "window must be 0 or more, not -1"),
        ({"window": ()}, "window must have one number or more"),
        ({"dim": 18, "num_heads": 6}, "dim / num_heads must be even with rotary positions, not 3"),
        ({"rotary_base": 0.0}, "rotary_base must be above 0, not 0.0"),
        ({"position_offset": 1}, "position_offset must be 0, not 1: there is no table"),
        ({"embedding_dim": 8}, "embedding_dim must be none, not 8"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError) as caught:
        ModernBertConfig(**changes)
    assert str(caught.value) == message
