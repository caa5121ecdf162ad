"""Adam while it learns, conjugate gradient for the end.

Adam (Kingma & Ba 2015; decoupled weight decay: Loshchilov & Hutter 2019) makes way on noisy
batches; conjugate gradient finishes on the whole data set, without a learning rate. The change
comes where the loss has stopped to fall (`regard.optim.plateau`).
"""

from __future__ import annotations

from typing import Any

import torch

from regard.optim.conjugate_gradient import ConjugateGradient
from regard.optim.line_search_optimizer import StepReport
from regard.optim.objectives.objective import Closure, Objective, Prepared, scalar
from regard.optim.plateau import Plateau


class AdamThenCG(torch.optim.Optimizer):
    """AdamW, then `ConjugateGradient`.

    Args:
        params: Parameters or groups; `ConjugateGradient` minds their ``scale``.
        lr: Adam's learning rate, above 0.
        betas: Adam's decays.
        weight_decay: Adam's, decoupled; conjugate gradient has none.
        window: Losses in a mean, 1 or more.
        threshold: Least decrease from mean to mean, relative, 0 or more.
        memory: Steps that conjugate gradient remembers.

    Raises:
        ConfigError: An argument is out of range, or a parameter cannot be optimized.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        window: int = 50,
        threshold: float = 1e-2,
        memory: int = 11,
    ) -> None:
        self._plateau = Plateau(window, threshold)
        super().__init__(params, {"lr": lr})
        self._adam = torch.optim.AdamW(
            self.param_groups, lr=lr, betas=betas, weight_decay=weight_decay
        )
        self._cg = ConjugateGradient(map(_scaled, self.param_groups), memory=memory)
        self.is_conjugate = False
        self.last = StepReport()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; what conjugate gradient knew is forgotten."""
        super().add_param_group(param_group)
        if hasattr(self, "_cg"):
            self._adam.add_param_group(self.param_groups[-1])
            self._cg.add_param_group(_scaled(self.param_groups[-1]))

    def step(  # type: ignore[override] - a closure is required
        self, closure: Closure | Objective, full_batch: Closure | Objective | None = None
    ) -> float:
        """Take one step.

        Args:
            closure: Computes loss and gradients; on a mini-batch, if you like, where `full_batch`
                is given.
            full_batch: What conjugate gradient minimises; none is `closure`.

        Returns:
            Adam: the loss before the step. Conjugate gradient: the value after it.
        """
        if self.is_conjugate:
            value = self._cg.step(closure if full_batch is None else full_batch)
            self.last = self._cg.last
            return value
        self.zero_grad()
        with torch.enable_grad():
            value = self._evaluate(closure)
        self._adam.step()
        self.last = StepReport(value=value, evaluations=1)
        self._plateau.add(value)
        self.is_conjugate = self._plateau.is_reached
        return value

    def _evaluate(self, closure: Closure | Objective) -> float:
        """Compute the loss and the gradients."""
        if not isinstance(closure, Objective):
            return scalar(closure())
        if isinstance(closure, Prepared):
            closure.bind([p for group in self.param_groups for p in group["params"]])
            closure.begin_step()
        return closure.gradient()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both and where the run stands."""
        return {
            "adam": self._adam.state_dict(),
            "cg": self._cg.state_dict(),
            "losses": list(self._plateau.losses),
            "is_conjugate": self.is_conjugate,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state."""
        self._adam.load_state_dict(state_dict["adam"])
        self.param_groups = list(self._adam.param_groups)  # a schedule sets the rate there
        self._cg.load_state_dict(state_dict["cg"])
        self._plateau.losses = list(state_dict["losses"])
        self.is_conjugate = state_dict["is_conjugate"]


def _scaled(group: dict[str, Any]) -> dict[str, Any]:
    """Return what conjugate gradient wants to know of a group."""
    return {"params": group["params"], "scale": group.get("scale", 1.0)}
