"""Packed documents: each text of a row is attended to as if it were alone."""

import pytest
import torch

from regard.attention import (
    Additive,
    Alibi,
    Blocks,
    Causal,
    Cosine,
    Full,
    Global,
    Hierarchical,
    Local,
    RelativeWindow,
    Strided,
    T5Relative,
    TopK,
    alibi_slopes,
    attend,
)
from regard.errors import ConfigError

HEADS, KV_HEADS, LENGTH = 2, 1, 210
PATTERNS = [
    Full(),
    Causal(),
    Local(7, 0),
    Global((0,)) | Local(2, 1),
    Strided(3) & Causal(),
    Blocks.random(20, 20, 8, per_row=2, seed=1),
    RelativeWindow(0.2, 0.1),
    TopK(3, causal=True),
    Hierarchical(4),
]
# Sizes 1, 9, 140 and 60; 100 and 110; numbers in no order.
NUMBERS = torch.stack(
    [
        torch.tensor([7, 2**40, -3, 0]).repeat_interleave(torch.tensor([1, 9, 140, 60])),
        torch.tensor([5, 5, 1]).repeat_interleave(torch.tensor([60, 40, 110])),
    ]
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs():
    return (
        draw(2, HEADS, LENGTH, 4, seed=1),
        draw(2, KV_HEADS, LENGTH, 4, seed=2),
        draw(2, KV_HEADS, LENGTH, 3, seed=3),
    )


def one_by_one(q, k, v, *, of_queries=NUMBERS, of_keys=NUMBERS, lengths=None, **options):
    """Attend to every document alone; also the log-sum-exp, where it is asked for."""
    outputs = None
    for row in range(len(q)):
        for number in of_queries[row].unique():
            i = (of_queries[row] == number).nonzero().squeeze(1)
            j = (of_keys[row] == number).nonzero().squeeze(1)
            j = j if lengths is None else j[j < lengths[row]]
            cut = {
                name: x[row : row + 1][:, :, i][..., j] if isinstance(x, torch.Tensor) else x
                for name, x in options.items()
            }
            rows = (q[row, None][:, :, i], k[row, None][:, :, j], v[row, None][:, :, j])
            alone = attend(*rows, **cut)
            alone = alone if isinstance(alone, tuple) else (alone,)
            if outputs is None:
                outputs = [x.new_zeros((*q.shape[:3], *x.shape[3:])) for x in alone]
            pairs = zip(outputs, alone, strict=True)
            outputs = [put(total, row, i, x[0]) for total, x in pairs]
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def put(total, row, i, part):
    rows = list(total.unbind(0))
    rows[row] = rows[row].index_copy(1, i, part)
    return torch.stack(rows)


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_each_document_is_as_if_alone(pattern):
    packed, alone = ([x.requires_grad_() for x in inputs()] for _ in range(2))
    out = attend(*packed, pattern=pattern, segments=(NUMBERS, NUMBERS), segments_are_documents=True)
    wanted = one_by_one(*alone, pattern=pattern)
    torch.testing.assert_close(out, wanted)
    cotangent = draw(*out.shape, seed=4)
    for found, expected in zip(
        torch.autograd.grad((out * cotangent).sum(), packed),
        torch.autograd.grad((wanted * cotangent).sum(), alone),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": Alibi(alibi_slopes(HEADS))},
        {"bias": T5Relative(draw(HEADS, 8, seed=5), max_distance=9), "score": Cosine(3.0)},
        {"bias": draw(2, 1, LENGTH, LENGTH, seed=6)},
        {"mask": draw(2, 1, LENGTH, LENGTH, seed=7) > 0, "return_lse": True},
        {"score": Additive(draw(HEADS, 4, seed=8)), "lengths": torch.tensor([205, 150])},
    ],
    ids=lambda options: " ".join(options),
)
def test_every_option_counts_from_the_start_of_a_document(options):
    segments = {"segments": (NUMBERS, NUMBERS), "segments_are_documents": True}
    wanted = one_by_one(*inputs(), pattern=Local(9, 4), **options)
    torch.testing.assert_close(
        attend(*inputs(), pattern=Local(9, 4), **segments, **options), wanted
    )


def test_pairs_of_texts_need_not_begin_at_the_same_positions():
    q, k, v = inputs()
    of_queries = torch.arange(LENGTH).expand(2, -1) // 50
    numbers = {"of_queries": of_queries, "of_keys": of_queries // 2}
    wanted = one_by_one(q, k, v, **numbers, pattern=Local(5, 5))
    found = attend(
        *(q, k, v),
        pattern=Local(5, 5),
        segments=(of_queries, of_queries // 2),
        segments_are_documents=True,
    )
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("pattern", [Causal(), Global((0,)) | Local(2, 1)], ids=repr)
def test_weights_and_transforms_count_from_the_start_too(pattern):
    q, k, v = inputs()
    options = {"segments": (NUMBERS, NUMBERS), "segments_are_documents": True, "pattern": pattern}
    wanted = attend(q, k, v, **options)
    out, weights = attend(q, k, v, return_weights=True, **options)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(weights @ v, wanted)
    tangent = torch.func.jvp(lambda v: attend(q, k, v, **options), (v,), (v,))[1]
    torch.testing.assert_close(tangent, wanted)


def test_a_step_of_decoding_counts_from_the_start_of_its_document():
    q, k, v = inputs()
    options = {"segments_are_documents": True, "pattern": Local(3, 0) | Global((0,))}
    wanted = attend(q, k, v, segments=(NUMBERS, NUMBERS), **options)
    step = attend(
        q[:, :, 190:],
        k,
        v,
        segments=(NUMBERS[:, 190:], NUMBERS),
        query_offset=190,
        **options,
    )
    torch.testing.assert_close(step, wanted[:, :, 190:])


def test_what_is_not_finite_stays_in_its_document():
    q, k, v = inputs()
    k[0, 0, 5] = torch.nan  # of the second
    out = attend(q, k, v, segments=(NUMBERS, NUMBERS), segments_are_documents=True)
    assert out[0, :, 1:10].isnan().all()
    assert out[0, :, 10:].isfinite().all()
    assert out[1].isfinite().all()


def test_documents_drop_pairs_of_their_own():
    q, k, v = inputs()
    numbers = torch.arange(LENGTH).expand(2, -1) // 30
    ones = torch.ones_like(v)
    out = attend(
        *(q * 0, k, ones),
        segments=(numbers, numbers),
        segments_are_documents=True,
        dropout=0.5,
        generator=torch.Generator().manual_seed(1),
    )
    by_document = out[..., 0].reshape(2, HEADS, 7, 30)
    assert len({tuple(x.tolist()) for x in by_document.flatten(0, 2)}) == 2 * HEADS * 7
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)


def test_documents_without_segments_are_refused():
    with pytest.raises(ConfigError, match="segments_are_documents needs segments"):
        attend(*inputs(), segments_are_documents=True)


@pytest.mark.parametrize("pattern", [Hierarchical(4), RelativeWindow(0.2, 0.1), Causal()], ids=repr)
def test_padding_that_has_the_number_of_the_last_document_ends_its_keys(pattern):
    q, k, v = inputs()
    lengths = torch.tensor([LENGTH - 40, 0])
    numbers = (NUMBERS, NUMBERS)
    out = attend(
        *(q, k, v), pattern=pattern, segments=numbers, segments_are_documents=True, lengths=lengths
    )
    last = slice(150, LENGTH)
    alone = attend(
        *(x[:1, :, last] for x in (q, k, v)), pattern=pattern, lengths=torch.tensor([20])
    )
    assert torch.allclose(out[:1, :, last], alone, rtol=0, atol=1e-12)
    assert not out[1].any()


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_documents_without_any_valid_key_give_zeros_and_zero_gradients(pattern):
    q, k, v = (x.requires_grad_() for x in inputs())
    out = attend(
        *(q, k, v),
        pattern=pattern,
        segments=(NUMBERS, NUMBERS),
        segments_are_documents=True,
        lengths=torch.zeros(2, dtype=torch.int64),
    )
    assert not out.any()
    assert not any(x.any() for x in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"return_weights": True}, "return_weights"), ({"query_offset": 1}, "query_offset")],
)
def test_a_window_of_each_document_says_what_it_does_not_go_with(options, reason):
    q, k, v = torch.randn(3, 1, 1, 6, 4)
    numbers = torch.tensor([[0, 0, 0, 1, 1, 1]])
    with pytest.raises(ConfigError, match=f"each document and does not go with {reason}"):
        attend(
            *(q[:, :, :5], k, v),
            pattern="local:0.5",
            segments=(numbers[:, :5], numbers),
            segments_are_documents=True,
            **options,
        )
