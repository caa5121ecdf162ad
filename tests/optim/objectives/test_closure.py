"""The messages about a wrong closure, loss or parameter, word by word; nothing has moved."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from regard.errors import ConfigError, ShapeError
from regard.optim import (
    LBFGS,
    AdamThenCG,
    ConjugateGradient,
    FullBatch,
    GradientDescent,
    Muon,
    NewtonCG,
)

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


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_parameter_that_the_loss_does_not_use_is_named_once_and_stays(method, is_first):
    rows = draw_rows()

    def take_steps(x, *others):
        objective = FullBatch(
            [rows],
            lambda outputs, rows: ((rows - outputs) ** 4).mean(),
            outputs=lambda rows: x.expand_as(rows),
        )
        optimizer = method([*others, x] if is_first else [x, *others])
        return [optimizer.step(objective) for _ in range(3)]

    x, unused = parameter(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    with pytest.warns(UserWarning) as warned:
        values = take_steps(x, unused)
    assert [str(warning.message) for warning in warned] == [
        f"1 of 2 parameters got no gradient, first number {0 if is_first else 1} of shape [3]: "
        "the loss does not depend on them.  They stay as they are."
    ]
    assert unused.tolist() == [1, 1, 1]
    assert values == pytest.approx(take_steps(parameter()), rel=1e-12)


def draw_rows():
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()


def closure_of(x):
    def closure():
        loss = (x**4).sum()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("method", METHODS)
def test_frozen_parameters_are_named_once_and_left_out(method):
    x, frozen = parameter(), nn.Parameter(torch.ones(3).half(), requires_grad=False)
    with pytest.warns(UserWarning) as warned:
        optimizer = method([frozen, x])
    assert [str(warning.message) for warning in warned] == [
        "1 of 2 parameters have requires_grad=False, first number 0 of shape [3]: "
        f"{method.__name__} leaves them as they are."
    ]
    other = parameter()
    alone = method([other])
    for _ in range(3):
        assert optimizer.step(closure_of(x)) == alone.step(closure_of(other))
    restored = method([x])
    assert len(optimizer.state_dict()["state"][0]["gradient"]) == 2
    assert restored.step(closure_of(x)) < optimizer.last.value


@pytest.mark.parametrize("method", METHODS)
def test_a_state_with_other_parameters_frozen_is_refused(method):
    x, y = parameter(), nn.Parameter(torch.ones(3).double())

    def closure():
        loss = (x**4).sum() + (y**4).sum()
        loss.backward()
        return loss

    optimizer = method([x, y])
    optimizer.step(closure)
    y.requires_grad_(False)
    with pytest.warns(UserWarning, match="have requires_grad=False"):
        other = method([x, y])
    with pytest.raises(ConfigError) as error:
        other.load_state_dict(optimizer.state_dict())
    assert str(error.value) == (
        "the saved state is of 5 numbers, but the parameters that move have 2.  Give the same "
        "parameters, with the same ones frozen."
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_is_unfrozen_moves_from_the_next_step_on(method):
    x, late = parameter(), nn.Parameter(torch.ones(2).double(), requires_grad=False)

    def closure():
        loss = (x**4).sum() + (late**4).sum()
        loss.backward()
        return loss

    with pytest.warns(UserWarning, match="have requires_grad=False"):
        optimizer = method([x, late])
    optimizer.step(closure)
    assert late.tolist() == [1, 1]
    late.requires_grad_()
    optimizer.step(closure)
    assert late.tolist() != [1, 1]


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
def test_parameters_that_are_all_frozen_are_refused(method):
    with pytest.raises(ConfigError) as error:
        method([parameter().requires_grad_(False)])
    assert str(error.value) == (
        "all 1 parameters have requires_grad=False, so nothing would move.  Call requires_grad_() "
        "on those to be optimized."
    )


@pytest.mark.parametrize("method", [*METHODS, AdamThenCG, Muon])
@pytest.mark.parametrize("setting", ["maximize", "nesterov"])
def test_a_setting_of_another_optimizer_in_a_group_is_refused(method, setting):
    tensor = nn.Parameter(torch.ones(2, 2).double())
    with pytest.raises(ConfigError, match=f"has no setting '{setting}' of a group"):
        method([{"params": [tensor], setting: True}])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["lr", "weight_decay"])
def test_a_setting_that_is_put_into_a_group_later_is_refused(method, setting):
    x = parameter()
    optimizer = method([x])
    optimizer.param_groups[0][setting] = 0.1
    assert refused(optimizer, closure_of(x)).startswith(
        f"{method.__name__} has no setting {setting!r} of a group.  It takes: scale"
    )


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
@pytest.mark.parametrize(
    "schedule", [lambda o: StepLR(o, 1), ReduceLROnPlateau, lambda o: LambdaLR(o, lambda _: 1.0)]
)
def test_a_schedule_has_no_rate_to_change(method, schedule):
    with pytest.raises(ConfigError) as error:
        schedule(method([parameter()]))
    assert str(error.value) == (
        f"{method.__name__} has no learning rate: a search finds the length of every step.  Leave "
        "out the scheduler."
    )


def test_a_schedule_changes_fixed_steps():
    x = nn.Parameter(torch.ones(1).double())
    optimizer = GradientDescent([x], step=0.1)
    schedule = StepLR(optimizer, 1, gamma=0.5)

    def closure():
        loss = x.sum()
        loss.backward()
        return loss

    points = []
    for _ in range(3):
        optimizer.step(closure)
        schedule.step()
        points.append(x.item())
    assert points == pytest.approx([0.9, 0.85, 0.825])
    restored = GradientDescent([x], step=0.1)
    restored.load_state_dict(optimizer.state_dict())
    restored.step(closure)
    assert x.item() == pytest.approx(0.8125)


def test_groups_with_rates_of_their_own_are_refused():
    x, y = parameter(), parameter()
    optimizer = GradientDescent([{"params": [x], "lr": 0.2}, {"params": [y]}], step=0.1)

    def closure():
        loss = (x * y).sum()
        loss.backward()
        return loss

    assert refused(optimizer, closure) == (
        "groups have the rates 0.1, 0.2; one step takes one.  Give groups a `scale` of their own."
    )


@pytest.mark.parametrize("method", [*METHODS, AdamThenCG])
def test_a_scaler_of_gradients_is_refused(method):
    x, scaler = parameter(), torch.amp.GradScaler("cpu")
    optimizer = method([x])
    scaler.scale((x**2).sum()).backward()
    with pytest.raises(ConfigError, match=r"takes no GradScaler: .*Call step\(closure\) without"):
        scaler.step(optimizer)


@pytest.mark.parametrize("method", [*METHODS, NewtonCG, AdamThenCG])
def test_a_step_without_an_argument_shows_a_closure(method):
    with pytest.raises(ConfigError, match=r"step needs a closure: .*def closure\(\): "):
        method([parameter()]).step()


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
def test_a_step_without_closure_shows_one(method):
    optimizer = method([parameter()])
    assert refused(optimizer, None) == (
        f"{method.__name__}.step needs a closure: it evaluates the loss at several points of one "
        "step.  def closure(): optimizer.zero_grad(); loss = ...; loss.backward(); return loss"
    )


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
def test_no_parameter_at_all_is_refused(method):
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        method([])


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: [nn.Parameter(torch.ones(2, dtype=torch.complex128))],
            "parameter 0 of shape [2] is complex128; these methods take real floating-point "
            "parameters only.  Convert it, leave it out, or keep real and imaginary part as two "
            "parameters.",
        ),
        (
            lambda: [torch.ones(2, dtype=torch.int32)],
            "parameter 0 of shape [2] is int32; these methods take real floating-point parameters "
            "only.  Convert it, leave it out, or keep real and imaginary part as two parameters.",
        ),
        (
            lambda: [parameter(), nn.Parameter(torch.ones(3))],
            "parameters are float32 on cpu and float64 on cpu; an inner product over all of them "
            "needs one type and one device.",
        ),
        (
            lambda: [{"params": [parameter()], "scale": 0.0}],
            "scale of parameter 0 of shape [2] must be above 0, not 0.0",
        ),
    ],
    ids=["complex", "integer", "mixed", "scale"],
)
def test_a_parameter_that_cannot_be_optimized_is_refused(method, wrong, message):
    with pytest.raises(ConfigError) as error:
        method(wrong())
    assert str(error.value) == message


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


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
@pytest.mark.parametrize("setting", ["lr", "weight_decay", "maximize"])
def test_a_groups_setting_of_another_optimizer_is_refused(method, setting):
    with pytest.raises(ConfigError) as error:
        method([{"params": [parameter()], setting: 1.0}])
    assert str(error.value) == (
        f"{method.__name__} has no setting {setting!r} of a group.  It takes: scale"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_that_is_frozen_between_steps_does_not_move(method):
    x, y = parameter(), parameter()

    def closure():
        optimizer.zero_grad()
        loss = ((1 - x) ** 2 + 100 * (y - x**2) ** 2).sum()
        loss.backward()
        return loss

    optimizer = method([x, y])
    for _ in range(4):
        optimizer.step(closure)
    y.requires_grad_(False)
    before = y.tolist(), x.tolist()
    for _ in range(4):
        optimizer.step(closure)
    assert y.tolist() == before[0]
    assert x.tolist() != before[1]


def test_a_scale_that_is_changed_between_steps_is_obeyed():
    x = parameter()

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    optimizer = GradientDescent([x], step=0.1)
    optimizer.step(closure)
    optimizer.param_groups[0]["scale"] = 0.5
    before = x.detach().clone()
    optimizer.step(closure)
    # z = 2 x moves by 0.1 of its gradient x, so x by 0.05
    torch.testing.assert_close(x.detach(), 0.95 * before)
