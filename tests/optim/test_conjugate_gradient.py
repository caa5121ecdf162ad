"""Conjugate gradient: betas by hand, the quadratic case, descent, restarts, memory, scales."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from regard.errors import ConfigError
from regard.optim import ConjugateGradient, minimize
from regard.optim.cg_updates import CG_UPDATES, InnerProducts
from regard.optim.line_search import HagerZhang
from regard.optim.line_search.trial import LineSearchResult
from regard.optim.preconditioners import AdamDiagonal


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def positive(size, *, condition=30.0, seed=0):
    """Draw a symmetric positive matrix."""
    basis = torch.linalg.qr(draw(size, size, seed=seed))[0]
    spectrum = torch.logspace(0, 1, size, base=condition, dtype=torch.float64)
    return basis @ torch.diag(spectrum) @ basis.T


def quadratic(matrix, linear):
    """Build a parameter at zero and its closure."""
    x = torch.nn.Parameter(torch.zeros(len(linear), dtype=torch.float64))

    def closure():
        loss = 0.5 * x @ matrix @ x - linear @ x
        loss.backward()
        return loss

    return x, closure


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(fun, *tensors):
    def closure():
        loss = fun(*tensors)
        loss.backward()
        return loss

    return closure


def exact(function, state):
    """Go to the minimum along a line on which the slope is linear."""
    trial = function.sample(state.step_size)
    root = state.step_size * state.origin.slope / (state.origin.slope - trial.slope)
    return LineSearchResult(function.sample(root))


class Recorded:
    """A search that notes the gradient, the direction and the product with it at each start."""

    def __init__(self, search):
        self._search, self.optimizer, self.slopes, self.directions = search, None, [], []
        self.gradients = []

    def __call__(self, function, state):
        memory = self.optimizer._state
        self.slopes.append(state.origin.slope)
        self.directions.append(memory["direction"].clone())
        self.gradients.append(memory["gradient"].clone())
        return self._search(function, state)


def recorded(params, search=None, **others):
    search = Recorded(search or HagerZhang())
    search.optimizer = ConjugateGradient(params, search=search, **others)
    return search.optimizer, search


def by_hand(name, g, new, d):
    """Compute beta with NumPy's eyes: textbook formulas on vectors."""
    y = new - g
    if name == "hager-zhang":
        conjugate = ((y - 2 * d * 0.5 * (y @ y) / (d @ y)) @ new) / (d @ y)
        return max(float(conjugate), float(0.4 * (d @ g) / (d @ d)))
    if name == "polak-ribiere+":
        return max(0.0, float(new @ y / (g @ g)))
    if name == "fletcher-reeves":
        return float(new @ new / (g @ g))
    if name == "hestenes-stiefel":
        return float(new @ y / (d @ y))
    return float(new @ new / (d @ y))


@pytest.mark.parametrize("name", CG_UPDATES)
def test_each_beta_is_its_formula(name):
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.3], dtype=torch.float64))
    optimizer, search = recorded([x], beta=name)
    num_compared = 0
    for _ in range(12):
        optimizer.step(closure_of(rosenbrock, x))
        if optimizer.last.restart_reason or len(search.directions) < 2:
            continue
        (g, new), (d, turned) = search.gradients[-2:], search.directions[-2:]
        beta = by_hand(name, g, new, d)
        assert optimizer.last.beta == pytest.approx(beta, rel=1e-9, abs=1e-12)
        torch.testing.assert_close(turned, -new + beta * d, rtol=1e-9, atol=1e-9)
        num_compared += 1
    assert num_compared >= 5


def test_hager_zhang_is_kept_above_its_bound():
    products = InnerProducts(
        y_pg=-4.0, y_py=1.0, d_y=1.0, d_new=0.0, d_old=-2.0, d_d=4.0, new_square=1.0, old_square=1.0
    )
    assert CG_UPDATES["hager-zhang"](products) == pytest.approx(0.4 * -2.0 / 4.0)


def test_polak_ribiere_is_not_negative():
    products = InnerProducts(
        y_pg=-4.0, y_py=1.0, d_y=1.0, d_new=0.0, d_old=-2.0, d_d=4.0, new_square=1.0, old_square=1.0
    )
    assert CG_UPDATES["polak-ribiere+"](products) == 0.0


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", CG_UPDATES)
def test_a_quadratic_is_finished_in_as_many_exact_steps_as_it_has_variables(name, size):
    matrix, linear = positive(size), draw(size, seed=1)
    x, closure = quadratic(matrix, linear)
    optimizer = ConjugateGradient([x], beta=name, search=exact)
    for _ in range(size):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.linalg.solve(matrix, linear), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", CG_UPDATES)
def test_all_betas_give_the_iterates_of_linear_conjugate_gradient(name):
    size = 12
    matrix, linear = positive(size), draw(size, seed=1)
    x, closure = quadratic(matrix, linear)
    optimizer = ConjugateGradient([x], beta=name, search=exact, memory=2)
    expected = torch.zeros_like(linear)
    residual = linear.clone()
    direction = residual.clone()
    for _ in range(size):
        optimizer.step(closure)
        length = residual @ residual / (direction @ matrix @ direction)
        expected = expected + length * direction
        left = residual - length * (matrix @ direction)
        direction = left + (left @ left) / (residual @ residual) * direction
        residual = left
        # Two orders of operations drift apart as conjugacy is lost, by the condition number.
        torch.testing.assert_close(x.detach(), expected, atol=1e-9, rtol=0)


def test_a_quadratic_preconditioned_by_its_inverse_is_finished_in_one_step():
    matrix, linear = positive(6), draw(6, seed=1)
    x, closure = quadratic(matrix, linear)
    inverse = torch.linalg.inv(matrix)
    optimizer = ConjugateGradient([x], search=exact, preconditioner=inverse.mv)
    optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.linalg.solve(matrix, linear), atol=1e-10, rtol=0)


def substituted(fun, name, search, seed):
    """Run with P = S S^T in x, and without in y, x = S y; return points and betas of both.

    Both begin at zero, where the first step follows from value and slope, not from the size of x.
    """
    basis = draw(6, 6, seed=seed) + 3 * torch.eye(6, dtype=torch.float64)
    x, y = (torch.nn.Parameter(torch.zeros(6, dtype=torch.float64)) for _ in range(2))
    matrix = basis @ basis.T
    there = ConjugateGradient([x], beta=name, search=search, preconditioner=matrix.mv)
    here = ConjugateGradient([y], beta=name, search=search)
    points, betas = [], []
    for _ in range(10):
        there.step(closure_of(fun, x))
        here.step(closure_of(lambda y: fun(basis @ y), y))
        points.append((x.detach().clone(), basis @ y.detach()))
        betas.append((there.last.beta, here.last.beta))
    return points, betas


def shifted_rosenbrock(x):
    return rosenbrock(x + torch.tensor([-1.2, 1.0] * 3, dtype=torch.float64))


def waves(x):
    return torch.cos(draw(8, 6, seed=53) @ x + 1).sum() + 0.05 * x @ x


def unit_fall(function, state):
    """Go as far as the slope promises a fall of 1."""
    return LineSearchResult(function.sample(-1 / state.origin.slope))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("search", ["hager-zhang", "strong-wolfe", "armijo"])
@pytest.mark.parametrize("name", CG_UPDATES)
def test_a_preconditioner_is_a_substitution_of_variables(name, search, seed):
    points, betas = substituted(shifted_rosenbrock, name, search, seed)
    for one, other in points:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    for one, other in betas:
        assert one == pytest.approx(other, rel=1e-7, abs=1e-7)


def test_a_preconditioner_is_a_substitution_where_beta_is_at_its_bound(monkeypatch):
    points, betas = substituted(waves, "hager-zhang", unit_fall, 3)
    for one, other in points:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    monkeypatch.setattr("regard.optim.cg_updates._ETA", 1e9)
    assert substituted(waves, "hager-zhang", unit_fall, 3)[1] != betas


def test_a_step_interrupted_after_its_search_is_undone_exactly():
    calls = []

    def precondition(vector):
        calls.append(1)
        if len(calls) == 2:  # the direction's; then what the search found is learnt from
            raise KeyboardInterrupt
        return 2 * vector

    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer = ConjugateGradient([x], preconditioner=precondition)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure_of(rosenbrock, x))
    assert x.tolist() == [-1.2, 1.0]
    assert optimizer.step(closure_of(rosenbrock, x)) < 24.2
    assert optimizer.last.restart_reason == "the previous step was interrupted"


@pytest.mark.parametrize("memory", [0, 5])
@pytest.mark.parametrize("seed", range(4))
def test_every_hager_zhang_direction_descends_by_three_quarters_of_the_square(memory, seed):
    """Hager & Zhang 2013, theorem 2.1: 1 - 1 / (4 theta), whatever the search."""
    x = torch.nn.Parameter(draw(8, seed=seed))
    optimizer, search = recorded([x], memory=memory)
    for _ in range(40):
        optimizer.step(closure_of(rosenbrock, x))
        if not optimizer._state["is_quasi_newton"]:
            square = float(search.gradients[-1] @ search.gradients[-1])
            assert search.slopes[-1] <= -0.75 * square * (1 - 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("search", ["hager-zhang", "strong-wolfe"])
@pytest.mark.parametrize("name", CG_UPDATES)
def test_every_beta_with_either_search_reaches_the_minimum(name, search):
    found = minimize(
        rosenbrock,
        torch.tensor([-1.2, 1.0, -1.2, 1.0], dtype=torch.float64),
        method=lambda x: ConjugateGradient(x, beta=name, search=search, checks_noise=False),
    )
    assert found.success


def test_the_first_direction_is_the_steepest_descent_and_says_so():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer, search = recorded([x])
    optimizer.step(closure_of(rosenbrock, x))
    assert optimizer.last.restart_reason == "first step"
    assert optimizer.last.beta == 0.0
    assert torch.equal(search.directions[0], -search.gradients[0])


def test_six_steps_on_a_quadratic_make_it_restart():
    matrix, linear = positive(40), draw(40, seed=1)
    x, closure = quadratic(matrix, linear)
    optimizer = ConjugateGradient([x])
    reasons = []
    for _ in range(9):
        optimizer.step(closure)
        reasons.append(optimizer.last.restart_reason)
    assert reasons[1:].count("the function has become nearly quadratic") == 1


def test_a_hundred_steps_make_it_restart():
    x = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    optimizer = ConjugateGradient([x], search=_creep)
    reasons = []
    for _ in range(102):
        optimizer.step(closure_of(lambda x: torch.log(torch.cosh(x)).sum(), x))
        optimizer._state["num_quadratic"] = 10  # past the restart that a quadratic brings
        reasons.append(optimizer.last.restart_reason)
    assert reasons == ["first step", *[""] * 99, "many steps since the last restart", ""]


def _creep(function, state):
    """Take a step so short that nothing is reached."""
    return LineSearchResult(function.sample(1e-6))


def test_the_last_step_is_reported():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    calls = []

    def closure():
        calls.append(1)
        return closure_of(rosenbrock, x)()

    optimizer = ConjugateGradient([x])
    for _ in range(5):
        calls.clear()
        value = optimizer.step(closure)
        last = optimizer.last
        assert value == last.value == float(rosenbrock(x.detach()))
        (gradient,) = torch.autograd.grad(rosenbrock(x), x)
        assert last.gradient_norm == pytest.approx(float(gradient.abs().max()), rel=1e-12)
        assert last.evaluations == len(calls)
        assert last.step_size > 0
        assert last.failure == ""
    assert optimizer.counts.gradients + optimizer.counts.values >= 5


def test_a_zero_gradient_is_a_failure_that_leaves_the_parameters():
    x = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = ConjugateGradient([x])
    assert optimizer.step(closure_of(rosenbrock, x)) == 0.0
    assert x.tolist() == [1.0, 1.0]
    assert optimizer.last.failure == "the gradient is zero"


def test_a_step_onto_the_minimum_itself_is_followed_by_steps_that_stay():
    x = torch.nn.Parameter(torch.tensor([2.0, 2.0], dtype=torch.float64))
    optimizer = ConjugateGradient([x], search=exact)
    for _ in range(4):
        optimizer.step(closure_of(lambda x: (x * x).sum(), x))
    assert x.tolist() == [0.0, 0.0]
    assert optimizer.last.failure == "the gradient is zero"


def test_a_gradient_that_is_not_finite_is_a_failure_that_leaves_the_parameters():
    x = torch.nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.float64))
    optimizer = ConjugateGradient([x])
    optimizer.step(closure_of(lambda x: (x**2).sqrt().sum(), x))
    assert x.tolist() == [0.0, 1.0]
    assert optimizer.last.failure == "the gradient is not finite"


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("preconditioner", [None, "adam"])
def test_a_group_with_a_scale_equals_a_substitution_of_variables(memory, preconditioner):
    """Scales are powers of two, so that the substitution is exact to the bit."""
    first, second = draw(3), draw(2, seed=1)
    scales = (4.0, 0.5)

    def fun(a, b):
        return rosenbrock(torch.cat([a, b]))

    a, b = torch.nn.Parameter(first.clone()), torch.nn.Parameter(second.clone())
    groups = [{"params": [a], "scale": scales[0]}, {"params": [b], "scale": scales[1]}]
    scaled = ConjugateGradient(groups, memory=memory, preconditioner=preconditioner)
    u, v = torch.nn.Parameter(first / scales[0]), torch.nn.Parameter(second / scales[1])
    plain = ConjugateGradient([u, v], memory=memory, preconditioner=preconditioner)
    for _ in range(15):
        scaled.step(closure_of(fun, a, b))
        plain.step(closure_of(lambda u, v: fun(u * scales[0], v * scales[1]), u, v))
        assert torch.equal(a, u * scales[0])
        assert torch.equal(b, v * scales[1])


def test_adams_diagonal_is_the_inverse_of_its_denominator():
    preconditioner, state = AdamDiagonal(decay=0.9, epsilon=1e-3), {}
    first, second = draw(5, seed=1), draw(5, seed=2)
    for gradient in (first, second):
        preconditioner.update(gradient, state, torch.max)
    weights = draw(5, seed=3)
    mean = (0.9 * 0.1 * first**2 + 0.1 * second**2) / (1 - 0.9**2)
    expected = weights / (mean.sqrt() + 1e-3 * mean.sqrt().max())
    torch.testing.assert_close(preconditioner.apply(weights), expected)


@pytest.mark.slow
def test_adams_diagonal_needs_fewer_steps_where_variables_have_different_sizes():
    sizes = torch.logspace(0, 1.5, 10).double()

    def count(preconditioner):
        return minimize(
            lambda x: torch.sqrt(1 + (sizes * (x - 1)) ** 2).sum(),
            torch.zeros(10, dtype=torch.float64),
            method=lambda x: ConjugateGradient(
                x, preconditioner=preconditioner, checks_noise=False
            ),
        )

    with_adam, without = count("adam"), count(None)
    assert with_adam.success
    assert 2 * with_adam.ngev < without.ngev


class LargestUse(TorchDispatchMode):
    """The most bytes that tensors made under it held at one time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata not in known | self._known and storage.nbytes():
                self._add(storage)
        return out

    def _add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key, size):
        self._known.discard(key)
        self.now -= size


def _is_tensor(value):
    return isinstance(value, torch.Tensor)


class Bowl:
    """Half the square of the distance to ones, weighted, in blocks: makes no vector itself."""

    def __init__(self, x):
        self._x = x
        x.grad = torch.zeros_like(x)

    def value(self):
        return self._pass(0)

    def gradient(self):
        return self._pass(1)

    def _pass(self, writes):
        total = 0.0
        for number, (x, slope) in enumerate(
            zip(self._x.detach().split(1000), self._x.grad.split(1000), strict=True)
        ):
            weight, left = 1.0 + number, x - 1
            total += 0.5 * weight * float(left @ left) + 0.25 * float((left**4).sum())
            if writes:
                slope.copy_(weight * left + left**3)
        return total

    def hessian(self, vector):
        raise NotImplementedError

    def gauss_newton(self, vector):
        raise NotImplementedError


def vectors_held(optimizer, size):
    """Count in vectors of the parameters' size what state and buffers hold."""
    tensors = tree_leaves((dict(optimizer.state), optimizer._buffers))
    found = [t for t in tensors if _is_tensor(t) and t.numel() >= size]  # not of pairs alone
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in found}
    return sum(storages.values()) / (size * found[0].element_size())


def test_without_memory_four_vectors_are_held():
    x = torch.nn.Parameter(draw(50_000))
    optimizer = ConjugateGradient([x], memory=0)
    objective = Bowl(x)
    for _ in range(10):
        optimizer.step(objective)
    assert vectors_held(optimizer, x.numel()) == 4


def test_with_memory_two_more_vectors_are_held_for_each_step():
    x = torch.nn.Parameter(draw(50_000))
    optimizer = ConjugateGradient([x], memory=3)
    for _ in range(6):
        optimizer.step(Bowl(x))
    assert vectors_held(optimizer, x.numel()) == 4 + 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize("beta", CG_UPDATES)
def test_at_no_time_are_there_more_than_four_vectors(beta):
    x = torch.nn.Parameter(draw(50_000))
    objective = Bowl(x)
    optimizer = ConjugateGradient([x], beta=beta, memory=0)
    with LargestUse() as use:
        for _ in range(10):
            optimizer.step(objective)
    vector = x.numel() * x.element_size()
    assert use.peak >= 4 * vector
    assert use.peak < 4.2 * vector


def test_an_unknown_beta_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        ConjugateGradient([torch.nn.Parameter(torch.ones(2))], beta="polak-ribiere")
    assert str(error.value) == (
        "unknown beta 'polak-ribiere'.  One of: hager-zhang, polak-ribiere+, fletcher-reeves, "
        "hestenes-stiefel, dai-yuan"
    )


def test_a_negative_memory_is_refused():
    with pytest.raises(ConfigError, match=r"^memory must be a whole number, 0 or more, not -1$"):
        ConjugateGradient([torch.nn.Parameter(torch.ones(2))], memory=-1)


def test_an_unknown_preconditioner_is_refused():
    with pytest.raises(ConfigError) as error:
        ConjugateGradient([torch.nn.Parameter(torch.ones(2))], preconditioner="diagonal")
    expected = "unknown preconditioner 'diagonal'.  One of: adam, None, or a function"
    assert str(error.value) == expected
