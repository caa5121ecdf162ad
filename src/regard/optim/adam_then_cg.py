"""Adam while it learns, conjugate gradient for the end.

Adam (Kingma & Ba 2015; decoupled weight decay: Loshchilov & Hutter 2019) is fast on noisy batches;
conjugate gradient finishes on the whole data set, without a learning rate. It takes over where the
loss has stopped falling (`regard.optim.plateau`).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from regard.errors import ConfigError
from regard.optim.conjugate_gradient import ConjugateGradient
from regard.optim.copying import copied_attributes
from regard.optim.group_settings import refuse_unknown_settings
from regard.optim.line_search_optimizer import StepReport
from regard.optim.objectives.closure import ClosureObjective, require_closure
from regard.optim.objectives.objective import (
    Closure,
    DeterministicObjective,
    Reduce,
    StepAwareObjective,
)
from regard.optim.plateau import Plateau
from regard.option_checks import require_number

_SETTINGS = ("lr", "betas", "eps", "weight_decay", "scale")


class AdamThenCG(torch.optim.Optimizer):
    """AdamW, then `ConjugateGradient`.

    Args:
        params: Parameters or groups; `ConjugateGradient` obeys their ``scale``.
        lr: Adam's learning rate, 0 or more, which torch's schedulers may change.
        betas: Adam's decays of the means of gradients and squared gradients, 0 to below 1.
        weight_decay: Adam's, decoupled, 0 or more; conjugate gradient has none.
        window: Losses in a mean, 1 or more.
        threshold: Smallest relative decrease from mean to mean that counts as falling, 0 or more.
        memory: Steps that conjugate gradient remembers, 0 or more.
        reduce: Sums over the processes that compute a closure's gradients together, in place; None
            finds them where they use DistributedDataParallel or sharded parameters. Only the mean
            loss of them all decides when conjugate gradient takes over.

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
        reduce: Reduce | None = None,
    ) -> None:
        require_number("lr", lr, "0 or more", lambda lr: lr >= 0)
        require_number("weight_decay", weight_decay, "0 or more", lambda decay: decay >= 0)
        self._plateau = Plateau(window, threshold)
        super().__init__(params, {"lr": lr})
        self._adam = torch.optim.AdamW(
            self.param_groups, lr=lr, betas=betas, weight_decay=weight_decay
        )
        self._cg = ConjugateGradient(
            [
                {"params": group["params"], "scale": group.get("scale", 1.0)}
                for group in self.param_groups
            ],
            memory=memory,
            reduce=reduce,
        )
        self._reduce = reduce
        self.is_conjugate = False
        self.last = StepReport()

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles have."""
        return copied_attributes(self)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; what conjugate gradient has learnt is dropped.

        Raises:
            ConfigError: A setting of the group is unknown.
        """
        refuse_unknown_settings(self, param_group, _SETTINGS)
        super().add_param_group(param_group)
        if hasattr(self, "_cg"):
            group = self.param_groups[-1]
            scale = group.get("scale", 1.0)
            self._adam.add_param_group(group)
            self._cg.add_param_group({"params": group["params"], "scale": scale})

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Raise `ConfigError`: torch's GradScaler asks for this before it takes a step."""
        raise ConfigError(
            "AdamThenCG takes no GradScaler: conjugate gradient compares values with slopes, which "
            "a scale would set apart.  Call step(closure) without it, in float32."
        )

    def step(  # type: ignore[override] - a closure is required
        self,
        closure: Closure | DeterministicObjective | None = None,
        full_batch: Closure | DeterministicObjective | None = None,
    ) -> float:
        """Take one step.

        Args:
            closure: Computes loss and gradients; of a mini-batch where `full_batch` is given.
            full_batch: What conjugate gradient minimises; None takes `closure`.

        Returns:
            The loss before the step with Adam, the value after it with conjugate gradient.
        """
        if self.is_conjugate:
            value = self._cg.step(closure if full_batch is None else full_batch)
            self.last = self._cg.last
            return value
        value = self._evaluate(closure)
        self._adam.step()
        self.last = StepReport(value=value, evaluations=1)
        self._plateau.add(value)
        self.is_conjugate = self._plateau.is_reached
        return value

    def _evaluate(self, closure: Closure | DeterministicObjective | None) -> float:
        """Compute the loss and the gradients."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        if not isinstance(closure, DeterministicObjective):
            closure = require_closure("AdamThenCG.step", closure, "conjugate gradient")
            return ClosureObjective(closure, parameters, self._reduce).gradient()
        if isinstance(closure, StepAwareObjective):
            closure.bind(parameters)
            closure.begin_step()
        return closure.gradient()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both, the last losses and which one is active."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        saved: dict[str, Any] = {
            "adam": self._adam.state_dict(),
            "cg": self._cg.state_dict(),
            "losses": list(self._plateau.losses),
            "is_conjugate": self.is_conjugate,
        }
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, saved)
            saved = saved if replaced is None else replaced
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, as a copy."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = hook(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        self._adam.load_state_dict(deepcopy(state_dict["adam"]))  # PyTorch's shares its tensors
        self.param_groups = list(self._adam.param_groups)  # a schedule sets the rate there
        self._cg.load_state_dict(state_dict["cg"])
        self._plateau.losses = list(state_dict["losses"])
        self.is_conjugate = state_dict["is_conjugate"]
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)
