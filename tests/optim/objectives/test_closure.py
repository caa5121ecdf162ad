"""The messages about a wrong closure or loss, word by word; nothing has moved."""

import pytest
import torch
from torch import nn

from regard.errors import ConfigError, ShapeError
from regard.optim import LBFGS, ConjugateGradient, FullBatch, GradientDescent, NewtonCG

METHODS = [ConjugateGradient, LBFGS, GradientDescent]
NO_PRODUCTS = (
    "this method needs products with the curvature, which a closure cannot give.  Pass "
    "FullBatch(loader, loss)."
)


def parameter():
    return nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))


def refused(optimizer, closure, kind=ConfigError):
    """Return what a step is refused with, and make sure that it leaves the parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    with pytest.raises(kind) as error:
        optimizer.step(closure)
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    return str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_closure_over_another_batch_at_every_call_is_noisy(method):
    x, weights = parameter(), iter([1.0, 1.25])

    def closure():
        loss = next(weights) * (x * x).sum()
        loss.backward()
        return loss

    assert refused(method([x]), closure) == (
        f"the loss was 5 and then 6.25 at the same point; {method.__name__} needs a loss that "
        "depends on the parameters alone.  Mini-batches? Pass FullBatch(loader, loss).  Dropout? "
        "Call model.eval().  For noisy gradients use Adam."
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_prediction_from_before_the_step_is_refused(method):
    torch.manual_seed(0)
    model, rows = nn.Linear(2, 1), torch.randn(5, 2)
    prediction = model(rows)

    def closure():
        model.zero_grad()
        loss = (prediction - 1).square().mean()
        loss.backward(retain_graph=True)
        return loss

    message = refused(method(model.parameters()), closure)
    assert "points, though its gradient says that it falls" in message
    assert message.endswith("Compute the prediction within the closure, not before it.")


@pytest.mark.parametrize("method", METHODS)
def test_dropout_in_the_closure_is_noisy(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    rows = torch.randn(8, 4)

    def closure():
        loss = model(rows).square().mean()
        loss.backward()
        return loss

    message = refused(method(model.parameters()), closure)
    assert message.startswith("the loss was ")
    assert message.endswith("Dropout? Call model.eval().  For noisy gradients use Adam.")
    model.eval()
    assert method(model.parameters()).step(closure) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_loop_over_mini_batches_with_a_closure_each_is_refused_at_the_second(method):
    torch.manual_seed(0)
    model, batches = nn.Linear(4, 1).double(), torch.randn(10, 8, 4, dtype=torch.float64)
    optimizer, num_steps = method(model.parameters()), 0

    def take_steps():
        nonlocal num_steps
        for batch in batches:

            def closure(batch=batch):
                loss = (model(batch) - 1).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            num_steps += 1

    with pytest.raises(ConfigError, match=r"at the same point; .*Mini-batches\? Pass FullBatch"):
        take_steps()
    assert num_steps == 1


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
def test_an_objective_of_another_batch_is_refused_at_the_second_step(method):
    torch.manual_seed(0)
    model, batches = nn.Linear(4, 1).double(), torch.randn(2, 8, 4, dtype=torch.float64)
    first, second = (
        FullBatch(
            [batch],
            lambda outputs, _: (outputs - 1).square().mean(),
            outputs=lambda rows: model(rows),
        )
        for batch in batches
    )
    optimizer = method(model.parameters())
    optimizer.step(first)
    assert "at the same point; " in refused(optimizer, second)


@pytest.mark.parametrize("method", METHODS)
def test_a_new_closure_of_the_same_loss_costs_one_evaluation_once(method):
    def take_steps(build):
        x, calls = parameter(), []
        optimizer = method([x])
        closure = build(x, calls)
        for _ in range(3):
            optimizer.step(closure if build is not again else build(x, calls))
        return x.tolist(), len(calls)

    def once(x, calls):
        def closure():
            calls.append(1)
            loss = (x**4).sum()
            loss.backward()
            return loss

        return closure

    def again(x, calls):
        return once(x, calls)

    (first, num_first), (second, num_second) = take_steps(once), take_steps(again)
    assert first == second
    assert num_second == num_first + 1


@pytest.mark.parametrize("method", [ConjugateGradient, LBFGS])
@pytest.mark.parametrize("as_objective", [False, True])
def test_dropout_that_starts_later_is_refused_at_the_first_search_that_fails(method, as_objective):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 1)).eval()
    rows = torch.randn(64, 4)
    optimizer = method(model.parameters())

    def closure():
        loss = (model(rows) - rows[:, :1]).square().mean()
        loss.backward()
        return loss

    objective = FullBatch([rows], lambda rows: (model(rows) - rows[:, :1]).square().mean())
    loss = objective if as_objective else closure
    for _ in range(4):
        optimizer.step(loss)
    model.train()

    def go_on():
        for _ in range(20):
            optimizer.step(loss)
            assert not optimizer.last.failure

    with pytest.raises(ConfigError, match=r"Dropout\? Call model\.eval\(\)"):
        go_on()


def test_a_loss_that_is_not_a_number_at_the_second_look_is_noisy():
    x, weights = parameter(), iter([1.0, float("nan")])

    def closure():
        loss = next(weights) * (x * x).sum()
        loss.backward()
        return loss

    message = refused(ConjugateGradient([x]), closure)
    assert message.startswith("the loss was 5 and then nan at the same point; ConjugateGradient ")


def test_a_noisy_closure_is_refused_again_at_the_next_call():
    x, weights = parameter(), iter([1.0, 1.25, 1.5, 1.75])

    def closure():
        loss = next(weights) * (x * x).sum()
        loss.backward()
        return loss

    optimizer = ConjugateGradient([x])
    refused(optimizer, closure)
    assert refused(optimizer, closure).startswith("the loss was 7.5 and then 8.75 ")


def test_noise_is_not_looked_for_where_it_is_expected():
    x, calls = parameter(), []

    def closure():
        calls.append(1)
        loss = (x * x).sum() * (1 + 1e-3 * len(calls))
        loss.backward()
        return loss

    ConjugateGradient([x], checks_noise=False).step(closure)
    assert x.detach().norm() < 1e-6


def test_rounding_is_no_noise():
    x, calls = parameter(), []

    def closure():
        calls.append(1)
        loss = (x * x).sum() * (1 + 1e-15 * len(calls))
        loss.backward()
        return loss

    ConjugateGradient([x]).step(closure)
    assert x.detach().norm() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_closure_without_backward_is_reported(method):
    x = parameter()
    assert refused(method([x]), lambda: (x * x).sum()) == (
        "the closure left no gradients: it must call loss.backward() before it returns the loss, "
        "on the parameters that the optimizer was given."
    )


def test_gradients_from_before_do_not_hide_a_missing_backward():
    x = parameter()
    (x * x).sum().backward()
    message = refused(ConjugateGradient([x]), lambda: (x * x).sum())
    assert message.startswith("the closure left no gradients")


@pytest.mark.parametrize("method", METHODS)
def test_a_closure_that_does_not_clear_gradients_does_no_harm(method):
    x, y = parameter(), parameter()

    def clearing():
        y.grad = None
        loss = (y**4).sum()
        loss.backward()
        return loss

    def keeping():
        loss = (x**4).sum()
        loss.backward()
        return loss

    first, second = method([x]), method([y])
    for _ in range(5):
        assert first.step(keeping) == second.step(clearing)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_a_scalar_is_reported(method):
    x = parameter()

    def closure():
        loss = x * x
        loss.sum().backward()
        return loss

    expected = "the loss has shape [2]; a scalar is expected.  Take its mean."
    assert refused(method([x]), closure, ShapeError) == expected


def test_a_loss_of_one_entry_is_a_scalar():
    x = parameter()

    def closure():
        loss = (x * x).sum().reshape(1, 1)
        loss.backward()
        return loss

    assert ConjugateGradient([x]).step(closure) < 5


@pytest.mark.parametrize("method", METHODS)
def test_a_closure_that_returns_nothing_is_reported(method):
    x = parameter()

    def closure():
        (x * x).sum().backward()

    expected = "the loss is NoneType; return the scalar that was computed"
    assert refused(method([x]), closure, ShapeError) == expected


def test_a_closure_may_return_a_number():
    x = parameter()

    def closure():
        loss = (x * x).sum()
        loss.backward()
        return loss.item()

    assert ConjugateGradient([x]).step(closure) < 5


@pytest.mark.parametrize("method", METHODS)
def test_a_start_that_is_not_finite_is_refused_until_it_is_mended(method):
    x = nn.Parameter(torch.tensor([float("nan"), 1.0], dtype=torch.float64))

    def closure():
        loss = (x * x).sum()
        loss.backward()
        return loss

    optimizer = method([x])
    for _ in range(2):
        with pytest.raises(ConfigError) as error:
            optimizer.step(closure)
        assert str(error.value) == (
            "the loss is nan at the starting point.  Start from finite weights, and check the data "
            "for non-finite numbers."
        )
    with torch.no_grad():
        x.fill_(1.0)
    assert optimizer.step(closure) < 2


def test_an_error_in_the_closure_comes_through_as_it_is():
    x, calls = parameter(), []

    def closure():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no data")
        loss = (x * x).sum()
        loss.backward()
        return loss

    optimizer = ConjugateGradient([x])
    with pytest.raises(RuntimeError, match=r"^no data$"):
        optimizer.step(closure)
    assert optimizer.step(closure) < 5


def test_a_closure_gives_no_products():
    from regard.optim.objectives.closure import ClosureObjective

    x = parameter()
    objective = ClosureObjective(lambda: (x * x).sum(), [x])
    for product in (objective.hessian, objective.gauss_newton):
        with pytest.raises(ConfigError) as error:
            product([torch.ones(2)])
        assert str(error.value) == NO_PRODUCTS


@pytest.mark.parametrize("method", METHODS)
def test_a_loop_over_mini_batches_is_refused_at_its_first_failed_step(method):
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 4, generator=draw)
    targets = rows.sum(1, keepdim=True) + torch.randn(200, 1, generator=draw)
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = method(model.parameters())

    def step():
        batch = torch.randint(200, (8,), generator=draw)

        def closure():
            loss = (model(rows[batch]) - targets[batch]).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    with pytest.raises(ConfigError, match=r"at the same point; .* Pass FullBatch\(loader, loss\)"):
        for _ in range(40):
            step()
            assert not optimizer.last.failure


def test_a_step_that_fails_on_a_deterministic_closure_is_reported_and_not_refused():
    x = parameter()

    def closure():
        x.grad = torch.ones_like(x)  # uphill: no step along its negative lowers the value
        return -(x * x).sum().detach()

    optimizer = LBFGS([x])
    optimizer.step(closure)
    assert optimizer.last.failure
    assert x.tolist() == [1.0, 2.0]
