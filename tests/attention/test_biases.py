"""Biases: pair by pair, by blocks and heads, at the ends of their range, and their derivatives."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from regard.attention import BIASES, Alibi, T5Relative, alibi_slopes
from regard.errors import ConfigError

HEADS = 3
I = torch.arange(2, 6)  # noqa: E741 - the formulas' letter
J = torch.arange(7)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SLOPES, TABLE = draw(HEADS, seed=1), draw(HEADS, 8, seed=2)
HELD = [
    Alibi(SLOPES),
    T5Relative(TABLE, max_distance=6),
    T5Relative(TABLE, bidirectional=False, max_distance=6),
]
EVERY = pytest.mark.parametrize("bias", HELD, ids=["alibi", "t5", "t5_causal"])


def bucket(distance, *, bidirectional, num_buckets, max_distance):
    """The bucket of ``j - i``, a number at a time."""
    first, far = 0, -distance
    if bidirectional:
        num_buckets //= 2
        first, far = num_buckets * (distance > 0), abs(distance)
    far, num_exact = max(far, 0), num_buckets // 2
    if far < num_exact:
        return first + far
    share = math.log(far / num_exact) / math.log(max_distance / num_exact)
    return first + min(num_exact + int(share * (num_buckets - num_exact)), num_buckets - 1)


@EVERY
def test_a_bias_equals_its_formula_pair_by_pair(bias):
    found = bias(I[:, None], J, bias.tensors())
    assert found.shape == (HEADS, len(I), len(J))
    for h in range(HEADS):
        for a, i in enumerate(I.tolist()):
            for j in J.tolist():
                if isinstance(bias, Alibi):
                    wanted = -SLOPES[h] * abs(i - j)
                else:
                    both = bias.bidirectional
                    b = bucket(j - i, bidirectional=both, num_buckets=8, max_distance=6)
                    wanted = TABLE[h, b]
                assert found[h, a, j] == wanted


@EVERY
def test_a_bias_has_exact_derivatives_in_its_tensor(bias):
    (held,) = bias.tensors()
    held = held.clone().requires_grad_()

    def cube(held):
        return bias(I[:, None], J, (held,)).pow(3)

    assert gradcheck(cube, (held,), fast_mode=True)
    assert gradgradcheck(cube, (held,), fast_mode=True)


@EVERY
def test_torch_func_takes_the_hessian_of_a_bias(bias):
    (held,) = bias.tensors()

    def half_square(held):
        return bias(I[:, None], J, (held,)).square().sum() / 2

    found = torch.func.hessian(half_square)(held).reshape(held.numel(), held.numel())
    jacobian = torch.func.jacrev(lambda held: bias(I[:, None], J, (held,)))(held)
    jacobian = jacobian.reshape(-1, held.numel())
    torch.testing.assert_close(found, jacobian.T @ jacobian)  # the bias is linear in it


@EVERY
def test_torch_func_maps_over_tensors_of_a_bias(bias):
    (held,) = bias.tensors()
    stacked = torch.stack([held, 2 * held])
    found = torch.func.vmap(lambda held: bias(I[:, None], J, (held,)))(stacked)
    whole = bias(I[:, None], J, (held,))
    torch.testing.assert_close(found, torch.stack([whole, 2 * whole]))


@EVERY
def test_the_bias_of_a_block_and_of_some_heads_is_a_part_of_the_whole(bias):
    whole = bias(I[:, None], J, bias.tensors())
    held = tuple(tensor[1:] for tensor in bias.tensors())
    part = bias(I[1:3, None], J[2:5], held)
    torch.testing.assert_close(part, whole[1:, 1:3, 2:5], rtol=0, atol=0)


@EVERY
def test_one_row_of_tensors_serves_all_heads(bias):
    held = tuple(tensor[:1] for tensor in bias.tensors())
    found = bias(I[:, None], J, held)
    whole = bias(I[:, None], J, bias.tensors())
    torch.testing.assert_close(found.expand_as(whole)[2], whole[0], rtol=0, atol=0)


@EVERY
def test_every_row_may_have_keys_of_its_own(bias):
    keys = torch.stack([J, J + 3])[:, None, None, :]  # [batch, 1, 1, keys]
    found = bias(I[:, None], keys, bias.tensors())
    assert found.shape == (2, HEADS, len(I), len(J))
    for row in range(2):
        alone = bias(I[:, None], J + 3 * row, bias.tensors())
        torch.testing.assert_close(found[row], alone, rtol=0, atol=0)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_million_tokens_apart_is_finite_and_wide_enough(bias, dtype):
    held = tuple(tensor.to(dtype) for tensor in bias.tensors())
    found = bias(torch.tensor([[10**6]]), torch.tensor([0, 2 * 10**6]), held)
    assert found.dtype == (torch.float32 if isinstance(bias, Alibi) else dtype)
    assert torch.isfinite(found).all()


def test_alibi_of_half_precision_slopes_is_exact_in_the_distance():
    slopes = alibi_slopes(8).bfloat16()  # powers of two: exact
    found = Alibi(slopes)(torch.tensor([[3001]]), torch.arange(3002), (slopes,))
    wanted = Alibi(slopes.double())(torch.tensor([[3001]]), torch.arange(3002), (slopes.double(),))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0)


def test_keys_after_the_query_share_the_first_bucket_of_a_causal_table():
    buckets = T5Relative(TABLE, bidirectional=False).buckets(torch.arange(300))
    assert (buckets == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(4, 5), (7, 20), (16, 64), (64, 1000)])
def test_buckets_of_other_sizes_equal_those_of_transformers(
    bidirectional, num_buckets, max_distance
):
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    table = torch.zeros(1, num_buckets)
    bias = T5Relative(table, bidirectional=bidirectional, max_distance=max_distance)
    distances = torch.arange(-1500, 1501)
    wanted = t5.T5Attention._relative_position_bucket(
        distances,
        bidirectional=bidirectional,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    assert torch.equal(bias.buckets(distances), wanted)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 8, 12, 16, 20])
def test_there_is_a_slope_for_every_head_each_its_own(num_heads):
    slopes = alibi_slopes(num_heads).tolist()
    assert len(set(slopes)) == num_heads
    assert all(2**-8 <= slope < 1 for slope in slopes)


def test_the_slopes_of_eight_heads_are_the_papers():
    assert alibi_slopes(8).tolist() == [2**-h for h in range(1, 9)]


def test_too_few_buckets_for_one_direction_are_refused():
    with pytest.raises(ConfigError) as raised:
        T5Relative(torch.zeros(2, 1), bidirectional=False)
    assert str(raised.value) == (
        "T5Relative(max_distance=128) with 1 buckets: needs at least 2 buckets, and max_distance "
        "above 0."
    )


def test_a_bias_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign to field 'slopes'"):
        HELD[0].slopes = SLOPES


def test_the_registry_names_every_bias():
    assert list(BIASES.items()) == [("alibi", Alibi), ("t5", T5Relative)]
