"""State: saving and resuming to the bit, groups that are added, parameters moved from outside."""

import copy
import io

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.optim import LBFGS, Armijo, ConjugateGradient, FullBatch, GradientDescent, NewtonCG

BUILDERS = {
    "cg": lambda params: ConjugateGradient(params),
    "cg with memory": lambda params: ConjugateGradient(params, memory=3),
    "cg with adam": lambda params: ConjugateGradient(params, memory=3, preconditioner="adam"),
    "cg by dai-yuan": lambda params: ConjugateGradient(
        params, beta="dai-yuan", search="strong-wolfe"
    ),
    "lbfgs": lambda params: LBFGS(params, history_size=4),
    "lbfgs by hager-zhang": lambda params: LBFGS(params, history_size=4, search="hager-zhang"),
    "barzilai-borwein": lambda params: GradientDescent(params),
    "armijo": lambda params: GradientDescent(params, step="armijo"),
    "fixed": lambda params: GradientDescent(params, step=0.05),
    "newton-cg": lambda params: NewtonCG(params, curvature="hessian"),
    "gauss-newton": lambda params: NewtonCG(params, radius=0.5),
    "levenberg-marquardt": lambda params: NewtonCG(
        params, region="levenberg-marquardt", preconditioner="adam"
    ),
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(dtype=torch.float64, dropout=0.0):
    """Build a small network, its objective over three micro-batches, and two groups."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, 2))
    model = model.to(dtype)
    rows, targets = draw(12, 5).to(dtype), draw(12, 2, seed=1).to(dtype)
    objective = FullBatch(
        list(zip(rows.split(4), targets.split(4), strict=True)),
        lambda outputs, batch: (outputs - batch[1]).square().mean(),
        outputs=lambda batch: model(batch[0]),
        model=model,
        dropout="frozen" if dropout else "off",
    )
    first, second = list(model[0].parameters()), list(model[3].parameters())
    groups = [{"params": first, "scale": 0.7}, {"params": second}]
    return model, objective, groups


def run(optimizer, objective, steps):
    reports = []
    for _ in range(steps):
        optimizer.step(objective)
        reports.append(repr(optimizer.last))  # so that NaN equals itself
    return reports


def saved(model, optimizer, objective):
    """Send everything through a file."""
    file = io.BytesIO()
    outputs = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "num_steps": objective.num_steps,
    }
    torch.save(outputs, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_an_interrupted_run_is_resumed_bit_for_bit(name):
    build, dtype = BUILDERS[name], torch.float32
    model, objective, groups = network(dtype)
    expected = run(build(groups), objective, 12)
    last = [p.detach().clone() for p in model.parameters()]

    model, objective, groups = network(dtype)
    optimizer = build(groups)
    reports = run(optimizer, objective, 7)
    state = saved(model, optimizer, objective)

    model, objective, groups = network(dtype)
    model.load_state_dict(state["model"])
    optimizer = build(groups)
    optimizer.load_state_dict(state["optimizer"])
    reports += run(optimizer, objective, 5)
    assert reports == expected
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), last, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cg with memory", "lbfgs", "gauss-newton"])
def test_a_run_with_frozen_dropout_is_resumed_bit_for_bit(name):
    build = BUILDERS[name]
    model, objective, groups = network(dropout=0.4)
    expected = run(build(groups), objective, 8)

    model, objective, groups = network(dropout=0.4)
    optimizer = build(groups)
    reports = run(optimizer, objective, 4)
    state = saved(model, optimizer, objective)

    model, objective, groups = network(dropout=0.4)
    model.load_state_dict(state["model"])
    optimizer = build(groups)
    optimizer.load_state_dict(state["optimizer"])
    objective.num_steps = state["num_steps"]
    assert reports + run(optimizer, objective, 4) == expected


@pytest.mark.parametrize("name", BUILDERS)
def test_a_resumed_step_evaluates_no_point_twice(name):
    model, objective, groups = network()
    optimizer = BUILDERS[name](groups)
    run(optimizer, objective, 3)
    state = saved(model, optimizer, objective)
    optimizer.step(objective)
    model, objective, groups = network()
    model.load_state_dict(state["model"])
    resumed = BUILDERS[name](groups)
    resumed.load_state_dict(state["optimizer"])
    resumed.step(objective)
    assert resumed.last.evaluations == optimizer.last.evaluations


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_loading_a_state_leaves_the_saved_optimizer_alone(name):
    model, objective, groups = network()
    first = BUILDERS[name](groups)
    run(first, objective, 4)
    state = first.state_dict()
    before = copy.deepcopy(state["state"])
    other_model, other_objective, other_groups = network()
    other_model.load_state_dict(model.state_dict())
    second = BUILDERS[name](other_groups)
    second.load_state_dict(state)
    run(second, other_objective, 3)
    torch.testing.assert_close(state["state"], before, rtol=0, atol=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_state_before_the_first_step_can_be_loaded(name):
    values = []
    for is_loaded in (False, True):
        _, objective, groups = network()
        optimizer = BUILDERS[name](groups)
        if is_loaded:
            optimizer.load_state_dict(optimizer.state_dict())
        values.append([optimizer.step(objective) for _ in range(3)])
    assert values[0] == values[1]


def test_the_scale_of_a_group_is_saved():
    _, _, groups = network()
    state = ConjugateGradient(groups).state_dict()
    assert [group["scale"] for group in state["param_groups"]] == [0.7, 1.0]
    x = nn.Parameter(torch.ones(2, dtype=torch.float64))
    y = nn.Parameter(torch.ones(2, dtype=torch.float64))
    first = GradientDescent([{"params": [x], "scale": 2.0}], step=0.1)
    second = GradientDescent([y], step=0.1)
    second.load_state_dict(first.state_dict())
    for optimizer, tensor in ((first, x), (second, y)):
        optimizer.step(closure_of(lambda t: (t * t).sum(), tensor))
    assert torch.equal(x, y)


def closure_of(fun, tensor):
    def closure():
        loss = fun(tensor)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", BUILDERS)
def test_added_parameters_are_moved_beside_the_old(name):
    model, objective, groups = network()
    optimizer = BUILDERS[name](groups[:1])
    objective_of_part = FullBatch(
        [draw(6, 5)], lambda rows: 0.5 * model[0](rows).square().mean(), outputs=None
    )
    if not isinstance(optimizer, NewtonCG):
        run(optimizer, objective_of_part, 3)
    optimizer.add_param_group(groups[1])
    before = [p.detach().clone() for p in model.parameters()]
    value = objective.value()
    assert optimizer.step(objective) < value
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_group_is_added_with_its_scale():
    x, y = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    optimizer = GradientDescent([x], step=0.1)
    optimizer.add_param_group({"params": [y], "scale": 2.0})

    def closure():
        loss = (x + y).sum() ** 2 / 4
        loss.backward()
        return loss

    optimizer.step(closure)
    assert x.item() == pytest.approx(0.9)
    assert y.item() == pytest.approx(0.6)


def test_a_group_of_another_type_cannot_be_added_and_leaves_the_optimizer_usable():
    x = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = ConjugateGradient([x])
    with pytest.raises(ConfigError, match=r"^parameters are float32 on cpu and float64 on cpu"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1
    assert optimizer.step(closure_of(lambda t: (t**4).sum(), x)) < 2


MOVES = {
    "in place": lambda model: model[0].weight.mul_(0.5),
    "loaded": lambda model: model.load_state_dict(
        {name: 0.5 * value for name, value in model.state_dict().items()}
    ),
    "by utility": lambda model: nn.utils.vector_to_parameters(
        0.5 * nn.utils.parameters_to_vector(model.parameters()), model.parameters()
    ),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", BUILDERS)
def test_parameters_moved_from_outside_are_evaluated_again(name, move):
    model, objective, groups = network()
    optimizer = BUILDERS[name](groups)
    run(optimizer, objective, 4)
    with torch.no_grad():
        MOVES[move](model)
    start = objective.value()
    value = optimizer.step(objective)
    assert value == pytest.approx(objective.value(), rel=1e-15)
    if name != "fixed":
        assert value < start


def test_conjugate_gradient_reports_a_restart():
    model, objective, groups = network()
    optimizer = ConjugateGradient(groups)
    run(optimizer, objective, 3)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    optimizer.step(objective)
    assert optimizer.last.restart_reason == "the parameters were moved from outside"
    assert optimizer.last.beta == 0.0
    optimizer.step(objective)
    assert optimizer.last.restart_reason == ""


@pytest.mark.parametrize("name", BUILDERS)
def test_the_present_point_is_not_evaluated_again(name, monkeypatch):
    model, objective, groups = network()
    optimizer = BUILDERS[name](groups)
    optimizer.step(objective)
    present, seen = nn.utils.parameters_to_vector(model.parameters()).detach(), []
    gradient = objective.gradient

    def noted():
        seen.append(nn.utils.parameters_to_vector(model.parameters()).detach())
        return gradient()

    monkeypatch.setattr(objective, "gradient", noted)
    optimizer.step(objective)
    assert seen
    assert not any(torch.equal(point, present) for point in seen)


def test_a_failed_search_is_followed_by_one_downhill():
    x = nn.Parameter(torch.tensor([1.0, 3.0], dtype=torch.float64))
    optimizer = ConjugateGradient([x], search=Armijo(max_evaluations=4), checks_noise=False)
    is_broken = []

    def closure():
        loss = (x**4).sum() + (10.0 * len(is_broken) if torch.is_grad_enabled() else 0.0)
        is_broken.append(1) if is_broken else None
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    before = x.detach().clone()
    is_broken.append(1)
    optimizer.step(closure)
    assert optimizer.last.failure
    assert optimizer.last.restart_reason.startswith("the search failed: ")
    assert torch.equal(x, before)
    is_broken.clear()
    value = optimizer.step(closure)
    assert optimizer.last.restart_reason == "the search had failed"
    assert value < float((before**4).sum())


def test_the_parameters_themselves_are_not_kept_in_the_state():
    _, objective, groups = network()
    optimizer = ConjugateGradient(groups)
    run(optimizer, objective, 3)
    state = optimizer.state_dict()["state"]
    vectors = [v for entry in state.values() for v in entry.values() if isinstance(v, torch.Tensor)]
    assert len(vectors) == 2  # the gradient and the direction


def test_a_state_saved_under_earlier_names_is_restored():
    def run(rename):
        x = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

        def closure():
            loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
            loss.backward()
            return loss

        optimizer = LBFGS([x])
        for _ in range(5):
            optimizer.step(closure)
        saved = copy.deepcopy(optimizer.state_dict())
        for new, old in rename.items():
            saved["state"][0][old] = saved["state"][0].pop(new)
        optimizer = LBFGS([x])
        optimizer.load_state_dict(saved)
        for _ in range(5):
            optimizer.step(closure)
        return x

    earlier = {"is_stagnating": "is_flat", "num_stiff_steps": "num_stiff"}
    assert torch.equal(run(earlier), run({}))
