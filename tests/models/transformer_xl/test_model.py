"""Transformer-XL: attention against the paper's equations, the memory, patterns, bounds."""

from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ConfigError
from regard.layers.attention_config import AttentionConfig
from regard.layers.relative_attention import RelativeAttention
from regard.models.transformer_xl.model import TransformerXl, TransformerXlConfig

VOCAB = 20
SMALL = TransformerXlConfig(num_layers=3, dim=16, num_heads=2, hidden_dim=24, dropout=0.0, memory=4)
IDS = torch.randint(1, VOCAB, (2, 14), generator=torch.Generator().manual_seed(1))


def build(pattern="full", **changes) -> Any:
    torch.manual_seed(0)
    config = msgspec.structs.replace(SMALL, **changes)
    model = TransformerXl(config, VOCAB, AttentionConfig(pattern=pattern)).double().eval()
    model.compute_dtype = torch.float64
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "shared" in name or "norm" in name:  # large enough to show where they are missing
                parameter.add_(torch.randn_like(parameter))
    return model


def sinusoid(distance, dim):
    """The paper's R in the row of a distance."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = distance * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten()


def define_attention(attention, x, memory):
    """Dai et al. 2019, section 3.3, pair by pair, over memory and x, ``[batch, length, dim]``."""
    batch, length, dim = x.shape
    heads, size = attention.shared.content_bias.shape
    extended = torch.cat([memory, x], dim=1)
    num_kept = memory.shape[1]
    W_q, W_kR, W_o = (
        layer.weight for layer in (attention.query, attention.distance, attention.output)
    )
    W_kE, W_v = attention.key_value.weight.chunk(2)
    rows = []
    for i in range(length):
        q = (x[:, i] @ W_q.T).view(batch, heads, size)
        scores, values = [], []
        for j in range(num_kept + i + 1):
            k = (extended[:, j] @ W_kE.T).view(batch, heads, size)
            r = (W_kR @ sinusoid(num_kept + i - j, dim)).view(heads, size)
            a = (q * k).sum(-1)  # (a) content
            b = (q * r).sum(-1)  # (b) position, as the content asks
            c = (attention.shared.content_bias * k).sum(-1)  # (c) content bias
            d = (attention.shared.position_bias * r).sum(-1)  # (d) position bias
            scores.append((a + b + c + d) / size**0.5)
            values.append((extended[:, j] @ W_v.T).view(batch, heads, size))
        weights = torch.stack(scores).softmax(0)  # [keys, batch, heads]
        rows.append((weights[..., None] * torch.stack(values)).sum(0).flatten(1) @ W_o.T)
    return torch.stack(rows, dim=1)


def define_norm(norm, x):
    if isinstance(norm, torch.nn.Identity):
        return x
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.epsilon).sqrt()
    return centred / deviation * norm.weight + norm.bias


def define_logits(model, ids, memory):
    """Compute the post-norm model of section 3.3; memory is h^0 to h^(N-1), each perhaps empty."""
    h = model.embedding.weight[ids] * 16**0.5
    carried = []
    for block, kept in zip(model.blocks, memory, strict=True):
        carried.append(torch.cat([kept, h], dim=1)[:, -model.config.memory :].detach())
        attended = h + define_attention(block.self_attention, h, kept)
        h = define_norm(block.attention_residual.norm, attended)
        inner, outer = block.feed_forward.inner, block.feed_forward.outer
        fed = (h @ inner.weight.T + inner.bias).relu() @ outer.weight.T + outer.bias
        h = define_norm(block.feed_forward_residual.norm, h + fed)
    return h @ model.embedding.weight.T, carried


def assert_close(found, wanted, tolerance=1e-10):
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(1, 6), num_kept=st.integers(0, 6), seed=st.integers(0, 99))
def test_attention_equals_the_equations_of_the_paper(length, num_kept, seed):
    attention: RelativeAttention = build().mixers[0]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, num_kept + length, 16, generator=generator, dtype=torch.float64)
    memory = attention.make_memory()
    memory.size = 6
    if num_kept:
        attention(x[:, :num_kept], cache=memory)
    with torch.no_grad():
        found = attention(x[:, num_kept:], cache=memory)
        assert_close(found, define_attention(attention, x[:, num_kept:], x[:, :num_kept]))


def test_segments_equal_the_recurrence_of_the_paper():
    model, memory = build(norm="post", memory=5), None
    kept = [torch.zeros(2, 0, 16, dtype=torch.float64)] * 3
    for segment in IDS.split(4, dim=1):
        hidden, memory = model.hidden_states_with_memory(segment, memory)
        logits, kept = define_logits(model, segment, kept)
        assert_close(model.logits(hidden), logits)


def test_gradients_of_a_segment_are_those_of_the_recurrence_with_its_memory_held_fixed():
    model = build(norm="post", memory=5)
    first, second = IDS[:, :4], IDS[:, 4:8]
    _, memory = model.hidden_states_with_memory(first)
    hidden, _ = model.hidden_states_with_memory(second, memory)
    _, kept = define_logits(model, first, [torch.zeros(2, 0, 16, dtype=torch.float64)] * 3)
    wanted, _ = define_logits(model, second, kept)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(model.logits(hidden).logsumexp(-1).sum(), parameters),
        torch.autograd.grad(wanted.logsumexp(-1).sum(), parameters),
        strict=True,
    ):
        assert_close(one, other)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_segments_equal_one_pass_up_to_the_memory_and_its_next_position(norm):
    model, memory = build(norm=norm, memory=6), None
    whole = model.hidden_states(IDS[:, :7])
    for first, last in ((0, 3), (3, 6), (6, 7)):
        hidden, memory = model.hidden_states_with_memory(IDS[:, first:last], memory)
        assert_close(hidden, whole[:, first:last])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("pattern", ["full", "local:2|global:0", "strided:3", "top_k:3"])
def test_generation_equals_training_by_the_same_segments(norm, pattern):
    model, memory = build(pattern, norm=norm), None
    state = model.init_state()
    for first, last in ((0, 3), (3, 4), (4, 5), (5, 10), (10, 11), (11, 14)):
        hidden, memory = model.hidden_states_with_memory(IDS[:, first:last], memory)
        logits = model.decode_step(IDS[:, first:last], state)
        assert_close(logits, model.logits(hidden[:, -1]))


def test_a_window_no_longer_than_the_memory_makes_generation_exact_for_any_length():
    model = build("local:4")
    whole, state = model(IDS), model.init_state()
    for place in range(IDS.shape[1]):
        logits = model.decode_step(IDS[:, place : place + 1], state)
        assert_close(logits, whole[:, place])


def test_every_layer_looks_further_back_by_the_memory():
    model = build(memory=2)
    text = IDS[0].masked_fill(IDS[0] == 19, 3)
    changed = torch.where(torch.eye(14, dtype=torch.bool), 19, text)  # row i differs at place i
    ids = torch.cat([changed[:13], text[None]])
    state = model.init_state()
    for place in range(13):
        model.decode_step(ids[:, place : place + 1], state)
    logits = model.decode_step(ids[:, 13:], state)
    is_seen = [not torch.allclose(logits[i], logits[13], rtol=0, atol=1e-9) for i in range(13)]
    # Three layers of two positions each, before the last.
    assert is_seen == [False] * 7 + [True] * 6


def test_a_segment_does_not_see_more_of_the_past_than_the_memory_holds():
    (attention, *_) = build(memory=3).mixers
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 16, generator=generator, dtype=torch.float64)
    changed = x.clone()
    changed[:, 2] += 1.0
    outs = []
    for inputs in (x, changed):
        for memory in (attention.make_memory(), attention.make_cache()):
            attention(inputs[:, :6], cache=memory)
            outs.append(attention(inputs[:, 6:], cache=memory))
    for out in outs[1:]:
        assert_close(out, outs[0])
    changed[:, 3] += 1.0
    memory = attention.make_memory()
    attention(changed[:, :6], cache=memory)
    assert not torch.allclose(attention(changed[:, 6:], cache=memory), outs[0])


def count_kept(state):
    tensors = [
        tensor
        for cache in state.caches
        for name, tensor in vars(cache).items()
        if isinstance(tensor, torch.Tensor) and name != "distances"
    ]
    return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in tensors)


def test_what_is_kept_is_bounded():
    model = build()
    state, sizes, memory = model.init_state(), [], None
    with torch.no_grad():
        for length in (3, 1, 1, 9, 1):
            ids = torch.full((2, length), 5)
            model.decode_step(ids, state)
            _, memory = model.hidden_states_with_memory(ids, memory)
            sizes.append((count_kept(state), count_kept(memory)))
    by_position = 3 * 2 * 16  # layers, rows, dim
    assert sizes[0] == (3 * 2 * by_position, 3 * by_position)
    assert sizes[1:] == [(4 * 2 * by_position, 4 * by_position)] * 4
    assert len(state) == len(memory) == 15
    assert {tuple(cache.distances.shape) for cache in state.caches} == {(2, 5, 8)}


def test_the_memory_has_no_graph_and_stays_as_it_is():
    model = build()
    _, memory = model.hidden_states_with_memory(IDS[:, :4])
    before = [cache.inputs.clone() for cache in memory.caches]
    assert not any(cache.inputs.requires_grad for cache in memory.caches)
    one, later = model.hidden_states_with_memory(IDS[:, 4:8], memory)
    other, _ = model.hidden_states_with_memory(IDS[:, 4:8], memory)
    assert torch.equal(one, other)
    assert (len(memory), len(later)) == (4, 8)
    assert all(torch.equal(cache.inputs, b) for cache, b in zip(memory.caches, before, strict=True))


def test_rows_of_a_memory_can_be_selected():
    model = build()
    _, memory = model.hidden_states_with_memory(IDS[:, :4])
    hidden, _ = model.hidden_states_with_memory(IDS[:, 4:], memory)
    memory.select(torch.tensor([1]))
    alone, _ = model.hidden_states_with_memory(IDS[1:, 4:], memory)
    assert_close(alone, hidden[1:])


def test_biases_are_shared_by_all_layers():
    names = [name for name, _ in build().named_parameters() if name.endswith("_bias")]
    assert len(names) == 2


def test_weights_can_be_watched():
    model, seen = build(), []
    model.mixers[0].on_attention = seen.append
    plain = build().hidden_states(IDS)
    assert_close(model.hidden_states(IDS), plain)
    assert_close(seen[0].weights.sum(-1), torch.ones(2, 2, 14, dtype=torch.float64))


def test_long_segments_are_computed_block_by_block_and_equal_the_dense_definition():
    (attention, *_) = build(memory=300, num_layers=1).mixers
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 800, 16, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        memory = attention.make_memory()
        attention(x[:, :300], cache=memory)
        found = attention(x[:, 300:], cache=memory)  # 500 x 800 pairs: by blocks
        for place in (300, 799):
            memory = attention.make_memory()
            memory.size = 800
            attention(x[:, :place], cache=memory)
            alone = attention(x[:, place : place + 1], cache=memory)
            assert_close(found[:, place - 300], alone[:, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": 0}, "memory must be 1 or more, not 0"),
        ({"dim": 15}, "dim must be even and a multiple of num_heads (2), not 15"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(changes, message):
    with pytest.raises(ValueError) as caught:
        TransformerXlConfig(**{"dim": 16, "num_heads": 2} | changes)
    assert str(caught.value) == message


def test_a_pattern_that_cannot_be_decoded_by_is_refused():
    with pytest.raises(ConfigError, match=r"^attention\.pattern=hierarchical: "):
        build("hierarchical")


def test_the_summary_tells_memory_and_pattern():
    assert SMALL.summary(AttentionConfig(decoder="local:4")) == (
        "3 layers, d=16, 2 heads, ff 24, pre-norm, memory 4, attention local:4"
    )


def test_a_segment_after_another_sees_it_and_sends_no_gradient_there():
    model = build(memory=4)
    before, ids = torch.randint(3, VOCAB, (2, 4)), torch.randint(3, VOCAB, (2, 6))
    _, memory = model.hidden_states_with_memory(before)
    wanted = model.hidden_states_with_memory(ids, memory)[0]
    found = model.hidden_states_after(before, ids)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
    assert not torch.allclose(found, model.hidden_states(ids))
    assert model.memory_length == 4


@torch.inference_mode()
def test_generation_projects_the_distances_only_when_there_are_more():
    torch.manual_seed(0)
    config = TransformerXlConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=20, memory=24)
    model = TransformerXl(config, 30).eval()
    counts = []
    (distance,) = (m for name, m in model.named_modules() if name.endswith("distance"))
    distance.register_forward_hook(lambda _, inputs, __: counts.append(len(inputs[0])))
    state, ids = model.init_state(), torch.randint(3, 30, (2, 40))
    for position in range(40):
        model.decode_step(ids[:, position : position + 1], state)
    assert counts == [2, 6, 14, 25]
