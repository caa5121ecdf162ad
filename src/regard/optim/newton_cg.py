"""Newton-CG, or Hessian-free optimization (Martens 2010): Newton steps by conjugate gradient.

A step minimises the model g.p + p.A p / 2, A the Hessian or the Gauss-Newton matrix, which are only
multiplied with vectors. The inner iteration ends at a residual of min(1/2, sqrt(|g| / |g_0|)) of
the gradient (Nocedal & Wright 2006, section 7.1) or, with the Gauss-Newton matrix, where the model
hardly decreases (Martens 2010, section 4.4), and is kept from going too far by a trust region
(Steihaug 1983) or by damping, A + lambda I (Levenberg 1944; Marquardt 1963). With damping it begins
at the last step, as Martens and Sutskever (2012) do, but at the model's minimum along it in place
of a fixed share, and half of the gradient may remain, or more after 20 products (a part of the data
may not tell how to go on): what is left to do is taken up by the next step. Then a line search
along p takes the place of solving anew with a smaller region (Nocedal & Yuan 1998).

Cost of a step: about one evaluation and one product an inner iteration; nine vectors of n entries.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.curvature.linear_cg import RelativeProgress, TrustRegionStep, steihaug
from regard.optim.line_search import HagerZhang
from regard.optim.line_search.base import Found
from regard.optim.line_search_optimizer import RETRY_LOOSENESS, Deterministic, StepReport
from regard.optim.objectives.objective import ClosureObjective, Objective
from regard.optim.preconditioners import Precondition, preconditioner_named

Curvature = Literal["gauss-newton", "hessian"]
Region = Literal["trust-region", "levenberg-marquardt"]

_LOOSEST = 0.5  # residual of the inner iteration, and the only one with damping
_POOR, _GOOD = 0.25, 0.75  # reduction ratios (Nocedal & Wright, algorithm 4.1)
_MOST_PRODUCTS: dict[Region, int] = {"trust-region": 250, "levenberg-marquardt": 20}
_DAMPING_RISE = 1.5  # Martens 2010, section 4.1
_DAMPING_FALL = 3.0  # the fastest of Nielsen 1999, "Damping parameter in Marquardt's method"


@runtime_checkable
class Sampled(Protocol):
    """An objective that can compute products over a fixed part of its data."""

    curvature_fraction: float


class NewtonCG(Deterministic):
    """Newton-CG.

    Args:
        params: Parameters or groups.
        curvature: gauss-newton (positive semi-definite; needs an objective that tells outputs from
            loss) or hessian.
        region: trust-region or levenberg-marquardt.
        radius: First radius of the trust region; none begins without one.
        damping: First lambda, above 0; levenberg-marquardt only.
        preconditioner: As for `ConjugateGradient`.
        curvature_fraction: Share of the data that products are computed over, above 0 to 1; none
            leaves it to the objective.
        max_iterations: Products of a step at most; none allows 250, or 20 with damping.
        checks_noise: Evaluate the first point twice and refuse an objective that differs.

    Raises:
        ConfigError: An argument is unknown or out of range, or a parameter cannot be optimized.
    """

    def __init__(
        self,
        params: Any,
        *,
        curvature: Curvature = "gauss-newton",
        region: Region = "trust-region",
        radius: float | None = None,
        damping: float = 1.0,
        preconditioner: Literal["adam"] | Precondition | None = None,
        curvature_fraction: float | None = None,
        max_iterations: int | None = None,
        checks_noise: bool = True,
    ) -> None:
        super().__init__(params, {}, checks_noise=checks_noise)
        _require("curvature", curvature, ("gauss-newton", "hessian"))
        _require("region", region, ("trust-region", "levenberg-marquardt"))
        for name, value in (("radius", radius), ("damping", damping)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, not {value}")
        if curvature_fraction is not None and not 0 < curvature_fraction <= 1:
            raise ConfigError(
                f"curvature_fraction must be above 0 and at most 1, not {curvature_fraction}"
            )
        if max_iterations is not None and max_iterations < 1:
            raise ConfigError(f"max_iterations must be 1 or more, not {max_iterations}")
        if self._vector.is_sharded:
            raise ConfigError(
                "NewtonCG takes no sharded parameters (FSDP): products would need every "
                "parameter whole.  Use DistributedDataParallel's replication, or ConjugateGradient."
            )
        self._curvature, self._region = curvature, region
        self._first_radius = math.inf if radius is None else radius
        self._first_damping = damping if region == "levenberg-marquardt" else 0.0
        self._preconditioner = preconditioner_named(preconditioner)
        self._fraction = curvature_fraction
        self._max_iterations = max_iterations or _MOST_PRODUCTS[region]

    def _advance(self, objective: Objective) -> StepReport:
        self._prepare(objective)
        state = self._state
        found_step = self._solve(objective)
        state["direction"] = found_step.step
        if not math.isfinite(found_step.model):
            return StepReport(failure="a product with the curvature is not finite")
        if not self._vector.dot(self._gradient, found_step.step) < 0:
            return StepReport(failure="the step of the model does not descend")
        before = self._value
        found = self._descend(objective, HagerZhang(), 1.0)
        if found.point is None:
            torch.neg(self._gradient, out=state["direction"])
            found = self._descend(
                objective, HagerZhang(), self._short(found_step), looseness=RETRY_LOOSENESS
            )
        ratio = self._reduction(found, found_step, before)
        self._adapt(found, found_step, ratio)
        return StepReport(
            step=found.point.step if found.point is not None else 0.0,
            damping=state["damping"] if self._first_damping else state["radius"],
            reduction_ratio=ratio,
            negative_curvature=found_step.negative_curvature,
            failure=found.failure if found.point is None else "",
        )

    def _forget(self) -> None:
        self._state.update(radius=self._first_radius, damping=self._first_damping)
        self._state.pop("direction", None)

    def _abandon(self) -> None:
        """Keep radius and damping, which only the end of a step changes."""

    def _prepare(self, objective: Objective) -> None:
        state = self._state
        if isinstance(objective, ClosureObjective):
            raise ConfigError(
                "NewtonCG needs products with the curvature, which a closure cannot give.  Pass "
                "FullBatch(loader, loss)."
            )
        if self._fraction is not None and isinstance(objective, Sampled):
            objective.curvature_fraction = self._fraction
        elif self._fraction is not None and self._fraction < 1:
            raise ConfigError(
                f"curvature_fraction={self._fraction} needs an objective with parts, such as "
                "FullBatch; this one is always evaluated whole."
            )
        if "radius" not in state:
            state.update(num_stiff=0, first_norm=self._vector.norm(self._gradient))
            self._forget()
        if state.pop("has_failed", False):
            self._evaluate(objective, self._gradient)
        self._preconditioner.see(self._gradient, state, self._vector.largest)

    def _solve(self, objective: Objective) -> TrustRegionStep:
        """Minimise the model."""
        state, vector = self._state, self._vector
        product = objective.hessian if self._curvature == "hessian" else objective.gauss_newton

        def times(along: Tensor) -> Tensor:
            self.counts.products += 1
            image = vector.joined(product(vector.scaled(along)), vector.new())
            return image.add_(along, alpha=state["damping"]) if state["damping"] else image

        norm = vector.norm(self._gradient)
        share = math.sqrt(norm / state["first_norm"]) if state["first_norm"] else 0.0
        is_damped = self._first_damping > 0
        return steihaug(
            times,
            self._gradient,
            math.inf if is_damped else state["radius"],
            initial=state.get("direction") if is_damped else None,
            preconditioner=self._preconditioner.apply,
            tolerance=_LOOSEST if is_damped else min(_LOOSEST, share),
            max_iterations=self._max_iterations,
            stop=RelativeProgress() if self._curvature == "gauss-newton" else None,
            dot=vector.dot,
        )

    def _short(self, found: TrustRegionStep) -> float:
        """Return a first step downhill that is shorter than the one that failed."""
        square = self._vector.dot(self._gradient, self._gradient)
        return min(1.0, abs(found.model) / square) if square else 1.0

    def _reduction(self, found: Found, step: TrustRegionStep, before: float) -> float:
        """Compare the decrease of the objective with the model's along the direction."""
        if found.point is None:
            return -math.inf
        if self._state["is_flat"]:
            return 1.0
        slope, length = self._state["slope"], found.point.step
        bend = 2 * (step.model - slope)  # p.A p
        predicted = length * slope + 0.5 * length**2 * bend
        return (self._value - before) / predicted if predicted < 0 else 0.0

    def _adapt(self, found: Found, step: TrustRegionStep, ratio: float) -> None:
        state = self._state
        if found.point is None:
            state["has_failed"] = True
            state["radius"] = 0.1 * min(step.norm, state["radius"])
            state["damping"] *= 10
            return
        norm = step.norm * found.point.step
        if found.point.step < 1 or ratio < _POOR:
            state["radius"] = max(0.25 * step.norm, norm) if found.point.step < 1 else 0.5 * norm
        elif ratio > _GOOD and step.is_on_boundary:
            state["radius"] = max(state["radius"], 2 * norm) if step.norm else state["radius"]
        if ratio < _POOR:
            state["damping"] *= _DAMPING_RISE
        elif ratio > _GOOD:
            state["damping"] /= _DAMPING_FALL


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}.  One of: {', '.join(allowed)}")
