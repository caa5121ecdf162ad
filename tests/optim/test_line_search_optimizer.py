"""Parameters, groups, schedules and calls of the methods of optim: what moves, what is refused."""

from contextlib import nullcontext

import pytest
import torch
from tests.optim.objectives.test_closure import METHODS, parameter, refused
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from regard.errors import ConfigError
from regard.optim import (
    LBFGS,
    AdamThenCG,
    ConjugateGradient,
    FullBatch,
    GradientDescent,
    Muon,
    NewtonCG,
)


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


@pytest.mark.parametrize("method", [*METHODS, NewtonCG, AdamThenCG])
def test_a_loss_in_the_place_of_a_closure_is_named(method):
    with pytest.raises(ConfigError, match=r"step needs a closure, not Tensor: .*def closure\(\): "):
        method([parameter()]).step(torch.ones(()))


@pytest.mark.parametrize("method", [*METHODS, NewtonCG])
def test_no_parameter_at_all_is_refused(method):
    with pytest.raises(ValueError, match="optimizer got an empty parameter list"):
        method([])
    with pytest.raises(ConfigError) as error:
        method([{"params": []}])
    assert str(error.value) == (
        f"the groups have no parameters; {method.__name__} needs one or more, such as "
        "model.parameters()."
    )


def product_closure(optimizer, x):
    def closure():
        optimizer.zero_grad()
        loss = ((x[:, None] @ x[None] - 3) ** 2).mean()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("method", METHODS)
def test_a_first_group_without_parameters_changes_nothing(method):
    results = []
    for groups in ([], [{"params": []}]):
        x = parameter()
        optimizer = method([*groups, {"params": [x]}])
        for _ in range(3):
            optimizer.step(product_closure(optimizer, x))
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step(product_closure(optimizer, x))
        results.append(x.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "mode", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode]
)
def test_autocast_and_inference_mode_around_a_step_change_nothing(method, mode):
    results = []
    for context in (nullcontext, mode):
        x = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = method([x])
        for _ in range(3):
            with context():
                optimizer.step(product_closure(optimizer, x))
        optimizer.step(product_closure(optimizer, x))
        results.append(x.detach())
    assert torch.equal(*results)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_a_compiled_step_is_the_step():
    results = []
    for is_compiled in (False, True):
        x = parameter()
        optimizer = ConjugateGradient([x])
        step = torch.compile(optimizer.step, backend="eager") if is_compiled else optimizer.step
        for _ in range(3):
            step(product_closure(optimizer, x))
        results.append(x.detach())
    assert torch.equal(*results)


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


@pytest.mark.parametrize("method", [ConjugateGradient, LBFGS, GradientDescent])
def test_sparse_gradients_are_taken_as_dense_ones(method):
    def run(*, sparse):
        table = nn.Embedding.from_pretrained(
            torch.arange(8.0).view(4, 2), freeze=False, sparse=sparse
        )
        optimizer = method(table.parameters())

        def closure():
            optimizer.zero_grad()
            loss = (table(torch.tensor([1, 2])) - 1).pow(4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return table.weight.detach()

    assert torch.equal(run(sparse=True), run(sparse=False))
    assert not torch.equal(run(sparse=True), torch.arange(8.0).view(4, 2))


def test_a_reduction_that_cannot_be_called_is_refused():
    with pytest.raises(ConfigError) as caught:
        LBFGS([nn.Parameter(torch.ones(2))], reduce="sum")
    assert str(caught.value) == (
        "reduce must be None or a function that sums a tensor in place, not 'sum'"
    )
