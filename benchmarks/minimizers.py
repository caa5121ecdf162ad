"""Our `minimize` and its peers, each as a function of a problem and of its starting point.

A peer is imported when it is asked for; what is not installed is reported, not run. How each is
made to continue to the tolerance on the largest absolute entry of the gradient, g:

- SciPy CG: ``gtol`` is the tolerance and ``norm`` infinity, its own test is ours;
- SciPy L-BFGS-B: ``gtol`` is the tolerance, ``ftol`` 0;
- SciPy Newton-CG: tests the change of x only: ``xtol`` 0; stopped when g is seen small;
- torch.optim.LBFGS: ``tolerance_grad`` is the tolerance, ``tolerance_change`` 0;
- pytorch-minimize cg: ``gtol`` is the tolerance; its own test is ours;
- pytorch-minimize l-bfgs: ``gtol`` is the tolerance, ``xtol`` and ``gtd_tol`` 0;
- pytorch-minimize newton-cg: tests the change of x only: ``xtol`` 0; stopped when g is seen small;
- pycgdescent: ``tol`` is the tolerance; its default rule (``StopRule``) tests g.

Limits of iterations are out of the way; every other option is the peer's default, but the strong
Wolfe search of torch.optim.LBFGS, without which it does not search at all.
"""

from __future__ import annotations

import importlib
import math
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from benchmarks.counted import CountedFunction, NumpyFunction, Stopped
from torch import Tensor

from regard.optim import minimize

Minimizer = Callable[[CountedFunction, Tensor, float], bool]


@dataclass(frozen=True)
class Method:
    """A way to minimize.

    Args:
        name: what the table calls it, short.
        title: what it is.
        run: minimizes a counted function from a point to a tolerance; returns whether it calls
            itself successful. `Stopped` may pass through.
        package: what must be importable, empty for ours.
    """

    name: str
    title: str
    run: Minimizer
    package: str = ""

    def reason_to_leave_out(self) -> str:
        """Return why it cannot run; empty where it can."""
        if not self.package:
            return ""
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            return str(error)
        return ""


def run_ours(
    counted: CountedFunction, x0: Tensor, tolerance: float, *, method: str, memory: int | None
) -> bool:
    """Minimize with `regard.optim.minimize`; `memory` None is its default."""
    if memory is None:
        return minimize(counted, x0, method=method, tol=tolerance).success
    return minimize(counted, x0, method=method, tol=tolerance, memory=memory).success


def run_scipy(counted: CountedFunction, x0: Tensor, tolerance: float, *, method: str) -> bool:
    """Minimize with `scipy.optimize.minimize`."""
    far = 10**8
    options: dict[str, dict[str, float]] = {
        "CG": {"gtol": tolerance, "norm": math.inf, "maxiter": far},
        "L-BFGS-B": {"gtol": tolerance, "ftol": 0, "maxiter": far, "maxfun": far},
        "Newton-CG": {"xtol": 0, "maxiter": far},
    }
    fun = NumpyFunction(counted)
    result = importlib.import_module("scipy.optimize").minimize(
        fun.value,
        x0.numpy(),
        jac=fun.gradient,
        hessp=fun.product if method == "Newton-CG" else None,
        method=method,
        options=options[method],
    )
    return bool(result.success)


def run_torch_lbfgs(counted: CountedFunction, x0: Tensor, tolerance: float) -> bool:
    """Minimize with `torch.optim.LBFGS`, which does not report success."""
    x = x0.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=10**8,
        max_eval=10**8,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = counted(x)
        value.backward()
        return value

    optimizer.step(closure)
    return counted.is_solved


def run_torchmin(counted: CountedFunction, x0: Tensor, tolerance: float, *, method: str) -> bool:
    """Minimize with pytorch-minimize."""
    options: dict[str, dict[str, float]] = {
        "cg": {"gtol": tolerance},
        "l-bfgs": {"gtol": tolerance, "xtol": 0, "gtd_tol": 0},
        "newton-cg": {"xtol": 0},
    }
    package = importlib.import_module("torchmin")
    result = package.minimize(
        counted, x0.clone(), method=method, max_iter=10**8, options=options[method]
    )
    return bool(result.success)


def run_cg_descent(
    counted: CountedFunction, x0: Tensor, tolerance: float, *, python: str, memory: int
) -> bool:
    """Minimize with pycgdescent in a process of its own, started with the interpreter `python`."""
    driver = Path(__file__).with_name("cg_descent_process.py")
    words = [python, str(driver), str(len(x0)), str(memory), repr(tolerance)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(x0.numpy().tobytes())
        process.stdin.flush()
        return answer(NumpyFunction(counted), len(x0), process.stdout, process.stdin)
    finally:
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def answer(fun: NumpyFunction, size: int, requests: IO[bytes], replies: IO[bytes]) -> bool:
    """Answer requests until the other process ends; return whether it ended by itself.

    Args:
        fun: the function to evaluate.
        size: the number of variables.
        requests: letters and points, see `cg_descent_process`.
        replies: values and gradients.

    Returns:
        False if the requests broke off.
    """
    while (letter := requests.read(1)) in (b"v", b"g", b"b"):
        x = np.frombuffer(requests.read(8 * size), dtype=np.float64)
        if letter in b"vb":
            replies.write(np.float64(fun.value(x)).tobytes())
        if letter in b"gb":
            replies.write(fun.gradient(x).tobytes())
        replies.flush()
    return letter == b"e"


def has_cg_descent(python: str) -> bool:
    """Return whether an interpreter has pycgdescent."""
    words = [python, "-c", "import pycgdescent"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


OURS = (
    Method("cg", "ours, cg", partial(run_ours, method="cg", memory=None)),
    Method("cg-0", "ours, cg with memory 0", partial(run_ours, method="cg", memory=0)),
    Method("lbfgs", "ours, lbfgs", partial(run_ours, method="lbfgs", memory=None)),
    Method("newton", "ours, newton-cg", partial(run_ours, method="newton-cg", memory=None)),
)

PEERS = (
    Method("sp-cg", "SciPy CG", partial(run_scipy, method="CG"), "scipy"),
    Method("sp-lbfgs", "SciPy L-BFGS-B", partial(run_scipy, method="L-BFGS-B"), "scipy"),
    Method("sp-newton", "SciPy Newton-CG", partial(run_scipy, method="Newton-CG"), "scipy"),
    Method("torch-lbfgs", "torch.optim.LBFGS, strong Wolfe", run_torch_lbfgs),
    Method("tm-cg", "pytorch-minimize cg", partial(run_torchmin, method="cg"), "torchmin"),
    Method(
        "tm-lbfgs", "pytorch-minimize l-bfgs", partial(run_torchmin, method="l-bfgs"), "torchmin"
    ),
    Method(
        "tm-newton",
        "pytorch-minimize newton-cg",
        partial(run_torchmin, method="newton-cg"),
        "torchmin",
    ),
)


def cg_descent_methods(python: str) -> tuple[Method, ...]:
    """Make the methods of pycgdescent, run with the interpreter `python`."""
    return tuple(
        Method(
            f"cgd-{memory}",
            f"CG_DESCENT with memory {memory}",
            partial(run_cg_descent, python=python, memory=memory),
        )
        for memory in (11, 0)
    )


def try_method(
    method: Method, fun: Callable[[Tensor], Tensor], x0: Tensor, tolerance: float, limit: int
) -> tuple[CountedFunction, bool]:
    """Minimize and count.

    Args:
        method: how.
        fun: from ``[n]`` to a scalar.
        x0: where to start, ``[n]``, float64.
        tolerance: on the largest absolute entry of the gradient, above 0.
        limit: values and products together, above 0.

    Returns:
        The counts, and whether the problem is solved; one of our methods must also say so itself.
    """
    is_ours = method in OURS
    counted = CountedFunction(
        fun, tolerance=tolerance, limit=limit, is_stopped_when_solved=not is_ours
    )
    says_so = False
    with suppress(Stopped):
        says_so = method.run(counted, x0.clone(), tolerance)
    return counted, counted.is_solved and (says_so or not is_ours)
