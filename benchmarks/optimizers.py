"""`regard.optim.minimize` and its peers on twenty classical problems: the project's claims.

    python benchmarks/optimizers.py                               # all, some minutes
    python benchmarks/optimizers.py --cg-descent OTHER/bin/python # with CG_DESCENT, see below
    python benchmarks/optimizers.py --only cg,sp-cg --problems "Wood 4,Beale 2" --json

The figure is the cost until the largest absolute entry of the gradient is at most 1e-6 (`--tol`),
in gradients with their values: a value alone costs 1/3, a Hessian-vector product 1. It is counted
for all inside the function (`counted.py`), at the first point where such a gradient is seen, and
printed as a dash where that does not happen within 20,000 evaluations (`--limit`).
Ratios are geometric means over the problems that both solve. Problems and their sources are
in `classical_problems.py`; how each peer is called, and its tolerances, in `minimizers.py`. Some
problems have several minima, and methods find different ones: the end of the report names them.

Peers: pip install scipy pytorch-minimize. What is not installed is named and left out. CG_DESCENT
is the reference of conjugate gradient; the package pycgdescent has the GPL, so it is never loaded
here, and runs in a process with an interpreter of yours that has it (pip install pycgdescent in
an environment of its own) and answers through pipes.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

if not __package__:  # started as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.classical_problems import PROBLEMS, Problem
from benchmarks.minimizers import (
    OURS,
    PEERS,
    Method,
    cg_descent_methods,
    has_cg_descent,
    try_method,
)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a method did on a problem.

    Args:
        problem: the problem's name.
        method: the method's name.
        is_solved: whether it got there.
        cost: gradients with their values, to the solution or to the end.
        values: calls of the function.
        gradients: gradients.
        products: Hessian-vector products.
        value: the last value with a gradient.
        gradient_norm: the smallest largest absolute entry of a gradient.
    """

    problem: str
    method: str
    is_solved: bool
    cost: float
    values: int
    gradients: int
    products: int
    value: float
    gradient_norm: float


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A figure against its bar.

    Args:
        what: the figure's name.
        figure: a ratio, or a number of problems.
        bar: at most this, or with `is_least` at least this.
        is_least: the direction.
        note: over what the figure is taken.
    """

    what: str
    figure: float
    bar: float
    is_least: bool = False
    note: str = ""

    def is_met(self) -> bool:
        """Hold the figure against the bar; NaN meets none."""
        return self.figure >= self.bar if self.is_least else self.figure <= self.bar


@dataclass(frozen=True)
class Bar:
    """A ratio of costs that we claim: ours over the peer's, at most."""

    own: str
    peer: str
    most: float


BARS = (
    Bar("cg", "cgd-11", 1.10),
    Bar("cg", "sp-cg", 0.55),
    Bar("cg", "tm-cg", 0.65),
    Bar("cg-0", "cgd-0", 1.05),
    Bar("cg-0", "sp-cg", 0.62),
    Bar("newton", "tm-newton", 0.8),
)


def run(method: Method, problem: Problem, tolerance: float, limit: int) -> Run:
    """Minimize one problem; the peers' warnings (overflow, precision) say no more than the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted, is_solved = try_method(method, problem.fun, problem.x0, tolerance, limit)
    return Run(
        problem=problem.name,
        method=method.name,
        is_solved=is_solved,
        cost=counted.cost,
        values=counted.num_values,
        gradients=counted.num_gradients,
        products=counted.num_products,
        value=counted.value,
        gradient_norm=counted.gradient_norm,
    )


def solved(runs: list[Run], method: str) -> dict[str, float]:
    """Map the problems that a method solved to their costs."""
    return {run.problem: run.cost for run in runs if run.method == method and run.is_solved}


def ratio(runs: list[Run], own: str, peer: str) -> tuple[float, int]:
    """Compare two methods.

    Args:
        runs: of both on the same problems.
        own: the method above the line.
        peer: the method below it.

    Returns:
        The geometric mean of ratios of cost over the problems that both solve, NaN where there is
        none; and their number.
    """
    above, below = solved(runs, own), solved(runs, peer)
    logs = [math.log(above[name] / below[name]) for name in above if name in below]
    return (math.exp(sum(logs) / len(logs)) if logs else math.nan), len(logs)


def claims(runs: list[Run]) -> list[Claim]:
    """Compare all runs with the bars."""
    names = {run.method for run in runs}
    count = len({run.problem for run in runs})
    results = [
        Claim(
            what=f"{own}: problems solved",
            figure=len(solved(runs, own)),
            bar=count,
            is_least=True,
            note=f"of {count}",
        )
        for own in ("cg", "cg-0")
        if own in names
    ]
    for bar in BARS:
        if {bar.own, bar.peer} <= names:
            figure, both = ratio(runs, bar.own, bar.peer)
            what, note = f"{bar.own} over {bar.peer}", f"over {both} problems"
            results.append(Claim(what=what, figure=figure, bar=bar.most, note=note))
    return results


def other_minima(runs: list[Run]) -> list[str]:
    """Return where methods that solve a problem end at different values."""
    lines = []
    for name in dict.fromkeys(run.problem for run in runs):
        ends = [run for run in runs if run.problem == name and run.is_solved]
        least = min((run.value for run in ends), default=math.nan)
        worse = [run for run in ends if run.value - least > 1e-3 * max(1, abs(least))]
        if worse:
            values = ", ".join(f"{run.method} {run.value:.4g}" for run in worse)
            lines.append(f"{name}: least {least:.4g}; {values}")
    return lines


def show_costs(runs: list[Run], methods: list[Method]) -> None:
    """Print the table of costs, the numbers solved, and the ratios."""
    costs = {(run.problem, run.method): run for run in runs}
    width = 12
    print(f"{'':26s}" + "".join(f"{method.name:>{width}s}" for method in methods))
    for name in dict.fromkeys(run.problem for run in runs):
        row = [costs[name, method.name] for method in methods]
        cells = [f"{run.cost:,.1f}" if run.is_solved else "-" for run in row]
        print(f"{name:26s}" + "".join(f"{cell:>{width}s}" for cell in cells))
    counts = [len(solved(runs, method.name)) for method in methods]
    print(f"{'solved':26s}" + "".join(f"{count:>{width}d}" for count in counts))
    for own in (method for method in OURS if method in methods):
        ratios = [ratio(runs, own.name, method.name)[0] for method in methods]
        cells = "".join(f"{figure:>{width}.2f}" for figure in ratios)
        print(f"{own.name + ' over it':26s}{cells}")


def show_claims(results: list[Claim]) -> None:
    """Print the figures next to their bars."""
    for claim in results:
        sign = ">=" if claim.is_least else "<="
        verdict = "met" if claim.is_met() else "missed"
        print(
            f"{claim.what:28s}{claim.figure:8.2f}  {sign} {claim.bar:<6g}{verdict:8s}{claim.note}"
        )


def choose(
    parser: argparse.ArgumentParser, option: str, text: str, all_names: list[str]
) -> list[str]:
    """Split a list of names, each of which must be known; empty is all."""
    names = text.split(",") if text else all_names
    for name in names:
        if name not in all_names:
            parser.error(f"{option} {name}: not known.  Known: {', '.join(all_names)}.")
    return names


def available(methods: list[Method], python: str) -> list[Method]:
    """Leave out what cannot run, with a line that says so, on the standard error."""
    runnable = []
    for method in methods:
        reason = method.reason_to_leave_out()
        if method.name.startswith("cgd-") and not has_cg_descent(python):
            reason = "no --cg-descent PYTHON was given"
            if python:
                reason = f"{python} has no pycgdescent"
        if reason:
            print(f"{method.title}: left out: {reason}", file=sys.stderr)
        else:
            runnable.append(method)
    return runnable


def parse(words: list[str]) -> tuple[argparse.Namespace, list[Problem], list[Method]]:
    """Read the command line: its options, the selected problems, and the methods that can run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="methods, joined by commas")
    parser.add_argument("--problems", default="", help="names, joined by commas")
    parser.add_argument("--cg-descent", default="", metavar="PYTHON", help="an interpreter")
    parser.add_argument("--tol", type=float, default=1e-6, help="on the gradient; 1e-6 by default")
    parser.add_argument("--limit", type=int, default=20_000, help="evaluations; 20,000 by default")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args(words)
    methods = [*OURS, *PEERS, *cg_descent_methods(arguments.cg_descent)]
    names = choose(parser, "--only", arguments.only, [method.name for method in methods])
    problem_names = choose(parser, "--problems", arguments.problems, [p.name for p in PROBLEMS])
    selected = [method for method in methods if method.name in names]
    problems = [problem for problem in PROBLEMS if problem.name in problem_names]
    return arguments, problems, available(selected, arguments.cg_descent)


def main(words: list[str]) -> None:
    """Run the selected methods on the selected problems and print the report."""
    arguments, problems, methods = parse(words)
    torch.set_num_threads(1)
    runs = [
        run(method, problem, arguments.tol, arguments.limit)
        for problem in problems
        for method in methods
    ]
    if arguments.json:
        print(msgspec.json.encode({"runs": runs, "claims": claims(runs)}).decode())
        return
    for method in methods:
        print(f"{method.name:12s}{method.title}")
    print(f"\nCost to a gradient of at most {arguments.tol:g}")
    show_costs(runs, methods)
    for line in other_minima(runs):
        print(f"Different minima of {line}")
    print()
    show_claims(claims(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
