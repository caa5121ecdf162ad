"""What every optimizer promises, walked through all of them and their ways of working."""

import copy
import inspect
import io
import typing

import pytest
import torch
from torch import nn

import regard.optim
from regard.optim import (
    LBFGS,
    OPTIMIZERS,
    SCHEDULES,
    AdamThenCG,
    ConjugateGradient,
    FullBatch,
    GradientDescent,
    Muon,
    NewtonCG,
)
from regard.optim.cg_updates import CG_UPDATES
from regard.optim.line_search import LINE_SEARCHES
from regard.optim.minimize import METHODS
from regard.training.optimizers import RECORDS, needs_full_batch, record_of
from regard.training.training_config import OptimizerConfig

DETERMINISTIC = {
    **{f"cg {beta}": (ConjugateGradient, {"beta": beta}) for beta in CG_UPDATES},
    **{f"cg by {search}": (ConjugateGradient, {"search": search}) for search in LINE_SEARCHES},
    "cg with memory": (ConjugateGradient, {"memory": 3}),
    "cg with adam": (ConjugateGradient, {"preconditioner": "adam"}),
    **{f"lbfgs by {search}": (LBFGS, {"search": search}) for search in LINE_SEARCHES},
    "lbfgs of one pair": (LBFGS, {"history_size": 1}),
    "fixed steps": (GradientDescent, {"step": 0.1}),
    "armijo": (GradientDescent, {"step": "armijo"}),
    "barzilai-borwein": (GradientDescent, {}),
    "gauss-newton": (NewtonCG, {}),
    "hessian": (NewtonCG, {"curvature": "hessian"}),
    "levenberg-marquardt": (NewtonCG, {"region": "levenberg-marquardt"}),
    "newton-cg with adam": (NewtonCG, {"preconditioner": "adam"}),
    "newton-cg of a part": (NewtonCG, {"curvature_fraction": 0.5}),
}
EVERY = {
    **DETERMINISTIC,
    "adam": (AdamThenCG, {"lr": 0.01}),
    "adam, then cg": (AdamThenCG, {"lr": 0.01, "window": 1, "threshold": 10.0}),
    "muon": (Muon, {"lr": 0.01}),
}
TAKE_CLOSURES = [name for name, (build, _) in EVERY.items() if build is not NewtonCG]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Case:
    """A small network without biases, its data, and an optimizer."""

    def __init__(self, name, dtype=torch.float64):
        torch.manual_seed(1)
        self.model = nn.Sequential(
            nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2, bias=False)
        ).to(dtype)
        rows, targets = draw(12, 4).to(dtype), draw(12, 2, seed=2).to(dtype)
        self.objective = FullBatch(
            list(zip(rows.split(6), targets.split(6), strict=True)),
            lambda outputs, batch: (outputs - batch[1]).square().mean(),
            outputs=lambda batch: self.model(batch[0]),
            parameters=self.model.parameters(),
        )
        build, self.settings = EVERY[name]
        self.optimizer = build(self.model.parameters(), **self.settings)

    def closure(self):
        """Compute the loss as users do."""
        self.optimizer.zero_grad()
        with torch.enable_grad():
            return self.loss()

    def loss(self):
        rows = torch.cat([rows for rows, _ in self.objective._loader])
        targets = torch.cat([targets for _, targets in self.objective._loader])
        loss = (self.model(rows) - targets).square().mean()
        loss.backward()
        return loss

    def step(self):
        return self.optimizer.step(self.objective)

    def position(self):
        return nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()


def test_all_optimizers_of_the_library_are_walked():
    exported = {
        thing
        for name in regard.optim.__all__
        if inspect.isclass(thing := getattr(regard.optim, name))
        and issubclass(thing, torch.optim.Optimizer)
    }
    assert exported == {build for build, _ in EVERY.values()}


def test_settings_know_the_names_of_the_registries():
    hints = typing.get_type_hints(OptimizerConfig)
    assert typing.get_args(hints["name"]) == tuple(OPTIMIZERS)
    assert typing.get_args(hints["schedule"]) == tuple(SCHEDULES)
    assert typing.get_args(hints["beta"]) == tuple(CG_UPDATES)
    on_batches = {name for name in OPTIMIZERS if not needs_full_batch(name)}
    assert on_batches == {"muon", "adamw", "sgd"}
    assert {name for name in OPTIMIZERS if record_of(name).is_full_batch} == set(METHODS)


def test_every_optimizer_has_a_record_for_training_runs():
    assert set(RECORDS) == set(OPTIMIZERS.values())
    assert all(record.on_batches or record.on_all_rows for record in RECORDS.values())


@pytest.mark.parametrize("name", EVERY)
def test_it_is_an_optimizer_of_torch(name):
    optimizer = Case(name).optimizer
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    assert type(optimizer).__name__ in repr(optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_steps_lower_the_loss(name, dtype):
    case = Case(name, dtype)
    before = case.objective.value()
    for _ in range(8):
        case.step()
    assert case.objective.value() < before
    assert all(parameter.dtype == dtype for parameter in case.model.parameters())


@pytest.mark.parametrize("name", TAKE_CLOSURES)
def test_a_closure_does_as_well_as_an_objective(name):
    case = Case(name)
    before = case.objective.value()
    for _ in range(8):
        case.optimizer.step(case.closure)
    assert case.objective.value() < before


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_step_returns_the_value_after_it(name):
    case = Case(name)
    for _ in range(4):
        value = case.step()
        assert isinstance(value, float)
        assert value == case.optimizer.last.value
        assert value == pytest.approx(case.objective.value(), rel=1e-14)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_report_of_a_step_is_right(name):
    case = Case(name)
    calls = []
    objective = case.objective
    for kind in ("value", "gradient", "hessian", "gauss_newton"):
        method = getattr(objective, kind)

        def counted(*args, _kind=kind, _method=method):
            calls.append(_kind)
            return _method(*args)

        setattr(objective, kind, counted)
    for _ in range(4):
        calls.clear()
        case.step()
        last = case.optimizer.last
        products = calls.count("hessian") + calls.count("gauss_newton")
        assert last.evaluations == len(calls) - products
        assert last.cg_iterations == products
        case.objective.gradient()
        largest = max(float(p.grad.abs().max()) for p in case.model.parameters())
        assert last.gradient_norm == pytest.approx(largest, rel=1e-9)
        assert last.step_size > 0
        assert last.failure == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_two_runs_are_the_same_bit_for_bit(name):
    first, second = Case(name), Case(name)
    for _ in range(6):
        first.step()
        second.step()
    assert torch.equal(first.position(), second.position())


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_an_interrupted_run_is_resumed_bit_for_bit(name):
    straight = Case(name)
    for _ in range(6):
        straight.step()
    begun = Case(name)
    for _ in range(3):
        begun.step()
    file = io.BytesIO()
    torch.save([begun.model.state_dict(), begun.optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    ended = Case(name)
    ended.model.load_state_dict(weights)
    ended.optimizer.load_state_dict(state)
    for _ in range(3):
        ended.step()
    assert torch.equal(ended.position(), straight.position())


@pytest.mark.parametrize("name", EVERY)
def test_parameters_stay_the_same_tensors_in_the_same_memory(name):
    case = Case(name)
    before = [(id(p), p.data_ptr()) for p in case.model.parameters()]
    for _ in range(3):
        case.step()
    assert [(id(p), p.data_ptr()) for p in case.model.parameters()] == before
    assert all(p.requires_grad and p.is_leaf for p in case.model.parameters())


@pytest.mark.parametrize("name", EVERY)
def test_parameters_that_were_not_given_stay(name):
    case = Case(name)
    build, settings = EVERY[name]
    optimizer = build(case.model[2].parameters(), **settings)
    kept = case.model[0].weight.detach().clone()
    for _ in range(3):
        optimizer.step(case.objective)
    assert torch.equal(case.model[0].weight, kept)


@pytest.mark.parametrize("name", EVERY)
def test_the_random_numbers_of_the_caller_are_left(name):
    case = Case(name)
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    case.step()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", EVERY)
def test_the_mode_of_gradients_is_left(name):
    case = Case(name)
    case.step()
    assert torch.is_grad_enabled()
    with torch.no_grad():
        case.step()
        assert not torch.is_grad_enabled()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_gradients_can_be_cleared_between_steps(name):
    case, other = Case(name), Case(name)
    for _ in range(4):
        case.step()
        case.optimizer.zero_grad()
        other.step()
    assert torch.equal(case.position(), other.position())


@pytest.mark.parametrize("name", EVERY)
def test_hooks_are_called_around_a_step(name):
    case, seen = Case(name), []
    case.optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    case.optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    case.step()
    assert seen[0] == "before"
    assert seen[-1] == "after"


@pytest.mark.parametrize("name", EVERY)
def test_named_parameters_are_taken(name):
    case, other = Case(name), Case(name)
    build, settings = EVERY[name]
    optimizer = build(case.model.named_parameters(), **settings)
    for _ in range(3):
        optimizer.step(case.objective)
        other.step()
    assert torch.equal(case.position(), other.position())
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "2.weight"]


@pytest.mark.parametrize("name", EVERY)
def test_groups_do_as_one(name):
    case, other = Case(name), Case(name)
    build, settings = EVERY[name]
    groups = [{"params": [layer.weight]} for layer in (case.model[0], case.model[2])]
    optimizer = build(groups, **settings)
    for _ in range(3):
        optimizer.step(case.objective)
        other.step()
    assert torch.equal(case.position(), other.position())


@pytest.mark.parametrize("name", EVERY)
def test_a_parameter_is_not_taken_twice(name):
    build, settings = EVERY[name]
    weight = nn.Parameter(draw(2, 2))
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        build([{"params": [weight]}, {"params": [weight]}], **settings)


class BrokenOff(FullBatch):
    """Is interrupted before an evaluation or product of a certain number."""

    left = 0

    def _evaluating(self):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super()._evaluating()


def break_off(case):
    """Begin steps that are interrupted ever later, till one is done; return how many were not."""
    number, before = 0, case.position()
    case.objective.__class__ = BrokenOff
    while True:
        case.objective.left = number + 1
        try:
            case.step()
        except KeyboardInterrupt:
            number += 1
            assert torch.equal(case.position(), before)
        else:
            case.objective.left = 0
            return number


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_step_that_is_broken_off_anywhere_is_undone_bit_for_bit(name):
    case = Case(name, torch.float32)
    assert break_off(case) >= 3
    for _ in range(3):
        case.step()
    before = case.objective.value()
    assert break_off(case) >= 1
    for _ in range(5):
        case.step()
        assert case.optimizer.last.failure == ""
    assert case.objective.value() < before


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_run_saved_after_a_step_was_broken_off_is_resumed_bit_for_bit(name):
    straight = Case(name)
    for _ in range(2):
        straight.step()
    straight.objective.__class__, straight.objective.left = BrokenOff, 1
    with pytest.raises(KeyboardInterrupt):
        straight.step()
    resumed = Case(name)
    resumed.model.load_state_dict(straight.model.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(straight.optimizer.state_dict()))
    for _ in range(3):
        straight.step()
        resumed.step()
    assert torch.equal(straight.position(), resumed.position())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_where_the_gradient_is_zero_it_stays_and_says_so(name):
    case = Case(name)
    with torch.no_grad():
        case.model[2].weight.zero_()
        case.model[0].weight.zero_()
    before = case.position()
    case.step()
    assert torch.equal(case.position(), before)
    assert case.optimizer.last.failure == "the gradient is zero"
    assert case.optimizer.last.step_size == 0.0
