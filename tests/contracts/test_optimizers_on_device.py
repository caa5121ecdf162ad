"""On another device, here a pretended one, methods do what they do on a CPU, and rarely wait."""

from __future__ import annotations

import pytest
import torch
from tests.pretended_gpu import DEVICE, PretendedGpu
from torch import nn

from regard.optim import LBFGS, ConjugateGradient, FullBatch, GradientDescent, NewtonCG, minimize

CLOSURES = {
    "cg": (ConjugateGradient, {}),
    "cg, dai-yuan": (ConjugateGradient, {"beta": "dai-yuan"}),
    "cg with memory and adam": (ConjugateGradient, {"memory": 4, "preconditioner": "adam"}),
    "gradient descent": (GradientDescent, {}),
    "lbfgs": (LBFGS, {"history_size": 4}),
    "lbfgs by hager-zhang": (LBFGS, {"history_size": 4, "search": "hager-zhang"}),
}
OTHERS = {
    "cg with memory": (ConjugateGradient, {"memory": 4}),
    "cg with adam": (ConjugateGradient, {"preconditioner": "adam"}),
    "cg, fletcher-reeves": (ConjugateGradient, {"beta": "fletcher-reeves"}),
    "cg by armijo": (ConjugateGradient, {"search": "armijo"}),
}
OBJECTIVES = {
    "cg of all data": (ConjugateGradient, {}),
    "cg of all data, with adam": (ConjugateGradient, {"memory": 4, "preconditioner": "adam"}),
    "newton-cg": (NewtonCG, {}),
    "newton-cg of the hessian": (NewtonCG, {"curvature": "hessian"}),
    "newton-cg with damping": (NewtonCG, {"region": "levenberg-marquardt"}),
}
EVERY = CLOSURES | OTHERS | OBJECTIVES
NUM_STEPS = 8


class Problem:
    """A small network on a device, its data, and a method."""

    def __init__(self, name, place):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double().to(place)
        inputs, labels = torch.randn(20, 6).double().to(place), torch.arange(20).to(place) % 3
        build, settings = EVERY[name]
        self.optimizer = build(self.model.parameters(), **settings)

        def closure():
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(inputs), labels)
            loss.backward()
            return loss

        self.objective = closure
        if name in OBJECTIVES:
            halves = [(inputs[:10], labels[:10]), (inputs[10:], labels[10:])]
            self.objective = FullBatch(
                halves,
                lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1]),
                outputs=lambda batch: self.model(batch[0]),
            )
            if name.endswith("hessian"):
                self.objective = FullBatch(
                    halves,
                    lambda batch: nn.functional.cross_entropy(self.model(batch[0]), batch[1]),
                )

    def weights(self):
        return torch.cat([p.detach().cpu().reshape(-1) for p in self.model.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_the_weights_are_those_of_the_cpu(name):
    on_cpu = Problem(name, "cpu")
    with PretendedGpu():
        there = Problem(name, DEVICE)
        for _ in range(NUM_STEPS):
            values = [p.optimizer.step(p.objective) for p in (on_cpu, there)]
            assert values[1] == pytest.approx(values[0], rel=1e-6)
            assert there.optimizer.last.failure == on_cpu.optimizer.last.failure
        weights = there.weights()
    torch.testing.assert_close(weights, on_cpu.weights(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CLOSURES)
def test_an_evaluation_waits_for_its_device_once(name):
    """All numbers that decide about the step come with the value."""
    with PretendedGpu() as gpu:
        problem = Problem(name, DEVICE)
        for number in range(NUM_STEPS):
            gpu.waits.clear()
            problem.optimizer.step(problem.objective)
            # The first point is evaluated twice, and sizes are read that guess the first step.
            if number:
                assert len(gpu.waits) == problem.optimizer.last.evaluations, gpu.waits


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_product_waits_once_too(name):
    with PretendedGpu() as gpu:
        problem = Problem(name, DEVICE)
        for number in range(NUM_STEPS):
            gpu.waits.clear()
            problem.optimizer.step(problem.objective)
            last = problem.optimizer.last
            if number:
                # Of Newton-CG three more a step, before and after the inner iteration; two where it
                # begins at the last step, one where it ends at the boundary of its region.
                more = (3, 4, 5) if last.cg_iterations else (0,)
                assert len(gpu.waits) - last.evaluations - last.cg_iterations in more, gpu.waits


@pytest.mark.parametrize("method", ["cg", "lbfgs", "gradient-descent", "newton-cg"])
def test_an_evaluation_of_a_function_waits_once(method):
    """Its value, the size of its gradient and all else that decides are read together."""
    start = torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64)

    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    expected = minimize(rosenbrock, start, method=method, maxiter=12)
    with PretendedGpu() as gpu:
        x = start.to(DEVICE)
        gpu.waits.clear()
        result = minimize(rosenbrock, x, method=method, maxiter=12)
        waits = list(gpu.waits)
    assert (result.nfev, result.nhvp, result.nit) == (expected.nfev, expected.nhvp, expected.nit)
    assert result.fun == pytest.approx(expected.fun, rel=1e-9)
    assert result.grad_norm == pytest.approx(expected.grad_norm, rel=1e-9)
    # Three more for the first step's length; of Newton-CG up to five more a step, as above.
    more = 5 * result.nit if method == "newton-cg" else 3
    assert 0 <= len(waits) - result.nfev - result.nhvp <= more, waits
