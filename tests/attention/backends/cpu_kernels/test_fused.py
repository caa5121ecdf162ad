"""The compiled kernels equal the definition on every instruction set that this machine can run."""

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.attention import (
    AttentionOptions,
    Causal,
    Full,
    Global,
    Local,
    allowed_matrix,
    attend,
    blockwise_attention,
    dense_attention,
    dispatch,
)
from regard.attention.backends.cpu_kernels import Fused, compiling, instructions, loading

BANDS = [Full(), Causal(), Local(100, 0), Local(7, 30), Local(0, 0), Local(300, 300)]


def load(name):
    """Load kernels, where the processor has the instructions."""
    ranks = ["baseline", "avx2", "avx512"]
    capability = torch.backends.cpu.get_cpu_capability().lower()
    rank = ranks.index(capability) if capability in ranks else 0
    return loading.load(name) if ranks.index(name.split("_")[0]) <= rank else None


@pytest.fixture(params=["baseline", "avx2", "avx512", "avx512_bf16"])
def kernels(request, monkeypatch):
    library = load(request.param)
    if library is None:
        pytest.skip(f"{request.param}: not compiled here, or the processor does not have it")
    monkeypatch.setattr(loading, "load_fastest", lambda: library)


@pytest.fixture(scope="module")
def compiled():
    if instructions() is None:
        pytest.skip("the kernels were not compiled: there is no C++ compiler")


def draw(*shape, dtype=torch.float64, seed=0, projected=False):
    """Draw ``[batch, heads, length, dim]``, laid out as projections are where told."""
    batch, heads, length, dim = shape
    generator = torch.Generator().manual_seed(seed)
    if projected:
        drawn = torch.randn(batch, length, heads, dim, generator=generator, dtype=torch.float64)
        return drawn.to(dtype).transpose(1, 2).requires_grad_()
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return drawn.to(dtype).requires_grad_()


def definition(q, k, v, pattern, options):
    allowed = allowed_matrix(pattern, q.shape[2], k.shape[2], query_offset=options.query_offset)
    return dense_attention(
        q, k, v, mask=options.allowed(allowed[None, None], q, k), options=options
    )[0]


def differentiate(out, inputs):
    """Return the value, and the gradient along a fixed direction."""
    direction = draw(*out.shape, seed=9).detach().to(out.dtype)
    return out, *torch.autograd.grad(out, inputs, direction)


def assert_equal_to_definition(q, k, v, pattern, *, rtol=1e-10, atol=1e-11, **options):
    options = AttentionOptions(**options)
    found = differentiate(
        blockwise_attention(q, k, v, pattern=pattern, options=options).out, (q, k, v)
    )
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    wanted = differentiate(definition(*wide, pattern, options), wide)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("pattern", BANDS, ids=repr)
@pytest.mark.parametrize("projected", [False, True])
def test_every_band_equals_the_definition(kernels, pattern, projected):
    q = draw(2, 4, 201, 20, seed=1, projected=projected)
    k = draw(2, 2, 230, 20, seed=2, projected=projected)
    v = draw(2, 2, 230, 36, seed=3, projected=projected)
    segments = tuple(
        torch.arange(n).div(50, rounding_mode="floor").expand(2, n) for n in (201, 230)
    )
    assert_equal_to_definition(q, k, v, pattern)
    assert_equal_to_definition(
        q, k, v, pattern, query_offset=17, lengths=torch.tensor([150, 0]), segments=segments
    )


# Errors of a few units of the type's last place, in sums of some hundred options.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_narrow_types_are_accurate(kernels, dtype, rtol):
    q, k, v = (draw(2, 3, 300, 64, dtype=dtype, seed=i, projected=True) for i in range(3))
    assert_equal_to_definition(q, k, v, Local(90, 0), rtol=rtol, atol=rtol)


@settings(max_examples=40, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    queries=st.integers(1, 140),
    keys=st.integers(1, 140),
    dims=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    before=st.integers(0, 150),
    after=st.integers(0, 150),
    offset=st.integers(0, 40),
)
def test_every_shape_equals_the_definition(
    compiled, heads, queries, keys, dims, before, after, offset
):
    num_heads, kv_heads = heads
    q = draw(1, num_heads, queries, dims[0], seed=1)
    k, v = draw(1, kv_heads, keys, dims[0], seed=2), draw(1, kv_heads, keys, dims[1], seed=3)
    assert_equal_to_definition(q, k, v, Local(before, after), query_offset=offset)


def test_a_band_beside_other_patterns_is_joined_to_them(compiled):
    q, k, v = (draw(1, 2, 150, 8, seed=i) for i in range(3))
    for pattern in (Local(9, 9) | Global((0, 77)), Global((3,)) | Local(20, 0)):
        assert_equal_to_definition(q, k, v, pattern)


def test_higher_derivatives_continue_from_the_kernels(compiled):
    q, k, v = (draw(1, 2, 130, 8, seed=i) for i in range(3))

    def product(run):
        gradient = torch.autograd.grad(run().square().sum(), (q, k, v), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradient), (q, k, v))

    found = product(lambda: attend(q, k, v, pattern=Causal()))
    wanted = product(lambda: definition(q, k, v, Causal(), AttentionOptions()))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_a_batch_of_directions_gives_as_many_gradients(compiled):
    q, k, v = (draw(1, 2, 130, 8, seed=i) for i in range(3))
    out = attend(q, k, v, pattern=Causal())
    directions = torch.stack([torch.ones_like(out), out.detach()])
    both = torch.autograd.grad(out, q, directions, is_grads_batched=True, retain_graph=True)[0]
    each = [torch.autograd.grad(out, q, d, retain_graph=True)[0] for d in directions]
    torch.testing.assert_close(both, torch.stack(each))


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_not_finite_shows_where_it_is_seen(kernels, name, value, dtype):
    inputs = {x: draw(1, 2, 200, 20, dtype=dtype, seed=i).detach() for i, x in enumerate("qkv")}
    inputs[name][0, 1, 100, 3] = value
    out = blockwise_attention(
        *inputs.values(), pattern=Local(30, 30), options=AttentionOptions()
    ).out
    assert out[0, 0].isfinite().all()
    assert not out[0, 1, 100].isfinite().all()
    if name == "k":  # an infinite key can have the weight 0: its whole head shows it
        assert not out[0, 1].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_of_ten_thousand_do_not_overflow(kernels, dtype):
    q = (100 * torch.ones(1, 1, 200, 16)).to(dtype).requires_grad_()
    k = draw(1, 1, 200, 16, dtype=dtype, seed=1)
    v = draw(1, 1, 200, 16, dtype=dtype, seed=2)
    options = AttentionOptions()
    out = blockwise_attention(q, 100 * k, v, pattern=Causal(), options=options).out
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


def test_the_number_of_threads_changes_nothing(compiled):
    q, k, v = (draw(2, 4, 700, 16, dtype=torch.float32, seed=i) for i in range(3))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            out = blockwise_attention(q, k, v, pattern=Causal(), options=AttentionOptions()).out
            found.append(differentiate(out, (q, k, v)))
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)


def test_the_output_of_projected_heads_merges_without_a_copy(compiled):
    q, k, v = (draw(2, 4, 130, 16, seed=i, projected=True) for i in range(3))
    assert attend(q, k, v).transpose(1, 2).is_contiguous()


def test_without_kernels_attention_is_the_same_and_said_to_be_slower_once(compiled, monkeypatch):
    q, k, v = (draw(1, 2, 600, 16, seed=i) for i in range(3))
    with_kernels = differentiate(attend(q, k, v, pattern=Local(50, 0)), (q, k, v))
    monkeypatch.setattr(loading, "load_fastest", lambda: None)
    assert not Fused.takes((q, k, v))
    dispatch.warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"kernels were not compiled.*Install regard") as warned:
        attend(q, k, v, pattern=Local(50, 0))
        without = differentiate(attend(q, k, v, pattern=Local(50, 0)), (q, k, v))
    assert len(warned) == 1
    torch.testing.assert_close(with_kernels, without, rtol=1e-10, atol=1e-11)


def test_kernels_of_other_sources_are_not_used_and_say_so_once(compiled, monkeypatch):
    monkeypatch.setattr(loading, "digest_sources", lambda *_: "another")
    with pytest.warns(UserWarning, match=r"compiled from other sources.*pip install") as told:
        assert loading.load_fastest.__wrapped__() is None
    assert len(told) == 1


def test_where_there_is_a_compiler_there_are_kernels():
    if shutil.which("c++") is None or not compiling.instruction_sets():
        pytest.skip("no C++ compiler, or a processor that is not known")
    assert instructions() is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [127, 128, 300])  # both sides of what the kernels compute
def test_the_lowest_scores_that_are_documented_are_exact(kernels, dtype, length):
    q = torch.zeros(1, 1, length, 4, dtype=dtype)
    q[..., 0] = 2  # a scale of one half
    k = torch.zeros_like(q)
    k[..., 0] = -6e29
    v = draw(1, 1, length, 4, dtype=dtype).detach()
    out = attend(q, k, v, pattern=Causal())
    mean = v.double().cumsum(2) / torch.arange(1, 1 + length)[:, None]
    torch.testing.assert_close(out.double(), mean, rtol=1e-4, atol=1e-5)
