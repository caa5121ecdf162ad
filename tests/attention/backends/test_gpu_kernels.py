"""The Triton kernels give value, gradient and second derivative of the definition.

On a GPU where there is one, else by Triton's interpreter; skipped without Triton.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
)
from regard.attention.backends.band_shortcut import BandInputs
from regard.attention.backends.cpu_kernels import Fused
from regard.attention.backends.gpu_kernels import BandKernels, applicability, band_launch
from regard.attention.dense import dense_lse
from regard.attention.patterns.mask_algebra import MaskTerm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
triton = pytest.importorskip("triton", exc_type=ImportError)
if DEVICE.type == "cpu" and not triton.knobs.runtime.interpret:
    pytest.skip("needs TRITON_INTERPRET=1", allow_module_level=True)

FAR = band_launch.FAR
WINDOWS = [(5, 0), (40, 0), (0, 7), (20, 33), (FAR, 0), (FAR, FAR), (0, 0)]


@pytest.fixture(autouse=True)
def exact_products():
    """Multiply float32 in float32, not in TF32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(precision)


def draw(*shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def by_definition(inputs, g, c, cotangents):
    """Compute all in float64, by automatic differentiation of the definition."""
    leaves = [x.double().requires_grad_() for x in (inputs.q, inputs.k, inputs.v, g, c)]
    q, k, v, g, c = leaves
    segments = None
    if inputs.query_segments is not None:
        segments = inputs.query_segments[:, 0, :, 0], inputs.key_segments[:, 0, :, 0]
    options = AttentionOptions(lengths=inputs.lengths, segments=segments)
    term = MaskTerm(before=inputs.before, after=inputs.after)
    queries = torch.arange(q.shape[2], device=DEVICE)[:, None] + inputs.offset
    mask = options.allowed(term.allowed(queries, torch.arange(k.shape[2], device=DEVICE)), q, k)
    out, _ = dense_attention(q, k, v, mask=mask)
    lse = dense_lse(q, k, mask=mask, options=options)[..., None]
    seen = torch.where(lse.isinf(), 0.0, lse)
    total = (out * g).sum() + (seen * c).sum()
    first = torch.autograd.grad(total, [q, k, v], create_graph=True)
    products = sum((x * y).sum() for x, y in zip(first, cotangents, strict=True))
    return out, lse, *first, *torch.autograd.grad(products, leaves)


def compare(
    batch,
    heads,
    kv_heads,
    queries,
    keys,
    dims,
    window,
    offset=0,
    *,
    dtype=torch.float32,
    lengths=None,
    has_segments=False,
    rtol=1e-5,
):
    """Compare every number that the kernels compute, relative to the largest of its tensor."""
    dim, value_dim = dims
    of_queries, of_keys = (batch, heads, queries), (batch, kv_heads, keys)
    shapes = [(*of_queries, dim), (*of_keys, dim), (*of_keys, value_dim)]
    q, k, v = (draw(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes))
    x, y, z = (draw(*shape, seed=seed + 3, dtype=dtype) for seed, shape in enumerate(shapes))
    g, c = draw(*of_queries, value_dim, seed=6, dtype=dtype), draw(*of_queries, 1, seed=7)
    segments = [None, None]
    if has_segments:
        generator = torch.Generator().manual_seed(queries)
        segments = [
            torch.randint(3, (batch, 1, n, 1), generator=generator).to(DEVICE) << 40
            for n in (queries, keys)
        ]
    if lengths is not None:
        lengths = torch.tensor(lengths, device=DEVICE).clamp(max=keys)
    inputs = BandInputs(q, k, v, lengths, *segments, *window, offset, dim**-0.5)
    out, lse = band_launch.value(inputs)
    first = band_launch.gradient(inputs, out, lse, g, c)
    second = band_launch.second(inputs, g, c, (x, y, z))
    expected = by_definition(inputs, g, c, (x, y, z))
    for number, exact in zip((out, lse, *first, *second), expected, strict=True):
        exact = exact.detach()
        largest = float(exact[exact.isfinite()].abs().max()) if exact.isfinite().any() else 1.0
        torch.testing.assert_close(number.double(), exact, rtol=0, atol=rtol * max(1.0, largest))


@pytest.mark.slow
@settings(max_examples=15)
@given(
    batch=st.integers(1, 2),
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1)]),
    queries=st.integers(1, 100),
    keys=st.integers(1, 100),
    dims=st.sampled_from([(16, 16), (32, 32), (64, 64), (7, 20), (33, 1), (128, 128)]),
    window=st.sampled_from(WINDOWS),
    offset=st.sampled_from([0, 0, 1, 31, 64, 90]),
    lengths=st.none() | st.lists(st.integers(0, 100), min_size=2, max_size=2),
    has_segments=st.booleans(),
)
def test_drawn_bands_equal_the_definition(
    batch, heads, queries, keys, dims, window, offset, lengths, has_segments
):
    compare(
        batch,
        *heads,
        queries,
        keys,
        dims,
        window,
        offset,
        lengths=None if lengths is None else lengths[:batch],
        has_segments=has_segments,
    )


@pytest.mark.parametrize("length", [63, 64, 65, 128])
@pytest.mark.parametrize("window", [(63, 0), (64, 64), (FAR, 0)])
def test_both_sides_of_a_tile_equal_the_definition(length, window):
    compare(1, 2, 1, length, length, (16, 16), window)


@pytest.mark.parametrize("window", [(40, 0), (FAR, 0), (FAR, FAR)])
@pytest.mark.parametrize("lengths", [None, [70, 128]])
def test_a_chip_on_which_every_tile_is_masked_computes_the_same(monkeypatch, window, lengths):
    monkeypatch.setattr(band_launch, "skips_masks", lambda device: False)
    compare(2, 2, 1, 128, 128, (16, 16), window, lengths=lengths)


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [
        pytest.param(
            torch.bfloat16,
            0.03,
            marks=pytest.mark.skipif(
                DEVICE.type == "cpu", reason="Triton's interpreter multiplies bfloat16 as integers"
            ),
        ),
        (torch.float16, 0.004),
    ],
)
def test_half_precision_is_as_near_as_its_rounding(dtype, rtol):
    compare(1, 2, 1, 70, 70, (32, 32), (20, 0), dtype=dtype, rtol=rtol)


def test_tensors_in_any_order_of_axes_are_read():
    q = draw(1, 40, 2, 16, seed=1).transpose(1, 2)
    inputs = BandInputs(q, q, q.mT.contiguous().mT, None, None, None, 5, 0, 0, 0.25)
    out, lse = band_launch.value(inputs)
    expected = by_definition(inputs, out, lse, (q, q, q))
    assert out.stride() == q.stride()
    torch.testing.assert_close(out.double(), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of NumPy
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_reach_the_queries_that_see_them(value):
    q, k, v = (draw(1, 1, 40, 16, seed=seed) for seed in range(3))
    k[0, 0, 20] = value
    inputs = BandInputs(q.abs(), k, v, None, None, None, 3, 0, 0, 0.25)
    out, _ = band_launch.value(inputs)
    is_bad = out.isnan().any(-1)[0, 0]
    assert is_bad.nonzero().flatten().tolist() == [20, 21, 22, 23]


@pytest.fixture
def kernels(monkeypatch):
    """Choose the kernels wherever they run; return the names of what was launched."""
    monkeypatch.setattr(applicability, "is_on_gpu", lambda q: True)
    monkeypatch.setattr(applicability, "works", lambda *_: True)
    monkeypatch.setattr(Fused, "takes", staticmethod(lambda tensors: False))
    launched = []
    for name in ("value", "gradient", "second"):
        function = getattr(band_launch, name)

        def noted(*args, function=function, name=name):
            launched.append(name)
            return function(*args)

        monkeypatch.setattr(band_launch, name, noted)
    return launched


def hessian_vector_product(run, tensors):
    """Return value, gradient and the product of the Hessian with a vector."""
    inputs = [x.detach().requires_grad_() for x in tensors]
    out = run(*inputs)
    first = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
    product = torch.autograd.grad(sum((x * x.detach().sin()).sum() for x in first), inputs)
    return out, *first, *product


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        (Full(), None),
        (Causal(), [50, 17]),
        (Local(9, 3), [50, 0]),
        (Local(9, 0) | Global((0, 3)), None),
    ],
    ids=repr,
)
def test_a_hessian_vector_product_is_computed_by_the_kernels(kernels, pattern, lengths):
    q = draw(2, 4, 50, 16, seed=1)
    k, v = (draw(2, 2, 50, 16, seed=seed) for seed in (2, 3))
    lengths = None if lengths is None else torch.tensor(lengths, device=DEVICE)
    options = AttentionOptions(lengths=lengths)

    def by_kernels(q, k, v):
        return blockwise_attention(q, k, v, pattern=pattern, options=options).out

    def dense(q, k, v):
        allowed = allowed_matrix(pattern, 50, 50, device=DEVICE)
        mask = options.allowed(allowed, q, k)
        return dense_attention(q, k, v, mask=mask, options=options)[0]

    computed = hessian_vector_product(by_kernels, (q, k, v))
    # The gradient computes the value again, and so does the second derivative; the last is the
    # gradient by which the output, in the cotangent of the first, is differentiated.
    assert kernels == ["value", "value", "gradient", "second", "value", "gradient"]
    expected = hessian_vector_product(dense, (q.double(), k.double(), v.double()))
    for number, exact in zip(computed, expected, strict=True):
        atol = 1e-5 * max(1.0, float(exact.detach().abs().max()))
        torch.testing.assert_close(number.double(), exact, rtol=0, atol=atol)


@pytest.mark.parametrize("order", [1, 2])
def test_many_cotangents_at_once_give_what_they_give_one_by_one(kernels, order):
    q = draw(1, 2, 20, 16, seed=1).requires_grad_()
    out = blockwise_attention(q, q, q, pattern=Local(3, 0), options=AttentionOptions()).out
    if order == 2:
        out = torch.autograd.grad(out.square().sum(), q, create_graph=True)[0]
    many = torch.stack([out.detach().sin(), out.detach().cos()])

    def pull_back(cotangent):
        return torch.autograd.grad(out, q, cotangent, retain_graph=True)[0]

    for gradient, cotangent in zip(torch.func.vmap(pull_back)(many), many, strict=True):
        one = pull_back(cotangent)
        torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-4)


def test_the_third_derivative_is_that_of_the_definition(kernels):
    def third(run, q):
        q = q.detach().requires_grad_()
        first = torch.autograd.grad(run(q).square().sum(), q, create_graph=True)[0]
        second = torch.autograd.grad(first.square().sum(), q, create_graph=True)[0]
        return torch.autograd.grad(second.square().sum(), q)[0]

    q = draw(1, 1, 20, 16, seed=1) / 4
    mask = allowed_matrix(Local(3, 0), 20, 20, device=DEVICE)
    computed = third(
        lambda q: blockwise_attention(q, q, q, pattern=Local(3, 0), options=AttentionOptions()).out,
        q,
    )
    expected = third(lambda q: dense_attention(q, q, q, mask=mask)[0], q.double())
    largest = float(expected.abs().max())
    torch.testing.assert_close(computed.double(), expected, rtol=0, atol=1e-4 * largest)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_graph_takes_the_kernels(kernels):
    torch._dynamo.reset()
    q = draw(1, 2, 600, 16, seed=1).requires_grad_()

    def run(q):
        return attend(q, q, q, pattern=Local(9, 0))

    out = torch.compile(run, backend="aot_eager", fullgraph=True)(q)
    gradient = torch.autograd.grad(out.square().sum(), q)[0]
    assert kernels == ["value", "value", "gradient"]
    mask = allowed_matrix(Local(9, 0), 600, 600, device=DEVICE)
    expected = dense_attention(q, q, q, mask=mask)[0]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), q)[0]
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


def test_a_device_is_tried_before_it_is_used(monkeypatch):
    arguments = DEVICE, torch.float32, 16, 20
    assert applicability.why_not(*arguments) is None
    value = band_launch.value
    monkeypatch.setattr(band_launch, "value", lambda inputs: tuple(2 * x for x in value(inputs)))
    assert applicability.why_not(*arguments).startswith("they are off by")


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.CalledProcessError(1, ["gcc"]),
        FileNotFoundError("ptxas"),
        AssertionError("libcuda.so cannot found!"),
        RuntimeError("Failed to find C compiler"),
    ],
)
def test_what_triton_lacks_on_a_machine_is_the_reason(monkeypatch, failure):
    def value(inputs):
        raise failure

    monkeypatch.setattr(band_launch, "value", value)
    reason = applicability.why_not(DEVICE, torch.float32, 16, 20)
    assert reason == f"{type(failure).__name__}: {failure}"


def test_a_lack_of_memory_is_not_taken_for_a_fault_of_the_kernels(monkeypatch):
    def value(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(band_launch, "value", value)
    applicability.works.cache_clear()
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        applicability.works(DEVICE, torch.float32, 16, 20)
    monkeypatch.undo()
    assert applicability.works(DEVICE, torch.float32, 16, 20)


def test_programs_lie_along_the_one_axis_of_a_grid_that_may_be_long(monkeypatch):
    """The others of a grid end at 65,535."""
    grids = []

    class Kernel:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *_, **__: None

    from regard.attention.backends.gpu_kernels import kernels

    monkeypatch.setattr(kernels, "value", Kernel())
    x = torch.zeros(1, 1, 1, 16, device=DEVICE).expand(35_000, 2, 1, 16)
    band_launch.value(BandInputs(x, x, x, None, None, None, 0, 0, 0, 1.0))
    assert grids == [(70_000,)]


def test_without_triton_a_gpu_takes_operators_and_that_is_said_once(monkeypatch):
    applicability.works.cache_clear()
    monkeypatch.setattr(applicability, "is_on_gpu", lambda q: True)
    monkeypatch.setattr(applicability, "find_spec", lambda name: None)
    q = draw(1, 1, 20, 16, seed=1)
    with pytest.warns(UserWarning, match="Triton is not installed"):
        assert not BandKernels.takes(q, q, q)
    assert not BandKernels.takes(q, q, q)
    applicability.works.cache_clear()


def test_types_and_heads_that_they_do_not_read_are_left_to_others(kernels):
    q = draw(1, 1, 20, 16, seed=1)
    assert BandKernels.takes(q, q, q)
    assert not BandKernels.takes(q.double(), q.double(), q.double())
    reason = applicability.why_not(DEVICE, q.dtype, 16, 129)
    assert reason == "their kernels take heads of 128 numbers at most"
    torch.func.vmap(lambda q: q if not BandKernels.takes(q, q, q) else 1 / 0)(q[None])


NAMES = ["gradient_of_keys", "gradient_of_queries", "second_of_keys", "second_of_queries", "value"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "kind"), [("80", "bfloat16:20"), ("89", "float32:128"), ("90", "bfloat16:64")]
)
def test_triton_compiles_every_kernel_for_a_gpu(capability, kind):
    """The interpreter accepts more than the compiler does, whose rules differ by its version.

    docs/gpu.md has the command for all kinds.
    """
    environment = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_gpu_kernels.py")
    command = [sys.executable, str(script), capability, kind]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [line.split() for line in result.stdout.splitlines()]
    assert sorted(name for _, _, _, name, _, _ in lines) == NAMES
    assert max(int(shared) for *_, shared, _ in lines) <= 99 * 1024  # of compute capability 8.9
    assert max(int(in_memory) for *_, in_memory in lines) <= 300
