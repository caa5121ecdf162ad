"""Sparse and full attention on a CPU compared with its peers: the project's claims, each a ratio.

    python benchmarks/attention.py                    # all, some minutes
    python benchmarks/attention.py --only local,hvp --json
    python benchmarks/attention.py --small            # tiny sizes: does it run, not how fast

float32 by default, batch 1, 8 heads, dim 64, a window of 256 keys (``Local(255, 0)``), 2 threads.
Contenders are computed in turn; figures are medians over the turns. Needs for its peers:
pip install local-attention einops transformers; what is not installed is named and left out.

- local       a causal window, torch.mm, local-attention and compiled FlexAttention (forward)
- linear      the same to 256k tokens, in time per token
- longformer  two-sided windows and Hugging Face's Longformer self-attention
- hvp         a Hessian-vector product, its gradient, and that of local-attention
- memory      four times the length, in peak memory
- bf16        a causal window in bfloat16 and local-attention
- full        full and causal attention and scaled_dot_product_attention

local-attention has windows that are multiples of its block, so it gets blocks of 256 and sees
one key more than we do. Achieved operations are counted over allowed pairs: 12 dim a pair and head.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from regard.attention import Local, attend
from regard.bench.attention_bench import mm_task, take_turns
from regard.bench.attention_memory import RESOLUTION, measure_memory
from regard.bench.peers import (
    Case,
    Computation,
    Implementation,
    Operands,
    Order,
    build_implementation,
)

Task = Callable[[], object]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a run: those of the claims, or tiny ones."""

    short: int = 4096
    long: int = 16384
    longest: tuple[int, ...] = (4096, 16384, 65536, 262144)
    dense: tuple[int, ...] = (512, 1024, 2048, 4096)
    window: int = 256
    num_heads: int = 8
    dim: int = 64
    repeats: int = 5
    memory_orders: tuple[Order, ...] = ("forward", "gradient", "hvp")
    is_small: bool = False

    def case(self, length: int, **changes: str | int | bool) -> Case:
        """Make the case of a causal window."""
        case = Case(
            pattern=f"local:{self.window - 1},0",
            length=length,
            num_heads=self.num_heads,
            dim=self.dim,
        )
        return replace(case, **changes)


SMALL = Scale(
    short=64,
    long=256,
    longest=(64, 256),
    dense=(64,),
    window=16,
    num_heads=4,
    dim=8,
    repeats=1,
    memory_orders=("gradient",),
    is_small=True,
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table; `bar` is the claim, such as ``>= 3``, and empty without one."""

    claim: str
    what: str
    ours: str = ""
    peer: str = ""
    ratio: float | None = None
    bar: str = ""

    def is_met(self) -> bool | None:
        """Hold the ratio against the bar."""
        if not self.bar or self.ratio is None:
            return None
        sign, number = self.bar.split()
        return self.ratio >= float(number) if sign == ">=" else self.ratio <= float(number)


def milliseconds(seconds: float) -> str:
    """Write a time."""
    return f"{1e3 * seconds:,.2f} ms"


def megabytes(size: int) -> str:
    """Write a size."""
    return f"{size / 1e6:,.0f} MB"


def memory_ratio(size: int, reference: int) -> float | None:
    """Divide two measured sizes; None where one is below the resolution."""
    return size / reference if min(size, reference) >= RESOLUTION else None


def task(implementation: Implementation, case: Case, order: Order) -> Computation:
    """Build a computation with operands of its own."""
    return Computation(implementation, Operands(case), order)


def ours(case: Case) -> Implementation:
    """Build our own implementation."""
    built = build_implementation("regard", case)
    assert isinstance(built, Implementation)
    return built


def local(scale: Scale) -> Iterator[Line]:
    """Compare a causal window with torch.mm, local-attention and FlexAttention."""
    for length, bar in ((scale.short, ">= 0.40"), (scale.long, ">= 0.30")):
        case = scale.case(length)
        product, operations = mm_task()
        tasks: dict[str, Task] = {"mm": product}
        tasks["forward"] = task(ours(case), case, "forward")
        tasks["gradient"] = task(ours(case), case, "gradient")
        skipped: list[Line] = []
        tasks |= peer_task("local", "local-attention", scale, case, "gradient", skipped)
        tasks |= peer_task("local", "flex", scale, case, "forward", skipped)
        seconds = take_turns(tasks, scale.repeats)
        cost = case.parse().cost(length, length, dim=case.dim)
        achieved = 3 * cost.flops * case.num_heads / 1e9 / seconds["gradient"]
        peak = operations / seconds["mm"]
        yield Line(
            claim="local",
            what=f"{length:,}: GFLOP/s of fwd+bwd over torch.mm's",
            ours=f"{achieved:.0f} GFLOP/s",
            peer=f"{peak:.0f} GFLOP/s",
            ratio=achieved / peak,
            bar=bar,
        )
        for name, order, claimed in (
            ("local-attention", "gradient", ">= 3"),
            ("flex", "forward", ">= 1"),
        ):
            if name in seconds:
                yield faster("local", f"{length:,}: {order}, {name}", seconds, order, name, claimed)
        yield from skipped


def peer_task(
    claim: str, name: str, scale: Scale, case: Case, order: Order, skipped: list[Line]
) -> dict[str, Task]:
    """Build the task of a peer, or note why it cannot be built."""
    if name == "flex" and scale.is_small:
        skipped.append(Line(claim=claim, what="flex: left out of a small run"))
        return {}
    if name == "local-attention":
        case = replace(case, pattern=f"local:{scale.window},0")
    built = build_implementation(name, case)
    if isinstance(built, Implementation):
        return {name: task(built, case, order)}
    skipped.append(Line(claim=claim, what=f"{name}: left out: {built.reason}"))
    return {}


def faster(claim: str, what: str, seconds: dict[str, float], own: str, peer: str, bar: str) -> Line:
    """Return the line that says how many times faster we are."""
    return Line(
        claim=claim,
        what=what,
        ours=milliseconds(seconds[own]),
        peer=milliseconds(seconds[peer]),
        ratio=seconds[peer] / seconds[own],
        bar=bar,
    )


def linear(scale: Scale) -> Iterator[Line]:
    """Compare time per token with the first length's; a quarter of the heads, so that it fits."""
    base = 0.0
    for length in scale.longest:
        case = scale.case(length, num_heads=scale.num_heads // 4)
        seconds = take_turns({"gradient": task(ours(case), case, "gradient")}, scale.repeats)
        per_token = seconds["gradient"] / length
        base = base or per_token
        yield Line(
            claim="linear",
            what=f"{length:,}: fwd+bwd per token over that of {scale.longest[0]:,}",
            ours=f"{1e6 * per_token:.2f} us",
            peer=f"{1e6 * base:.2f} us",
            ratio=per_token / base,
        )


class FixedProjection(nn.Module):
    """Returns a fixed tensor in place of a projection (a copy: Longformer scales in place).

    Args:
        tensor: ``[length, batch, heads * dim]``.
    """

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self._tensor = tensor

    def forward(self, hidden: Tensor) -> Tensor:  # noqa: ARG002 - a projection's signature
        """Return the tensor."""
        return self._tensor.clone()


def longformer(scale: Scale) -> Iterator[Line]:
    """Compare two-sided windows, with the projections of q, k and v and without."""
    if find_spec("transformers") is None:
        yield Line(claim="longformer", what="not installed: pip install transformers")
        return
    for reach in (scale.window // 2, scale.window):
        for is_projected in (False, True):
            tasks = longformer_tasks(scale, reach, is_projected)
            seconds = take_turns(tasks, scale.repeats)
            parts = "with projections" if is_projected else "attention alone"
            what = f"{scale.short:,}: fwd+bwd, {reach} keys on each side, {parts}"
            bar = "" if is_projected else ">= 8"
            yield faster("longformer", what, seconds, "ours", "longformer", bar)


def longformer_tasks(scale: Scale, window: int, is_projected: bool) -> dict[str, Task]:
    """Build both on the same weights, and check that they compute the same."""
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    heads, dim, length = scale.num_heads, scale.dim, scale.short
    torch.manual_seed(1)
    config = LongformerConfig(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        attention_window=[2 * window],
        attention_probs_dropout_prob=0.0,
    )
    module = LongformerSelfAttention(config, layer_id=0)
    hidden = torch.randn(1, length, heads * dim)
    inputs = [torch.randn(length, 1, heads * dim, requires_grad=True) for _ in range(3)]
    if is_projected:
        hidden.requires_grad_()
        projections = (module.query, module.key, module.value)
        leaves = [hidden, *(p for x in projections for p in x.parameters())]
    else:
        for name, tensor in zip(("query", "key", "value"), inputs, strict=True):
            setattr(module, name, FixedProjection(tensor))
        leaves = inputs
    nothing = torch.zeros(1, length, dtype=torch.bool)

    def theirs() -> Tensor:
        return module(
            hidden,
            attention_mask=torch.zeros(1, length),
            is_index_masked=nothing,
            is_index_global_attn=nothing,
            is_global_attn=False,
        )[0]

    def own() -> Tensor:
        x = hidden.transpose(0, 1)  # [length, 1, heads * dim]
        projected = (module.query(x), module.key(x), module.value(x))
        q, k, v = (y.view(length, heads, dim).transpose(0, 1)[None] for y in projected)
        out = attend(q, k, v, pattern=Local(window, window))
        return out.transpose(1, 2).flatten(2)

    torch.testing.assert_close(own(), theirs(), rtol=1e-4, atol=1e-4)
    return {
        name: partial(differentiate, compute, leaves)
        for name, compute in (("ours", own), ("longformer", theirs))
    }


def differentiate(compute: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Compute a value and its gradient."""
    torch.autograd.grad(compute().sum(), leaves)


class WithGraph:
    """A gradient that can be differentiated again: the way that a product's gradient takes."""

    def __init__(self, implementation: Implementation, case: Case) -> None:
        self._implementation, self._operands = implementation, Operands(case)

    def __call__(self) -> None:
        """Compute it."""
        inputs = self._operands.inputs
        value = (self._implementation.forward(*inputs) * self._operands.weight).sum()
        torch.autograd.grad(value, inputs, create_graph=True)


def hvp(scale: Scale) -> Iterator[Line]:
    """Compare a Hessian-vector product with its gradient and with local-attention's."""
    case = scale.case(scale.short)
    own = ours(case)
    skipped: list[Line] = []
    tasks: dict[str, Task] = {
        "gradient": task(own, case, "gradient"),
        "graph": WithGraph(own, case),
        "hvp": task(own, case, "hvp"),
        **peer_task("hvp", "local-attention", scale, case, "hvp", skipped),
    }
    seconds = take_turns(tasks, scale.repeats)
    for name, what, bar in (
        ("graph", "the gradient on the same path (create_graph)", "<= 3.0"),
        ("gradient", "the gradient on the first-order path", ""),
    ):
        yield Line(
            claim="hvp",
            what=f"{scale.short:,}: product over {what}",
            ours=milliseconds(seconds["hvp"]),
            peer=milliseconds(seconds[name]),
            ratio=seconds["hvp"] / seconds[name],
            bar=bar,
        )
    if "local-attention" in seconds:
        what = f"{scale.short:,}: product, local-attention"
        yield faster("hvp", what, seconds, "hvp", "local-attention", ">= 1.5")
        yield hvp_memory(scale, case)
    yield from skipped


def hvp_memory(scale: Scale, case: Case) -> Line:
    """Compare the memory of a product with local-attention's."""
    theirs = replace(case, pattern=f"local:{scale.window},0")
    own = measure_memory(case, "regard", "hvp")
    other = measure_memory(theirs, "local-attention", "hvp")
    return Line(
        claim="hvp",
        what=f"{scale.short:,}: memory of a product over local-attention's",
        ours=megabytes(own),
        peer=megabytes(other),
        ratio=memory_ratio(own, other),
        bar="<= 0.5",
    )


def memory(scale: Scale) -> Iterator[Line]:
    """Compare memory at the long length with that at the short one.

    A tenth more than the ratio of the lengths is left to whole pages where memory is little: the
    forward pass takes no more than its output.
    """
    times = scale.long // scale.short
    for order in scale.memory_orders:
        sizes = [
            measure_memory(scale.case(length), "regard", order)
            for length in (scale.long, scale.short)
        ]
        yield Line(
            claim="memory",
            what=f"{order}, {scale.long:,} over {scale.short:,}",
            ours=megabytes(sizes[0]),
            peer=megabytes(sizes[1]),
            ratio=memory_ratio(*sizes),
            bar=f"<= {times if order == 'hvp' else 1.1 * times}",
        )


def bf16(scale: Scale) -> Iterator[Line]:
    """Compare a causal window in bfloat16 with local-attention."""
    for length in (scale.short, scale.long):
        case = scale.case(length, dtype="bf16")
        skipped: list[Line] = []
        tasks: dict[str, Task] = {
            "gradient": task(ours(case), case, "gradient"),
            **peer_task("bf16", "local-attention", scale, case, "gradient", skipped),
        }
        seconds = take_turns(tasks, scale.repeats)
        if "local-attention" in seconds:
            what = f"{length:,}: fwd+bwd, local-attention"
            yield faster("bf16", what, seconds, "gradient", "local-attention", ">= 2.5")
        yield from skipped


def full(scale: Scale) -> Iterator[Line]:
    """Compare full and causal attention with PyTorch's own."""
    orders: tuple[Order, ...] = ("forward", "gradient")
    for pattern in ("full", "causal"):
        for length in scale.dense:
            case = scale.case(length, pattern=pattern, is_decoder=False)
            peer = build_implementation("sdpa", case)
            assert isinstance(peer, Implementation)
            tasks: dict[str, Task] = {
                f"{built.name} {order}": task(built, case, order)
                for order in orders
                for built in (ours(case), peer)
            }
            seconds = take_turns(tasks, scale.repeats)
            for order in orders:
                own, other = seconds[f"regard {order}"], seconds[f"sdpa {order}"]
                yield Line(
                    claim="full",
                    what=f"{length:,}: {pattern}, {order}, time over sdpa's",
                    ours=milliseconds(own),
                    peer=milliseconds(other),
                    ratio=own / other,
                    bar="<= 1.05",
                )


CLAIMS: dict[str, Callable[[Scale], Iterator[Line]]] = {
    "local": local,
    "linear": linear,
    "longformer": longformer,
    "hvp": hvp,
    "memory": memory,
    "bf16": bf16,
    "full": full,
}


def show(line: Line) -> None:
    """Print a row of the table."""
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    verdict = {None: "", True: "met", False: "missed"}[line.is_met()]
    print(
        f"{line.claim:11s}{line.what:62s}{line.ours:>14s}{line.peer:>14s}{ratio:>8s}  "
        f"{line.bar:8s}{verdict}".rstrip(),
        flush=True,
    )


def main() -> None:
    """Run the selected comparisons and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="names, joined by commas")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, help="turns; 5 by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    for name in names:
        if name not in CLAIMS:
            parser.error(f"--only {name}: not known.  Known: {', '.join(CLAIMS)}.")
    torch.set_num_threads(arguments.threads)
    scale = SMALL if arguments.small else Scale()
    scale = replace(scale, repeats=arguments.repeats or scale.repeats)
    lines = []
    if not arguments.json:
        print(f"{'':73s}{'ours':>14s}{'peer':>14s}{'ratio':>8s}  bar")
    for name in names:
        for result in CLAIMS[name](scale):
            line = replace(result, bar="") if scale.is_small else result
            lines.append(line)
            if not arguments.json:
                show(line)
    if arguments.json:
        print(msgspec.json.encode(lines).decode())


if __name__ == "__main__":
    main()
