"""Newton-CG, or Hessian-free optimization (Martens 2010): Newton steps by conjugate gradient.

A step minimises the model g.p + p.A p / 2, A the Hessian or the Gauss-Newton matrix, which are only
multiplied with vectors. The inner iteration ends at a residual of min(1/2, sqrt(|g| / |g_0|)) of
the gradient (Nocedal & Wright 2006, section 7.1) or, with the Gauss-Newton matrix, where the model
hardly decreases (Martens 2010, section 4.4), and is kept from going too far by a trust region
(Steihaug 1983) or by damping, A + lambda I (Levenberg 1944; Marquardt 1963). With damping it starts
at the last step, as in Martens and Sutskever (2012), but at the model's minimum along it in place
of a fixed fraction, and half of the gradient may remain, or more after 20 products (more of them
would fit the part of the data that they are computed over): the next step continues from there.
Then a line search along p replaces solving again in a smaller region (Nocedal & Yuan 1998).

Cost of a step: about one evaluation and one product an inner iteration; nine vectors of n entries.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from regard.errors import ConfigError
from regard.optim.curvature.linear_cg import RelativeProgress, TrustRegionStep, steihaug
from regard.optim.line_search.hager_zhang import HagerZhang
from regard.optim.line_search.trial import LineSearchResult
from regard.optim.line_search_optimizer import (
    RETRY_SCALE,
    LineSearchOptimizer,
    StepReport,
)
from regard.optim.objective_along_direction import ObjectiveAlongDirection
from regard.optim.objectives.closure import ClosureObjective
from regard.optim.objectives.objective import DeterministicObjective
from regard.optim.preconditioners import Precondition, build_preconditioner
from regard.option_checks import require_number, require_whole

Curvature = Literal["gauss-newton", "hessian"]
Region = Literal["trust-region", "levenberg-marquardt"]

_NEEDED: dict[Curvature, str] = {
    "gauss-newton": (
        "step(FullBatch(batches, lambda outputs, batch: ..., outputs=lambda batch: model(...))): "
        "`outputs` is what the model computes from a batch, such as logits, and the first function "
        "is their loss.  Or take NewtonCG(..., curvature='hessian') and "
        "step(FullBatch(batches, lambda batch: ...))."
    ),
    "hessian": "step(FullBatch(batches, lambda batch: ...)), which is the loss of a batch.",
}
_MAX_RESIDUAL = 0.5  # of the inner iteration, relative; with damping it is the only limit
_POOR, _GOOD = 0.25, 0.75  # reduction ratios (Nocedal & Wright, algorithm 4.1)
_MAX_PRODUCTS: dict[Region, int] = {"trust-region": 250, "levenberg-marquardt": 20}
_DAMPING_RISE = 1.5  # Martens 2010, section 4.1
_DAMPING_FALL = 3.0  # the fastest of Nielsen 1999, "Damping parameter in Marquardt's method"


@runtime_checkable
class SubsampledCurvature(Protocol):
    """An objective that can compute products over a fixed part of its data."""

    curvature_fraction: float
    """The part, above 0 to 1."""


class NewtonCG(LineSearchOptimizer):
    """Newton-CG.

    Args:
        params: Parameters or groups.
        curvature: gauss-newton (positive semi-definite; needs an objective that separates outputs
            and loss) or hessian.
        region: trust-region or levenberg-marquardt.
        radius: First radius of the trust region, above 0; None starts without one.
        damping: First lambda, above 0; levenberg-marquardt only.
        preconditioner: As for `ConjugateGradient`.
        curvature_fraction: Fraction of the data that products are computed over, above 0 to 1;
            None leaves it to the objective.
        max_iterations: Products of a step at most, 1 or more; None allows 250, or 20 with damping.
        checks_noise: Evaluate the first point twice, and the start of a search that failed, and
            refuse an objective that differs.

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
        require_number("damping", damping, "above 0", lambda damping: damping > 0)
        if radius is not None:
            require_number("radius", radius, "above 0", lambda radius: radius > 0)
        if curvature_fraction is not None:
            rule = "above 0 and at most 1"
            require_number("curvature_fraction", curvature_fraction, rule, lambda x: 0 < x <= 1)
        if max_iterations is not None:
            require_whole("max_iterations", max_iterations, 1)
        if self._flat.is_sharded:
            raise ConfigError(
                "NewtonCG takes no sharded parameters (FSDP): products would need every "
                "parameter whole.  Use DistributedDataParallel's replication, or ConjugateGradient."
            )
        self._curvature: Curvature = curvature
        self._first_radius = math.inf if radius is None else radius
        self._first_damping = damping if region == "levenberg-marquardt" else 0.0
        self._preconditioner = build_preconditioner(preconditioner)
        self._fraction = curvature_fraction
        self._max_iterations = max_iterations or _MAX_PRODUCTS[region]

    def _step(self, objective: DeterministicObjective) -> StepReport:
        self._prepare(objective)
        state = self._state
        newton = self._minimize_model(objective)
        state["direction"] = newton.step
        if not math.isfinite(newton.model):
            return StepReport(failure="a product with the curvature is not finite")
        slope = self._flat.dot(self._gradient, newton.step)
        if not slope < 0:
            return StepReport(failure="the step of the model does not descend")
        before = self._value
        function = ObjectiveAlongDirection(self, objective, newton.step, slope)
        result = self._line_search(function, HagerZhang(), 1.0)
        if result.sample is None:
            torch.neg(self._gradient, out=state["direction"])
            square = self._flat.dot(self._gradient, self._gradient)
            shorter = min(1.0, abs(newton.model) / square) if square else 1.0
            function = ObjectiveAlongDirection(self, objective, state["direction"], -square)
            result = self._line_search(function, HagerZhang(), shorter, tolerance_scale=RETRY_SCALE)
        ratio = self._reduction_ratio(result, newton, before)
        self._adapt(result, newton, ratio)
        return StepReport(
            step_size=result.sample.step_size if result.sample is not None else 0.0,
            damping=state["damping"] if self._first_damping else state["radius"],
            reduction_ratio=ratio,
            negative_curvature=newton.negative_curvature,
            failure=result.failure if result.sample is None else "",
        )

    def _on_moved_parameters(self) -> None:
        self._state.update(radius=self._first_radius, damping=self._first_damping)
        self._state.pop("direction", None)

    def _on_interrupt(self) -> None:
        """Keep radius and damping, which only the end of a step changes."""

    def _prepare(self, objective: DeterministicObjective) -> None:
        state = self._state
        if isinstance(objective, ClosureObjective):
            raise ConfigError(
                "NewtonCG needs products with the curvature, which a closure cannot give.  "
                + _NEEDED[self._curvature]
            )
        if self._fraction is not None and isinstance(objective, SubsampledCurvature):
            objective.curvature_fraction = self._fraction
        elif self._fraction is not None and self._fraction < 1:
            raise ConfigError(
                f"curvature_fraction={self._fraction} needs an objective with parts, such as "
                "FullBatch; this one is always evaluated whole."
            )
        if "radius" not in state:
            state.update(num_stiff_steps=0, first_norm=self._flat.norm(self._gradient))
            self._on_moved_parameters()
        if state.pop("has_failed", False):
            self._evaluate(objective, self._gradient)
        self._preconditioner.update(self._gradient, state, self._flat.largest)

    def _minimize_model(self, objective: DeterministicObjective) -> TrustRegionStep:
        state, flat = self._state, self._flat
        product = objective.hessian if self._curvature == "hessian" else objective.gauss_newton

        def matvec(vector: Tensor) -> Tensor:
            self.counts.products += 1
            image = flat.flatten(product(flat.unflatten(vector)), flat.zeros())
            return image.add_(vector, alpha=state["damping"]) if state["damping"] else image

        norm = flat.norm(self._gradient)
        residual = math.sqrt(norm / state["first_norm"]) if state["first_norm"] else 0.0
        is_damped = self._first_damping > 0
        return steihaug(
            matvec,
            self._gradient,
            math.inf if is_damped else state["radius"],
            x0=state.get("direction") if is_damped else None,
            preconditioner=self._preconditioner.apply,
            rtol=_MAX_RESIDUAL if is_damped else min(_MAX_RESIDUAL, residual),
            max_iterations=self._max_iterations,
            stop=RelativeProgress() if self._curvature == "gauss-newton" else None,
            inner=flat.product,
        )

    def _reduction_ratio(
        self, result: LineSearchResult, newton: TrustRegionStep, before: float
    ) -> float:
        """Return the decrease of the objective over the model's along the direction."""
        if result.sample is None:
            return -math.inf
        if self._state["is_stagnating"]:
            return 1.0
        slope, alpha = self._state["slope"], result.sample.step_size
        p_ap = 2 * (newton.model - slope)  # p.A p
        predicted = alpha * slope + 0.5 * alpha * alpha * p_ap
        return (self._value - before) / predicted if predicted < 0 else 0.0

    def _adapt(self, result: LineSearchResult, newton: TrustRegionStep, ratio: float) -> None:
        """Set radius and damping of the next step (Nocedal & Wright, algorithm 4.1)."""
        state = self._state
        if result.sample is None:
            state["has_failed"] = True
            state["radius"] = 0.1 * min(newton.norm, state["radius"])
            state["damping"] *= 10
            return
        alpha = result.sample.step_size
        norm = newton.norm * alpha
        if alpha < 1 or ratio < _POOR:
            state["radius"] = max(0.25 * newton.norm, norm) if alpha < 1 else 0.5 * norm
        elif ratio > _GOOD and newton.is_on_boundary:
            state["radius"] = max(state["radius"], 2 * norm) if newton.norm else state["radius"]
        if ratio < _POOR:
            state["damping"] *= _DAMPING_RISE
        elif ratio > _GOOD:
            state["damping"] /= _DAMPING_FALL


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}.  One of: {', '.join(allowed)}")
