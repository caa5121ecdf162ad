"""Products with the Hessian and the Gauss-Newton matrix against explicit ones."""

import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from regard.attention import attend
from regard.errors import ConfigError, ShapeError
from regard.models.transformer.model import Transformer, TransformerConfig
from regard.optim.curvature.hvp import (
    GaussNewton,
    Hessian,
)
from regard.optim.objectives.full_batch import FullBatch

VOCAB = 7


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def shaped(vector, parameters):
    return [
        part.view_as(parameter)
        for part, parameter in zip(
            vector.split([p.numel() for p in parameters]), parameters, strict=True
        )
    ]


def columns(times, parameters):
    """Build a matrix from its products with the unit vectors."""
    size = sum(p.numel() for p in parameters)
    return torch.stack(
        [flat(times(shaped(unit, parameters))) for unit in torch.eye(size, dtype=torch.float64)], 1
    )


def function_of_a_vector(module, call):
    """Make a module's computation a function of all its parameters as one vector."""
    names = [name for name, _ in module.named_parameters()]

    def function(vector):
        parts = shaped(vector, list(module.parameters()))
        named = dict(zip(names, parts, strict=True))
        return call(lambda *inputs: functional_call(module, named, inputs))

    return function


@pytest.fixture
def perceptron():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(6, 3, generator=generator(), dtype=torch.float64)
    y = torch.randint(3, (6,), generator=generator())
    return model, x, y


def test_the_hessian_of_a_perceptron_is_the_explicit_one(perceptron):
    model, x, y = perceptron
    parameters = list(model.parameters())
    exact = hessian(function_of_a_vector(model, lambda call: F.cross_entropy(call(x), y)))(
        parameters_to_vector(parameters).detach()
    )
    found = columns(Hessian(F.cross_entropy(model(x), y), parameters).matvec, parameters)
    torch.testing.assert_close(found, exact, atol=1e-13, rtol=1e-12)


def test_the_gradient_is_kept_beside_the_hessian(perceptron):
    model, x, y = perceptron
    loss = F.cross_entropy(model(x), y)
    parameters = list(model.parameters())
    found = Hessian(loss, parameters).gradient
    torch.testing.assert_close(found, list(torch.autograd.grad(loss, parameters)))


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda z, y: (z**4).sum() / len(y)])
def test_the_gauss_newton_matrix_of_a_perceptron_is_the_explicit_one(perceptron, loss):
    model, x, y = perceptron
    parameters = list(model.parameters())
    jacobian = jacrev(function_of_a_vector(model, lambda call: call(x).reshape(-1)))(
        parameters_to_vector(parameters).detach()
    )
    outputs = model(x)
    inner = hessian(lambda z: loss(z.view_as(outputs), y))(outputs.detach().reshape(-1))
    found = columns(GaussNewton(outputs, lambda z: loss(z, y), parameters).matvec, parameters)
    torch.testing.assert_close(found, jacobian.mT @ inner @ jacobian, atol=1e-13, rtol=1e-12)


def test_hessian_and_gauss_newton_are_one_for_a_linear_model():
    weight = torch.randn(3, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 3, generator=generator(2), dtype=torch.float64)
    y = torch.randint(2, (5,), generator=generator())
    full = columns(Hessian(F.cross_entropy(x @ weight, y), [weight]).matvec, [weight])
    part = columns(
        GaussNewton(x @ weight, lambda z: F.cross_entropy(z, y), [weight]).matvec, [weight]
    )
    torch.testing.assert_close(full, part, atol=1e-14, rtol=1e-12)


def test_a_loss_linear_in_the_outputs_has_a_gauss_newton_matrix_of_zeros(perceptron):
    model, x, _ = perceptron
    parameters = list(model.parameters())
    vector = [torch.ones_like(p) for p in parameters]
    found = GaussNewton(model(x), torch.sum, parameters).matvec(vector)
    assert all(part.eq(0).all() for part in found)


def test_a_parameter_that_the_loss_does_not_use_gets_zeros():
    used, unused = torch.tensor([2.0], requires_grad=True), torch.ones(3, requires_grad=True)
    vector = [torch.tensor([1.0]), torch.ones(3)]
    found = Hessian((used**3).sum(), [used, unused]).matvec(vector)
    assert [part.tolist() for part in found] == [[12.0], [0.0, 0.0, 0.0]]
    found = GaussNewton(used * 3, lambda z: (z**2).sum(), [used, unused]).matvec(vector)
    assert [part.tolist() for part in found] == [[18.0], [0.0, 0.0, 0.0]]


def test_a_loss_linear_in_the_parameters_has_a_hessian_of_zeros():
    weight = torch.ones(3, requires_grad=True)
    assert Hessian((2 * weight).sum(), [weight]).matvec([torch.ones(3)])[0].tolist() == [0.0] * 3


def test_one_evaluation_serves_many_products_also_without_gradients_enabled(perceptron):
    model, x, y = perceptron
    parameters = list(model.parameters())
    with torch.no_grad():
        matrix = Hessian(_with_graph(lambda: F.cross_entropy(model(x), y)), parameters)
        ones = matrix.matvec([torch.ones_like(p) for p in parameters])
        twos = matrix.matvec([torch.full_like(p, 2) for p in parameters])
    torch.testing.assert_close(twos, [2 * part for part in ones])


def _with_graph(loss):
    with torch.enable_grad():
        return loss()


@pytest.fixture
def fused():
    q = torch.randn(1, 1, 4, 8, generator=generator(), requires_grad=True)
    return q, lambda: F.scaled_dot_product_attention(q, q, q)


FUSED = (
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward has no second derivative in "
    "PyTorch, so there are no products with the curvature.  If it is PyTorch's attention: call the "
    "model within torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), or compute "
    "attention by regard.attention.attend.  Hugging Face models: load with "
    "attn_implementation='eager'."
)


def test_fused_attention_is_named_where_the_hessian_cannot_be_multiplied(fused):
    q, outputs = fused
    matrix = Hessian(outputs().square().sum(), [q])
    with pytest.raises(ConfigError) as caught:
        matrix.matvec([torch.ones_like(q)])
    assert str(caught.value) == FUSED


def test_fused_attention_is_named_where_gauss_newton_cannot_be_multiplied(fused):
    q, outputs = fused
    with pytest.raises(ConfigError) as caught:
        GaussNewton(outputs(), lambda z: z.square().sum(), [q]).matvec([torch.ones_like(q)])
    assert str(caught.value) == FUSED


def test_the_remedy_that_is_named_for_fused_attention_works(fused):
    q, outputs = fused
    with sdpa_kernel(SDPBackend.MATH):
        matrix = Hessian(outputs().square().sum(), [q])
    ours = Hessian(attend(q, q, q).square().sum(), [q])
    vector = [torch.ones_like(q)]
    torch.testing.assert_close(matrix.matvec(vector), ours.matvec(vector), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [[], [torch.nn.Tanh(), torch.nn.Linear(1, 1)]])
def test_a_compiled_model_is_named_where_it_has_no_products(layers):
    module = torch.nn.Sequential(torch.nn.Linear(2, 1), *layers)  # tanh leaves buffers to reuse
    model = torch.compile(module, backend="aot_eager")
    parameters = list(model.parameters())
    loss = model(torch.ones(3, 2)).pow(3).sum()
    with pytest.raises(ConfigError, match=r"compiled by torch\.compile has no second derivative"):
        Hessian(loss, parameters).matvec([torch.ones_like(p) for p in parameters])


def test_our_attention_has_the_products_that_fused_attention_lacks():
    q = torch.randn(1, 1, 4, 3, generator=generator(), dtype=torch.float64, requires_grad=True)

    def loss(q):
        weights = (q @ q.mT / math.sqrt(3)).softmax(-1)
        return (weights @ q).square().sum()

    exact = hessian(loss)(q.detach()).reshape(12, 12)
    found = columns(Hessian(attend(q, q, q).square().sum(), [q]).matvec, [q])
    torch.testing.assert_close(found, exact, atol=1e-13, rtol=1e-12)


def test_another_failure_of_autograd_is_left_as_it_is():
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        Hessian(torch.ones(()), [weight])


@pytest.fixture(scope="module")
def translation():
    """A Transformer of 1 + 1 layers with micro-batches of different size, one of them padded."""
    torch.manual_seed(2)
    config = TransformerConfig(
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim=8,
        num_heads=2,
        hidden_dim=8,
        dropout=0.0,
        activation="gelu",
    )
    model = Transformer(config, VOCAB).double()
    model.compute_dtype = torch.float64
    draw = generator(3)
    batches = []
    for rows, keys, length in ((3, 4, 3), (1, 5, 4), (2, 3, 2)):
        source = torch.randint(3, VOCAB, (rows, keys), generator=draw)
        target = torch.randint(3, VOCAB, (rows, length + 1), generator=draw)
        batches.append((source, target))
    batches[0][0][1, 2:] = 0
    return model, batches


def summed(logits, batch):
    labels = batch[1][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"), labels.numel()


def logits_of(call, batch):
    return call(batch[0], batch[1][:, :-1])


def over_all(call, batches):
    pairs = [summed(logits_of(call, batch), batch) for batch in batches]
    return torch.stack([total for total, _ in pairs]).sum() / sum(count for _, count in pairs)


@pytest.mark.slow
def test_the_hessian_of_a_transformer_over_micro_batches_is_the_explicit_one(translation):
    model, batches = translation
    parameters = list(model.parameters())
    objective = FullBatch(
        batches, lambda batch: summed(logits_of(model, batch), batch), parameters=parameters
    )
    vectors = torch.randn(
        3, sum(p.numel() for p in parameters), generator=generator(), dtype=torch.float64
    )
    place = parameters_to_vector(parameters).detach()
    value = function_of_a_vector(model, lambda call: over_all(call, batches))
    for vector in vectors:
        _, exact = torch.autograd.functional.vhp(value, place, vector)
        found = flat(objective.hessian(shaped(vector, parameters)))
        torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-10)


@pytest.mark.slow
def test_the_explicit_hessian_of_a_part_of_a_transformer_is_found(translation):
    model, batches = translation
    names = ["decoder_norm", "encoder_norm", "decoder.0.cross_attention.query"]
    parameters = [p for n, p in model.named_parameters() if n.startswith(tuple(names))]
    objective = FullBatch(
        batches, lambda batch: summed(logits_of(model, batch), batch), parameters=parameters
    )
    found = columns(objective.hessian, parameters)
    gradient = torch.autograd.grad(over_all(model, batches), parameters, create_graph=True)
    exact = torch.stack(
        [
            flat(torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True))
            for entry in flat(gradient)
        ]
    )
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-10)


@pytest.mark.slow
def test_the_gauss_newton_matrix_of_a_transformer_over_micro_batches_is_explicit(translation):
    model, batches = translation
    parameters = list(model.parameters())
    objective = FullBatch(
        batches, summed, outputs=lambda batch: logits_of(model, batch), parameters=parameters
    )
    place = parameters_to_vector(parameters).detach()
    matrix, count = torch.zeros(len(place), len(place), dtype=torch.float64), 0
    for batch in batches:
        outputs = function_of_a_vector(model, lambda call, b=batch: logits_of(call, b).reshape(-1))
        jacobian = torch.autograd.functional.jacobian(outputs, place, vectorize=False)
        logits = logits_of(model, batch).detach()
        inner = hessian(lambda z, b=batch, s=logits: summed(z.view_as(s), b)[0])(logits.flatten())
        matrix += jacobian.mT @ inner @ jacobian
        count += summed(logits, batch)[1]
    for vector in torch.randn(3, len(place), generator=generator(), dtype=torch.float64):
        found = flat(objective.gauss_newton(shaped(vector, parameters)))
        torch.testing.assert_close(found, matrix @ vector / count, atol=1e-12, rtol=1e-10)


@pytest.fixture
def bert():
    transformers = pytest.importorskip("transformers")

    def build(implementation):
        torch.manual_seed(1)
        config = transformers.BertConfig(
            vocab_size=11,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.5,
            attn_implementation=implementation,
        )
        model = transformers.BertModel(config, add_pooling_layer=False).double()
        ids = torch.randint(1, 11, (2, 5), generator=generator())  # 0, padding, has no gradient
        return list(model.parameters()), lambda: model(ids).last_hidden_state.pow(3).mean()

    return build


def test_a_hugging_face_model_with_eager_attention_has_products(bert):
    parameters, loss = bert("eager")
    along = torch.randn(
        sum(p.numel() for p in parameters), generator=generator(), dtype=torch.float64
    )
    along /= along.norm()
    found = flat(Hessian(loss(), parameters).matvec(shaped(along, parameters)))
    start = parameters_to_vector(parameters).detach().clone()
    step, slopes = 1e-5, []
    for sign in (1, -1):
        vector_to_parameters(start + sign * step * along, parameters)
        slopes.append(flat(torch.autograd.grad(loss(), parameters)))
    differences = (slopes[0] - slopes[1]) / (2 * step)
    # truncation is of order step^2 = 1e-10, rounding 1e-16 / step = 1e-11
    torch.testing.assert_close(found, differences, atol=1e-8, rtol=1e-7)


def test_the_error_for_fused_attention_says_to_load_a_hugging_face_model_with_eager(bert):
    parameters, loss = bert("sdpa")
    with pytest.raises(ConfigError, match=r"load with attn_implementation='eager'"):
        Hessian(loss(), parameters).matvec([torch.ones_like(p) for p in parameters])


class _Logits(nn.Module):
    """In the form that curvlinops takes: a module of one input, with a row of logits a label."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return logits_of(self.model, x["batch"]).flatten(0, 1)


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_products_of_a_transformer_agree_with_curvlinops(translation, curvature):
    pytest.importorskip("curvlinops")
    curvlinops = importlib.import_module("curvlinops")
    model, batches = translation
    rows = [({"batch": batch}, batch[1][:, 1:].flatten()) for batch in batches]
    # torch.func.jvp of jacrev, which curvlinops takes, is wrong for weights of layer_norm (2.13).
    parameters = [
        p for n, p in model.named_parameters() if n.startswith("decoder.0") and "norm" not in n
    ]
    peer = {
        "hessian": curvlinops.HessianLinearOperator,
        "gauss_newton": curvlinops.GGNLinearOperator,
    }[curvature]
    matrix = peer(
        _Logits(model),
        nn.CrossEntropyLoss(),
        parameters,
        rows,
        check_deterministic=False,
        num_data=sum(len(y) for _, y in rows),
        batch_size_fn=lambda x: len(x["batch"][1]) * (x["batch"][1].shape[1] - 1),
    )
    objective = FullBatch(
        batches, summed, outputs=lambda batch: logits_of(model, batch), parameters=parameters
    )
    size = sum(p.numel() for p in parameters)
    vector = torch.randn(size, generator=generator(), dtype=torch.float64)
    found = flat(getattr(objective, curvature)(shaped(vector, parameters)))
    torch.testing.assert_close(found, matrix @ vector, atol=1e-12, rtol=1e-10)


def hessian_of_squares():
    bias, weight = torch.ones(2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    return Hessian((weight @ bias).square().sum(), [bias, weight])


def gauss_newton_of_squares():
    bias, weight = torch.ones(2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    return GaussNewton(weight @ bias, lambda outputs: outputs.square().sum(), [bias, weight])


@pytest.mark.parametrize("build", [hessian_of_squares, gauss_newton_of_squares])
@pytest.mark.parametrize("shapes", [[(2,)], [(3,), (2, 2)], [(2,), (2, 2), (1,)]])
def test_a_vector_of_other_shapes_than_the_parameters_is_refused(build, shapes):
    with pytest.raises(ShapeError) as caught:
        build().matvec([torch.ones(shape) for shape in shapes])
    given = [list(shape) for shape in shapes]
    assert str(caught.value) == (
        f"the vector has shapes {given}; expected [[2], [2, 2]], as the parameters."
    )
