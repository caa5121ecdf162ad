"""Adam, then conjugate gradient: each half is what it is named after, and the change comes once."""

import copy
import io

import pytest
import torch
from torch import nn

from regard.errors import ConfigError
from regard.optim import AdamThenCG, ConjugateGradient, FullBatch


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parameter():
    return nn.Parameter(torch.tensor([-1.2, 1.0, 0.7], dtype=torch.float64))


def fun(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum() + 1


def closure_of(x):
    def closure():
        x.grad = None
        loss = fun(x)
        loss.backward()
        return loss

    return closure


def test_the_first_steps_are_adamws():
    ours, theirs = parameter(), parameter()
    first = AdamThenCG([ours], lr=0.05, betas=(0.8, 0.95), weight_decay=0.1)
    second = torch.optim.AdamW([theirs], lr=0.05, betas=(0.8, 0.95), weight_decay=0.1)
    for _ in range(5):
        value = first.step(closure_of(ours))
        expected = second.step(closure_of(theirs))
        assert value == float(expected.detach())
        assert torch.equal(ours, theirs)
        assert first.last.value == value
        assert first.last.evaluations == 1
    assert not first.is_conjugate


def test_it_changes_where_the_mean_of_a_window_has_stopped_to_fall():
    x = parameter()
    losses = iter([4.0, 2.0, 1.0, 0.5, 0.25, 0.2495, 0.2494, 0.2493])
    optimizer = AdamThenCG([x], window=2, threshold=0.5)

    def closure():
        x.grad = torch.ones_like(x)
        return torch.tensor(next(losses))

    changed = []
    for _ in range(8):
        optimizer.step(closure)
        changed.append(optimizer.is_conjugate)
        if optimizer.is_conjugate:
            break
    # Means of windows: 3 -> 0.75, 1.5 -> 0.375, 0.75 -> 0.25, then 0.375 -> 0.249: less than half.
    assert changed == [False] * 6 + [True]


def test_after_the_change_steps_are_conjugate_gradients():
    x, y = parameter(), parameter()
    optimizer = AdamThenCG([x], lr=1e-9, window=1, memory=3)
    while not optimizer.is_conjugate:
        optimizer.step(closure_of(x))
    with torch.no_grad():
        y.copy_(x)
    plain = ConjugateGradient([y], memory=3)
    for _ in range(10):
        assert optimizer.step(closure_of(x)) == plain.step(closure_of(y))
        assert torch.equal(x, y)
        assert str(optimizer.last) == str(plain.last)  # some values are NaN in both


def test_it_reaches_the_minimum_that_adam_alone_is_far_from():
    x = parameter()
    optimizer = AdamThenCG([x], lr=0.02, window=20, threshold=0.05)
    for _ in range(400):
        value = optimizer.step(closure_of(x))
        if optimizer.is_conjugate and optimizer.last.gradient_norm < 1e-8:
            break
    assert value == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(x.detach(), torch.ones(3, dtype=torch.float64))


def test_it_does_not_change_back():
    x = parameter()
    optimizer = AdamThenCG([x], lr=1e-9, window=1)
    for _ in range(30):
        optimizer.step(closure_of(x))
    assert optimizer.is_conjugate


def test_adam_may_see_batches_and_conjugate_gradient_all_rows():
    torch.manual_seed(0)
    model = nn.Linear(3, 1).double()
    rows, targets = draw(32, 3), draw(32, 1, seed=1)
    batches = list(zip(rows.split(8), targets.split(8), strict=True))
    seen = []

    def loss(batch):
        seen.append(len(batch[0]))
        return (model(batch[0]) - batch[1]).square().mean()

    whole = FullBatch(batches, loss)
    optimizer = AdamThenCG(model.parameters(), lr=0.05, window=8, threshold=0.2)
    for step in range(60):
        optimizer.step(FullBatch([batches[step % 4]], loss), whole)
        if optimizer.is_conjugate:
            break
    assert len(seen) == step + 1
    for _ in range(10):
        optimizer.step(FullBatch([batches[0]], loss), whole)
    assert optimizer.last.gradient_norm < 1e-8
    design = torch.cat([rows, torch.ones(32, 1, dtype=torch.float64)], 1)
    exact = torch.linalg.lstsq(design, targets).solution.flatten()
    found = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    torch.testing.assert_close(found, exact, atol=1e-7, rtol=0)


def test_adam_sees_other_frozen_masks_at_every_step():
    layer, weight = nn.Dropout(0.5), nn.Parameter(torch.ones(64, dtype=torch.float64))
    objective = FullBatch(
        [torch.ones(1, 64).double()],
        lambda rows: (layer(rows) * weight).mean(),
        model=layer,
        dropout="frozen",
    )
    optimizer = AdamThenCG([weight], lr=0.0)
    assert len({optimizer.step(objective) for _ in range(4)}) > 1


@pytest.mark.parametrize("interrupted_after", [3, 9, 14])
def test_an_interrupted_run_is_resumed_bit_for_bit(interrupted_after):
    def run(optimizer, x, steps):
        return [optimizer.step(closure_of(x)) for _ in range(steps)]

    def build(x):
        return AdamThenCG([x], lr=0.01, window=4, threshold=0.5)

    straight, first = parameter(), parameter()
    expected = run(build(straight), straight, 20)
    begun = build(first)
    values = run(begun, first, interrupted_after)
    file = io.BytesIO()
    torch.save({"x": first.detach(), "optimizer": begun.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = nn.Parameter(saved["x"])
    resumed = build(second)
    resumed.load_state_dict(saved["optimizer"])
    values += run(resumed, second, 20 - interrupted_after)
    assert values == expected
    assert torch.equal(second, straight)
    assert resumed.is_conjugate


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_schedule_sets_adams_rate(is_resumed):
    x = parameter()
    optimizer = AdamThenCG([x], lr=0.1)
    optimizer.step(closure_of(x))
    if is_resumed:
        state = optimizer.state_dict()
        optimizer = AdamThenCG([x], lr=0.1)
        optimizer.load_state_dict(state)
    optimizer.param_groups[0]["lr"] = 0.0
    before = x.detach().clone()
    optimizer.step(closure_of(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_added_parameters_are_trained_by_both(is_resumed):
    x, y = parameter(), parameter()
    optimizer = AdamThenCG([x], lr=1e-3, window=1, threshold=10.0)
    if is_resumed:
        optimizer.load_state_dict(optimizer.state_dict())
    optimizer.add_param_group({"params": [y], "lr": 2e-3})

    def closure():
        loss = fun(x) + fun(y)
        loss.backward()
        return loss

    start = y.detach().clone()
    optimizer.step(closure)
    by_adam = y.detach().clone()
    assert not torch.equal(by_adam, start)
    optimizer.step(closure)
    assert optimizer.is_conjugate
    by_adam = y.detach().clone()
    optimizer.step(closure)
    assert not torch.equal(y, by_adam)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window must be a whole number, 1 or more, not 0"),
        ({"threshold": -0.1}, "threshold must be 0 or more, not -0.1"),
        ({"memory": -1}, "memory must be a whole number, 0 or more, not -1"),
        ({"lr": -1.0}, "lr must be 0 or more, not -1.0"),
        ({"weight_decay": "0"}, "weight_decay must be 0 or more, not '0'"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        AdamThenCG([parameter()], **arguments)
    assert str(error.value) == message


def test_a_parameter_that_cannot_be_optimized_is_refused_before_the_first_step():
    with pytest.raises(
        ConfigError, match=r"^parameter 0 of shape \[2\] is complex64; these method"
    ):
        AdamThenCG([nn.Parameter(torch.ones(2, dtype=torch.complex64))])


def step_once(optimizer):
    (x,) = optimizer.param_groups[0]["params"]

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def test_hooks_around_a_state_are_called_and_may_change_it():
    optimizer, called = AdamThenCG([parameter()]), []
    optimizer.register_state_dict_pre_hook(lambda _: called.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "run": 7})
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: called.append(saved["run"]))
    optimizer.register_load_state_dict_post_hook(lambda _: called.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert called == ["before saving", 7, "loaded"]


def test_a_state_that_is_loaded_is_apart_from_the_one_it_came_from():
    source, target = AdamThenCG([parameter()]), AdamThenCG([parameter()])
    step_once(source)
    target.load_state_dict(source.state_dict())
    before = copy.deepcopy(source.state_dict()["adam"])
    step_once(target)
    torch.testing.assert_close(source.state_dict()["adam"], before, rtol=0, atol=0)
