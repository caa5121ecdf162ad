"""The parameters as one vector: there and back to the bit, scales, inner products, refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pretended_gpu import DEVICE, PretendedGpu

from regard.errors import ConfigError
from regard.optim import flat_parameters as vector_module
from regard.optim.flat_parameters import FlatParameters, inner_product, linear_combination


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def parameters(dtype=torch.float64):
    return [torch.nn.Parameter(draw(*shape, seed=3, dtype=dtype)) for shape in ((2, 3), (), (4,))]


def of(*tensors, **group):
    return FlatParameters([{"params": list(tensors), **group}])


def test_entries_stand_in_the_order_of_groups_and_parameters():
    first, second, third = parameters()
    vector = FlatParameters([{"params": [third]}, {"params": [first, second]}])
    expected = torch.cat([third, first.reshape(-1), second.reshape(1)]).detach()
    assert torch.equal(vector.copy_parameters(vector.zeros()), expected)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_going_back_to_a_position_is_exact_bit_for_bit(scale, dtype):
    tensors = parameters(dtype)
    before = [tensor.detach().clone() for tensor in tensors]
    vector = of(*tensors, scale=scale)
    start = vector.copy_parameters(vector.zeros())
    vector.move(start, draw(vector.size, seed=9, dtype=dtype), 1.7)
    assert not any(torch.equal(now, old) for now, old in zip(tensors, before, strict=True))
    vector.move(start)
    assert all(torch.equal(now, old) for now, old in zip(tensors, before, strict=True))


def test_a_step_along_a_direction_is_multiplied_by_the_scale_of_each_group():
    first, second = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    vector = FlatParameters([{"params": [first], "scale": 10.0}, {"params": [second]}])
    vector.move(vector.copy_parameters(vector.zeros()), torch.tensor([1.0, 2.0, 3.0]), 0.5)
    assert first.tolist() == [6.0, 11.0]
    assert second.tolist() == [2.5]


def test_gradients_are_multiplied_by_the_scale_and_missing_ones_are_zero():
    first, second, third = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    vector = FlatParameters([{"params": [first], "scale": 4.0}, {"params": [second, third]}])
    first.grad, third.grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert vector.copy_gradient(torch.full((6,), 9.0)).tolist() == [4.0, 8.0, 0.0, 0.0, 3.0, 4.0]


def test_the_extent_of_scaled_parameters_is_that_of_the_substituted_ones():
    first, second = torch.nn.Parameter(torch.tensor([8.0, -3.0])), torch.nn.Parameter(torch.ones(1))
    vector = FlatParameters([{"params": [first], "scale": 4.0}, {"params": [second]}])
    assert vector.max_abs_parameter(vector.zeros()) == 2.0


def test_products_of_second_derivatives_are_scaled_on_both_sides():
    weights = torch.nn.Parameter(draw(3))
    matrix = draw(3, 3, seed=1)
    matrix = matrix @ matrix.T
    vector = of(weights, scale=0.5)
    along = draw(3, seed=2)
    image = vector.flatten([matrix @ vector.unflatten(along)[0]], vector.zeros())
    torch.testing.assert_close(image, 0.25 * matrix @ along)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(size=st.integers(1, 400), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_inner_product_in_blocks_is_that_of_the_whole(dtype, size, seed):
    # Numbers of few bits, so that float32 does not round.
    first, second = (8 * draw(size, seed=seed + part) for part in range(2))
    first, second = first.round(), second.round()
    vector = of(torch.nn.Parameter(torch.zeros(size, dtype=dtype)))
    block, vector_module._BLOCK = vector_module._BLOCK, 7
    try:
        found = vector.dot(first.to(dtype), second.to(dtype))
    finally:
        vector_module._BLOCK = block
    assert found == float(first @ second)


@pytest.mark.parametrize("entry", [0.1, 1 / 3, 0.7, None])
@pytest.mark.parametrize("size", [1000, (1 << 20) + 17, 1 << 21])
def test_an_inner_product_in_float32_errs_by_a_few_roundings_whatever_its_length(size, entry):
    drawn = draw(size, dtype=torch.float32).abs()
    first = drawn if entry is None else torch.full((size,), entry)
    vector = of(torch.nn.Parameter(torch.zeros(size)))
    expected = float(first.double() @ first.double())
    assert vector.dot(first, first) == pytest.approx(expected, rel=4 * 2**-24)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@given(size=st.integers(0, 400), rows=st.integers(1, 8), count=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_many_inner_products_in_blocks_are_those_of_the_whole(dtype, size, rows, count):
    # Numbers of few bits, so that float32 does not round.
    first, second = (8 * draw(rows, size)).round(), (8 * draw(count, size, seed=1)).round()
    block, vector_module._BLOCK_OF_ROWS = vector_module._BLOCK_OF_ROWS, 150
    try:
        vector = of(torch.nn.Parameter(torch.zeros(size, dtype=dtype)))
        found = vector.dots(first.to(dtype), list(second.to(dtype)))
    finally:
        vector_module._BLOCK_OF_ROWS = block
    assert found.dtype == torch.float64
    assert found.is_contiguous()
    assert torch.equal(found, first @ second.T)


@pytest.mark.parametrize("entry", [0.1, 1 / 3, 0.7, None])
@pytest.mark.parametrize("size", [1000, (1 << 20) + 17, 1 << 21])
def test_many_inner_products_in_float32_err_by_a_few_roundings(size, entry):
    drawn = draw(4, size, dtype=torch.float32).abs()
    rows = drawn if entry is None else torch.full((4, size), entry)
    others = [rows[0], rows[1].flip(0)]
    expected = rows.double() @ torch.stack(others, 1).double()
    found = of(torch.nn.Parameter(torch.zeros(size))).dots(rows, others)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("setting", ["medium", "autocast"])
def test_many_inner_products_do_not_depend_on_the_precision_of_matrix_products(setting):
    rows, other = draw(3, 5000, dtype=torch.float32), draw(5000, seed=1, dtype=torch.float32)
    vector, before = of(torch.nn.Parameter(torch.zeros(5000))), torch.get_float32_matmul_precision()
    expected = vector.dots(rows, [other])
    if setting == "medium":
        torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", enabled=setting == "autocast"):
            assert torch.equal(vector.dots(rows, [other]), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_gpu_computes_the_same_products_and_combinations(dtype):
    rows, start = (8 * draw(3, 40)).round().to(dtype), (8 * draw(40, seed=1)).round().to(dtype)
    factor, weights = torch.tensor(-0.5), torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    expected = linear_combination(start, factor, rows, weights, torch.empty_like(start))
    with PretendedGpu() as gpu:
        start_there, factor, rows_there, weights = (
            x.to(DEVICE) for x in (start, factor, rows, weights)
        )
        gpu.waits.clear()
        square = inner_product(start_there, start_there)
        product = inner_product(start_there, rows_there[1])
        combination = linear_combination(
            start_there, factor, rows_there, weights, start_there.new_empty(40)
        )
        assert linear_combination(start_there, factor, rows_there, weights, start_there) is (
            start_there
        )
        assert gpu.waits == []
        assert float(square) == pytest.approx(float(start.double() @ start.double()), rel=1e-15)
        assert float(product) == float(start.double() @ rows[1].double())
        assert torch.equal(combination.cpu(), expected)
        assert torch.equal(start_there.cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_multiples_of_rows_are_added_to_that_of_a_vector(dtype, monkeypatch):
    monkeypatch.setattr(vector_module, "_BLOCK_OF_ROWS", 7)
    rows, start = (8 * draw(3, 40)).round(), (8 * draw(40, seed=1)).round()
    expected = -0.5 * start + torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64) @ rows
    rows, start, out = rows.to(dtype), start.to(dtype), torch.empty(40, dtype=dtype)
    factor, weights = torch.tensor(-0.5), torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64)
    assert linear_combination(start, factor, rows, weights, out) is out
    assert torch.equal(out, expected.to(dtype))
    assert torch.equal(linear_combination(start, factor, rows, weights, start), out)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_inner_product_of_half_as_many_bits_is_that_of_its_entries(dtype):
    first = draw(5000, dtype=torch.float32).to(dtype)
    vector = of(torch.nn.Parameter(torch.zeros(5000, dtype=dtype)))
    expected = float(first.double() @ first.double())
    assert vector.dot(first, first) == pytest.approx(expected, rel=2**-24)


def test_the_largest_entry_and_the_norm_are_those_of_the_whole_vector():
    vector = of(*parameters())
    of_entries = torch.zeros(vector.size, dtype=torch.float64)
    of_entries[2], of_entries[8] = 3.0, -4.0
    assert vector.max_abs(of_entries) == 4.0
    assert vector.norm(of_entries) == 5.0


@pytest.mark.parametrize("change", ["in place", "another tensor", "loaded"])
def test_the_versions_change_when_a_parameter_is_written_to(change):
    layer = torch.nn.Linear(2, 2)
    vector = of(*layer.parameters())
    before = vector.versions()
    assert vector.versions() == before
    if change == "in place":
        with torch.no_grad():
            layer.weight.add_(1)
    elif change == "another tensor":
        flat = torch.nn.utils.parameters_to_vector(layer.parameters()).detach()
        torch.nn.utils.vector_to_parameters(flat + 1, layer.parameters())
    else:
        layer.load_state_dict(layer.state_dict())
    assert vector.versions() != before


def test_a_complex_parameter_is_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(2, dtype=torch.complex64)))
    assert str(error.value) == (
        "parameter 0 of shape [2] is complex64; these methods take real floating-point parameters "
        "only.  Convert it, leave it out, or keep real and imaginary part as two parameters."
    )


def test_an_integer_parameter_is_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(1)), torch.ones(2, 3, dtype=torch.int64))
    assert str(error.value) == (
        "parameter 1 of shape [2, 3] is int64; these methods take real floating-point parameters "
        "only.  Convert it, leave it out, or keep real and imaginary part as two parameters."
    )


def test_a_sparse_parameter_is_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(2).to_sparse()))
    assert str(error.value) == (
        "parameter 0 of shape [2] is sparse_coo; these methods take dense parameters only.  "
        "Convert it: to_dense()."
    )


def test_a_parameter_without_memory_is_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(2, device="meta")))
    assert str(error.value) == (
        "parameter 0 of shape [2] is on the device meta, which holds no numbers.  Give the model "
        "its weights first: model.to_empty(device=...), then load_state_dict."
    )


def test_a_parameter_without_gradients_is_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(2), requires_grad=False))
    assert str(error.value) == (
        "parameter 0 of shape [2] has requires_grad=False, so it would never move.  Leave it out, "
        "or call requires_grad_() on it."
    )


def test_different_types_are_refused():
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1).double()))
    assert str(error.value) == (
        "parameters are float32 on cpu and float64 on cpu; an inner product over all of them needs "
        "one type and one device."
    )


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_above_zero_is_refused(scale):
    with pytest.raises(ConfigError) as error:
        of(torch.nn.Parameter(torch.ones(3)), scale=scale)
    assert str(error.value) == f"scale of parameter 0 of shape [3] must be above 0, not {scale}"


@pytest.mark.parametrize("name", ["older", "newer", "neither"])
def test_exact_products_on_a_gpu_leave_its_settings_consistent(name):
    """Where the older and the newer setting of TF32 differ, CUDA's products raise."""
    matmul, older = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    newer = matmul.fp32_precision
    if name == "older":
        torch.set_float32_matmul_precision("high")
    elif name == "newer":
        matmul.fp32_precision = "tf32"
    expected = matmul.fp32_precision
    try:
        with vector_module._exact_matrix_products("cuda"):
            assert matmul.fp32_precision == "ieee"
            assert matmul.allow_tf32 is False
        assert matmul.fp32_precision == expected
        if name != "newer":
            assert matmul.allow_tf32 is (name == "older")
    finally:
        torch.set_float32_matmul_precision(older)
        matmul.fp32_precision = newer
