"""Newton-CG: exact steps, regions, damping, negative curvature, attention, refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regard.attention import Causal, Local, attend
from regard.errors import ConfigError
from regard.optim import FullBatch, NewtonCG, minimize


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parameter(*entries):
    return nn.Parameter(torch.tensor(entries, dtype=torch.float64))


class Plain:
    """A function of one parameter as an objective that counts its products."""

    def __init__(self, fun, x):
        self._fun, self._x, self.num_products = fun, x, 0

    def value(self):
        with torch.no_grad():
            return float(self._fun(self._x))

    def gradient(self):
        with torch.enable_grad():
            loss = self._fun(self._x)
            (self._x.grad,) = torch.autograd.grad(loss, self._x)
        return loss.item()

    def hessian(self, vector):
        self.num_products += 1
        x = self._x.detach()
        return [torch.func.jvp(torch.func.grad(self._fun), (x,), (vector[0],))[1]]

    def gauss_newton(self, vector):
        return self.hessian(vector)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def positive(size, seed=0):
    half = draw(size, size, seed=seed)
    return half @ half.T / size + torch.eye(size, dtype=torch.float64)


@pytest.mark.slow
def test_steps_on_a_quadratic_are_newtons():
    matrix, linear = positive(6), draw(6, seed=1)
    x = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    objective = Plain(lambda x: 0.5 * x @ matrix @ x - linear @ x, x)
    optimizer = NewtonCG([x], curvature="hessian")
    for _ in range(15):
        optimizer.step(objective)
    torch.testing.assert_close(x.detach(), torch.linalg.solve(matrix, linear), atol=1e-9, rtol=0)
    assert optimizer.last.gradient_norm < 1e-9


def test_near_the_minimum_convergence_is_faster_than_linear():
    x = parameter(1.05, 1.1, 1.2)
    optimizer, norms = NewtonCG([x], curvature="hessian"), []
    while not norms or norms[-1] > 1e-9:
        optimizer.step(Plain(rosenbrock, x))
        norms.append(optimizer.last.gradient_norm)
    assert len(norms) <= 15
    assert norms[-1] < 0.01 * norms[-2] < 1e-4 * norms[-3]


@pytest.mark.slow
@pytest.mark.parametrize("region", ["trust-region", "levenberg-marquardt"])
@pytest.mark.parametrize("preconditioner", [None, "adam"])
def test_every_region_and_preconditioner_reaches_the_minimum(region, preconditioner):
    result = minimize(
        rosenbrock,
        torch.tensor([-1.2, 1.0, -1.2, 1.0], dtype=torch.float64),
        method=lambda x: NewtonCG(
            x,
            curvature="hessian",
            region=region,
            preconditioner=preconditioner,
            checks_noise=False,
        ),
    )
    assert result.success, result.message


def test_the_first_radius_bounds_the_first_step():
    x = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = NewtonCG([x], curvature="hessian", radius=0.125)
    optimizer.step(Plain(lambda x: ((x - 10) ** 2).sum(), x))
    # The search along the step may go beyond the radius, but not where it fits at once.
    assert float(x.detach().norm()) == pytest.approx(0.125 * optimizer.last.step_size)


def test_a_good_step_on_the_boundary_doubles_the_radius():
    x = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = NewtonCG([x], curvature="hessian", radius=0.125)
    optimizer.step(Plain(lambda x: ((x - 10) ** 2).sum(), x))
    assert optimizer.last.reduction_ratio == pytest.approx(1.0)
    assert optimizer.last.damping == pytest.approx(2 * 0.125 * optimizer.last.step_size)


def test_the_damping_falls_to_a_third_where_the_model_is_good():
    x = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = NewtonCG([x], curvature="hessian", region="levenberg-marquardt", damping=3.0)
    optimizer.step(Plain(lambda x: ((x - 10) ** 2).sum(), x))
    assert optimizer.last.reduction_ratio > 0.75
    assert optimizer.last.damping == 1.0


class Multiplied(Plain):
    """Notes the vectors of its products."""

    def __init__(self, fun, x):
        super().__init__(fun, x)
        self.vectors = []

    def hessian(self, vector):
        self.vectors.append(vector[0].clone())
        return super().hessian(vector)


@pytest.mark.slow
@pytest.mark.parametrize(("region", "most"), [("levenberg-marquardt", 20), ("trust-region", 250)])
def test_a_step_has_a_greatest_number_of_products(region, most):
    # Eigenvalues over ten decades, and a right side that needs them all.
    entries = torch.logspace(0, -10, 300, dtype=torch.float64)
    x = nn.Parameter(torch.ones(300, dtype=torch.float64))
    objective = Plain(lambda x: 0.5 * (entries * x.square()).sum() - entries.sqrt() @ x, x)
    optimizer = NewtonCG([x], curvature="hessian", region=region, damping=1e-12)
    counts = []
    for _ in range(6):
        optimizer.step(objective)
        counts.append(optimizer.last.cg_iterations)
    assert max(counts) == most


@pytest.mark.parametrize("region", ["levenberg-marquardt", "trust-region"])
def test_a_damped_step_begins_where_the_last_one_led(region):
    x = parameter(*draw(8).tolist())
    objective = Multiplied(rosenbrock, x)
    optimizer = NewtonCG([x], region=region)
    places, num_before = [x.detach().clone()], []
    for _ in range(4):
        num_before.append(len(objective.vectors))
        optimizer.step(objective)
        places.append(x.detach().clone())
    for number in range(1, 4):
        moved = places[number] - places[number - 1]
        first = objective.vectors[num_before[number]]
        is_along = float(F.cosine_similarity(moved, first, dim=0)) == pytest.approx(1, abs=1e-9)
        assert is_along == (region == "levenberg-marquardt")


def test_a_damped_step_after_a_move_from_outside_begins_with_the_gradient():
    x = parameter(*draw(8).tolist())
    objective = Multiplied(rosenbrock, x)
    optimizer = NewtonCG([x], region="levenberg-marquardt")
    optimizer.step(objective)
    with torch.no_grad():
        x.add_(0.01)
    (slope,) = torch.autograd.grad(rosenbrock(x), x)
    objective.vectors.clear()
    optimizer.step(objective)
    torch.testing.assert_close(objective.vectors[0], -slope)


def test_damping_is_added_to_the_matrix():
    x = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = NewtonCG([x], curvature="hessian", region="levenberg-marquardt", damping=2.0)
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    optimizer.step(Plain(lambda x: ((x - target) ** 2).sum(), x))  # A = 2, g = -2 target
    torch.testing.assert_close(x.detach(), optimizer.last.step_size * target / 2)


@pytest.mark.slow
def test_negative_curvature_is_followed_and_reported():
    x = parameter(1e-3, 0.5)
    optimizer = NewtonCG([x], curvature="hessian")
    fun = lambda x: x[0] ** 4 - x[0] ** 2 + x[1] ** 2  # noqa: E731 - a saddle at zero
    before = float(fun(x.detach()))
    seen = []
    for _ in range(20):
        value = optimizer.step(Plain(fun, x))
        seen.append(optimizer.last.negative_curvature)
    assert any(seen)
    assert value < before
    assert value == pytest.approx(-0.25)


def test_products_and_evaluations_are_reported():
    x = parameter(-1.2, 1.0, 0.5)
    objective = Plain(rosenbrock, x)
    optimizer = NewtonCG([x], curvature="hessian")
    for _ in range(4):
        before = objective.num_products
        optimizer.step(objective)
        assert optimizer.last.cg_iterations == objective.num_products - before > 0
    assert optimizer.counts.products == objective.num_products


def test_no_more_products_than_allowed_are_taken():
    matrix, x = positive(30), nn.Parameter(draw(30))
    optimizer = NewtonCG([x], curvature="hessian", max_iterations=2)
    for _ in range(5):
        optimizer.step(Plain(lambda x: 0.5 * x @ matrix @ x + 0.1 * (x**4).sum(), x))
        assert optimizer.last.cg_iterations <= 2


def test_the_reduction_ratio_is_one_on_a_quadratic():
    matrix, x = positive(6), nn.Parameter(draw(6))
    optimizer = NewtonCG([x], curvature="hessian")
    optimizer.step(Plain(lambda x: 1 + 0.5 * x @ matrix @ x, x))
    assert optimizer.last.reduction_ratio == pytest.approx(1.0)


def test_a_jump_is_a_failure_that_restores_bit_for_bit():
    x = parameter(0.3, -0.4)
    before = x.detach().clone()

    def jumps(x):
        return (x * x).sum() + (0.0 if torch.equal(x, before) else 1.0)

    class Jumping(Plain):
        def hessian(self, vector):
            return [0.5 * vector[0]]

    optimizer = NewtonCG([x], curvature="hessian")
    value = optimizer.step(Jumping(jumps, x))
    assert torch.equal(x, before)
    assert value == pytest.approx(0.25)
    assert optimizer.last.failure
    assert optimizer.last.step_size == 0.0


def test_after_a_failure_products_are_those_at_the_present_point():
    """An objective may multiply the Hessian of its last point, which was a trial of the search."""
    x, events = parameter(0.3, -0.4), []
    before = x.detach().clone()

    class Noted(Plain):
        def gradient(self):
            events.append(self._x.detach().clone())
            return super().gradient()

        def hessian(self, vector):
            events.append("product")
            return [0.5 * vector[0]]

    objective = Noted(lambda x: (x * x).sum() + (0.0 if torch.equal(x, before) else 1.0), x)
    optimizer = NewtonCG([x], curvature="hessian")
    optimizer.step(objective)
    assert optimizer.last.failure
    assert not torch.equal(events[-1], before)
    events.clear()
    optimizer.step(objective)
    assert torch.equal(events[0], before)
    assert events[1] == "product"


def test_products_that_are_not_finite_are_reported():
    class Broken(Plain):
        def hessian(self, vector):
            return [vector[0] * math.nan]

    x = parameter(1.0, 2.0)
    optimizer = NewtonCG([x], curvature="hessian")
    optimizer.step(Broken(lambda x: (x * x).sum(), x))
    assert optimizer.last.failure == "a product with the curvature is not finite"
    assert x.tolist() == [1.0, 2.0]


def test_a_zero_gradient_is_a_failure_that_leaves_the_parameters():
    x = parameter(1.0, 1.0)
    optimizer = NewtonCG([x], curvature="hessian")
    optimizer.step(Plain(rosenbrock, x))
    assert optimizer.last.failure == "the gradient is zero"
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.slow
def test_a_group_with_a_scale_equals_a_substitution_of_variables():
    x, z = parameter(-1.2, 1.0, 0.5), parameter(-0.3, 0.25, 0.125)
    scaled = NewtonCG([{"params": [x], "scale": 4.0}], curvature="hessian")
    plain = NewtonCG([z], curvature="hessian")
    for _ in range(8):
        scaled.step(Plain(rosenbrock, x))
        plain.step(Plain(lambda z: rosenbrock(4 * z), z))
        torch.testing.assert_close(x.detach(), 4 * z.detach(), rtol=1e-9, atol=1e-12)


def test_the_fraction_of_the_objective_is_left_where_none_is_given():
    model, objective = regression(curvature_fraction=0.25)
    NewtonCG(model.parameters()).step(objective)
    assert objective.curvature_fraction == 0.25


def test_a_given_fraction_is_the_objectives():
    model, objective = regression()
    NewtonCG(model.parameters(), curvature_fraction=0.5).step(objective)
    assert objective.curvature_fraction == 0.5


def regression(**settings):
    """Build a linear model and its objective over four micro-batches."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1).double()
    inputs, targets = draw(16, 3), draw(16, 1, seed=1)
    batches = list(zip(inputs.split(4), targets.split(4), strict=True))
    objective = FullBatch(
        batches,
        lambda outputs, batch: F.mse_loss(outputs, batch[1]),
        outputs=lambda batch: model(batch[0]),
        **settings,
    )
    return model, objective


def test_least_squares_are_solved_by_gauss_newton_steps():
    model, objective = regression()
    optimizer = NewtonCG(model.parameters())
    for _ in range(10):
        optimizer.step(objective)
    design = torch.cat([draw(16, 3), torch.ones(16, 1, dtype=torch.float64)], 1)
    exact = torch.linalg.lstsq(design, draw(16, 1, seed=1)).solution.flatten()
    weights = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    torch.testing.assert_close(weights, exact, atol=1e-8, rtol=0)


class Attentive(nn.Module):
    """Embedding, one block of causal attention, and logits of every token."""

    def __init__(self, pattern):
        super().__init__()
        self.pattern = pattern
        self.embed = nn.Embedding(11, 8)
        self.project = nn.Linear(8, 24, bias=False)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 11))

    def forward(self, tokens):
        x = self.embed(tokens)  # [batch, length, dim]
        q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        out = attend(q, k, v, pattern=self.pattern)  # [batch, heads, length, dim]
        return self.head(x + out.transpose(1, 2).flatten(2))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [Causal(), Local(2, 0)], ids=["causal", "local"])
@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
def test_a_model_with_attention_is_trained(curvature, pattern):
    torch.manual_seed(0)
    model = Attentive(pattern)
    tokens = torch.randint(11, (12, 7), generator=torch.Generator().manual_seed(1))
    objective = FullBatch(
        list(tokens.split(6)),
        lambda logits, rows: F.cross_entropy(logits[:, 1:].flatten(0, 1), rows[:, :-1].flatten()),
        outputs=model,
        model=model,
    )
    optimizer = NewtonCG(model.parameters(), curvature=curvature, max_iterations=20)
    before = objective.value()
    values = [optimizer.step(objective) for _ in range(8)]
    assert all(b < a for a, b in zip([before, *values], values, strict=False))
    assert values[-1] < 0.7 * before
    assert optimizer.last.failure == ""


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
def test_a_parameter_that_is_frozen_between_steps_stays(curvature):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    objective = FullBatch(
        [draw(20, 2)],
        lambda outputs, _: (outputs - 1).square().mean(),
        outputs=lambda rows: model(rows),
    )
    optimizer = NewtonCG(model.parameters(), curvature=curvature)
    before = optimizer.step(objective)
    frozen = model[0].weight.requires_grad_(False).clone()
    for _ in range(2):
        value = optimizer.step(objective)
    assert torch.equal(model[0].weight, frozen)
    assert value < before
    model[0].weight.requires_grad_()
    optimizer.step(objective)
    assert not torch.equal(model[0].weight, frozen)


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
def test_a_closure_is_refused_with_the_call_that_works(curvature):
    x = parameter(1.0, 2.0)

    def closure():
        loss = (x * x).sum()
        loss.backward()
        return loss

    with pytest.raises(ConfigError) as error:
        NewtonCG([x], curvature=curvature).step(closure)
    calls = {
        "gauss-newton": (
            "step(FullBatch(batches, lambda outputs, batch: ..., outputs=lambda batch: "
            "model(...))): `outputs` is what the model computes from a batch, such as logits, and "
            "the first function is their loss.  Or take NewtonCG(..., curvature='hessian') and "
            "step(FullBatch(batches, lambda batch: ...))."
        ),
        "hessian": "step(FullBatch(batches, lambda batch: ...)), which is the loss of a batch.",
    }
    assert str(error.value) == (
        "NewtonCG needs products with the curvature, which a closure cannot give.  "
        + calls[curvature]
    )


def test_gauss_newton_products_need_the_outputs():
    model = nn.Linear(2, 1).double()
    objective = FullBatch([draw(4, 2)], lambda rows: model(rows).square().mean())
    with pytest.raises(ConfigError) as error:
        NewtonCG(model.parameters()).step(objective)
    assert str(error.value) == (
        "Gauss-Newton products need to know the model's outputs.  FullBatch(loader, lambda "
        "outputs, batch: ..., outputs=lambda batch: model(...)); or take the Hessian: "
        "curvature='hessian'."
    )


def test_a_fraction_of_what_has_no_parts_is_refused():
    x = parameter(1.0, 2.0)
    optimizer = NewtonCG([x], curvature="hessian", curvature_fraction=0.5)
    with pytest.raises(ConfigError) as error:
        optimizer.step(Plain(rosenbrock, x))
    assert str(error.value) == (
        "curvature_fraction=0.5 needs an objective with parts, such as FullBatch; this one is "
        "always evaluated whole."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"curvature": "fisher"}, "unknown curvature 'fisher'.  One of: gauss-newton, hessian"),
        ({"region": "none"}, "unknown region 'none'.  One of: trust-region, levenberg-marquardt"),
        ({"radius": 0.0}, "radius must be above 0, not 0.0"),
        ({"radius": "1"}, "radius must be above 0, not '1'"),
        ({"damping": math.nan}, "damping must be above 0, not nan"),
        ({"max_iterations": 2.5}, "max_iterations must be a whole number, 1 or more, not 2.5"),
        ({"preconditioner": 1}, "preconditioner must be adam, None, or a function, not 1"),
        ({"damping": -1.0}, "damping must be above 0, not -1.0"),
        ({"curvature_fraction": 0}, "curvature_fraction must be above 0 and at most 1, not 0"),
        ({"curvature_fraction": 1.5}, "curvature_fraction must be above 0 and at most 1, not 1.5"),
        ({"max_iterations": 0}, "max_iterations must be a whole number, 1 or more, not 0"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        NewtonCG([parameter(1.0)], **arguments)
    assert str(error.value) == message
