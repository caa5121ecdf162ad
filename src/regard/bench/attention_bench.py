"""``regard bench attention``: time, memory and achieved arithmetic, by pattern and length.

The implementations of a case are computed in turn, `torch.mm` among them, so that all see the same
noise of the machine; figures are medians over the turns. A pair of positions costs ``4 dim``
operations a head in the forward pass (two products) and ``8 dim`` in the backward pass (four),
whoever computes it: what one computes besides the allowed pairs, and computes twice, does not count
as achieved.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec
import torch

from regard.attention import Pattern, parse_pattern
from regard.attention.backends.cpu_kernels import instructions
from regard.bench.attention_memory import HOW, measure_memory
from regard.bench.peers import (
    PEERS,
    Case,
    Computation,
    Implementation,
    Operands,
    Order,
    Skipped,
    brief,
    build_implementation,
    skip,
)
from regard.errors import ConfigError, ResourceError

_MM_SIZE = 1024  # rows and columns: large enough for the peak, 20 ms on two cores
_TURN_SECONDS = 0.02  # short calls are repeated within a turn
_MOST_CALLS = 64


class BenchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to measure.

    Args:
        patterns: As `parse_pattern` reads them, one or more.
        lengths: Numbers of positions, one or more, each 1 or more.
        num_heads: 1 or more.
        dim: Size of a head, 1 or more.
        dtype: Of q, k and v.
        repeats: Turns, 1 or more.
        is_decoder: Allow only keys at or before the query.
        has_hvp: Time Hessian-vector products too.
        has_memory: Measure memory too.
        peers: Names of `PEERS`.

    Raises:
        ConfigError: One of them cannot be used.
    """

    patterns: tuple[str, ...]
    lengths: tuple[int, ...]
    num_heads: int = 8
    dim: int = 64
    dtype: Literal["float32", "bf16"] = "float32"
    repeats: int = 5
    is_decoder: bool = True
    has_hvp: bool = False
    has_memory: bool = True
    peers: tuple[str, ...] = tuple(PEERS)

    def __post_init__(self) -> None:
        for name, value in (("heads", self.num_heads), ("dim", self.dim)):
            if value < 1:
                raise ConfigError(f"{name}={value}: must be 1 or more.")
        if self.repeats < 1:
            raise ConfigError(f"repeats={self.repeats}: must be 1 or more.")
        for name in self.peers:
            if name not in PEERS:
                raise ConfigError(
                    f"peers={','.join(self.peers)}: {name} is not known.  "
                    f"Known: {', '.join(PEERS)}."
                )
        for pattern in self.patterns:
            parse_pattern(pattern, is_decoder=self.is_decoder)

    def cases(self) -> list[Case]:
        """List every pattern at every length."""
        return [
            Case(
                pattern=pattern,
                length=length,
                num_heads=self.num_heads,
                dim=self.dim,
                dtype=self.dtype,
                is_decoder=self.is_decoder,
            )
            for pattern in self.patterns
            for length in self.lengths
        ]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one implementation in one case.

    Args:
        side: Who.
        pattern: Of the case.
        length: Of the case.
        pairs: Allowed pairs of a head.
        forward_ms: Milliseconds of a forward pass.
        gradient_ms: Of a forward and backward pass; None where it has none.
        hvp_ms: Of a Hessian-vector product with its gradient and forward pass.
        memory_bytes: Of forward and backward pass, or of the forward pass alone.
        hvp_memory_bytes: Of a Hessian-vector product.
        forward_gflops: Achieved in the forward pass, 10^9 operations a second.
        gradient_gflops: Achieved in both.
        of_mm: `gradient_gflops`, or else `forward_gflops`, over those of `torch.mm` in float32.
        times_regard: Time over ours, forward and backward, or else forward.
    """

    side: str
    pattern: str
    length: int
    pairs: int
    forward_ms: float
    gradient_ms: float | None = None
    hvp_ms: float | None = None
    memory_bytes: int | None = None
    hvp_memory_bytes: int | None = None
    forward_gflops: float
    gradient_gflops: float | None = None
    of_mm: float
    times_regard: float


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """All figures.

    Args:
        torch: Version of PyTorch.
        threads: Of PyTorch.
        kernels: Instruction set of attention's fused kernels; None where they were not compiled.
        config: What was measured.
        mm_gflops: Of `torch.mm` in float32, the median over the cases.
        memory: How it was measured; empty where it was not.
        rows: An implementation and case each.
        skipped: What was left out, and why.
    """

    torch: str
    threads: int
    kernels: str | None
    config: BenchConfig
    mm_gflops: float
    memory: str
    rows: list[Row]
    skipped: list[Skipped]


def parse_lengths(text: str) -> tuple[int, ...]:
    """Read lengths.

    Args:
        text: Whole numbers joined by commas.

    Raises:
        ConfigError: A part is no whole number of 1 or more.

    >>> parse_lengths("128,1024")
    (128, 1024)
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and int(part) > 0):
            raise ConfigError(
                f'lengths={text}: "{part}" is no length.  Expected whole numbers of 1 or more, '
                "e.g. 128,1024,8192."
            )
    return tuple(int(part) for part in parts)


def parse_patterns(text: str) -> tuple[str, ...]:
    """Split patterns at semicolons; each is checked where it is used.

    Raises:
        ConfigError: There is none.

    >>> parse_patterns("causal; local:256|global:0")
    ('causal', 'local:256|global:0')
    """
    found = tuple("".join(part.split()) for part in text.split(";") if part.strip())
    if not found:
        raise ConfigError("patterns: none is given.  Expected e.g. 'full;local:256|global:0'.")
    return found


def run_bench(
    config: BenchConfig, report: Callable[[Sequence[Row], Sequence[Skipped]], None]
) -> BenchReport:
    """Measure every case.

    Args:
        config: What to measure.
        report: Called after each case with its figures and what was left out of it.

    Returns:
        All figures.

    Raises:
        ResourceError: Memory did not suffice.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    speeds = []
    for case in config.cases():
        found, left_out, speed = _measure(case, config)
        report(found, left_out)
        rows += found
        skipped += left_out
        speeds.append(speed)
    return BenchReport(
        torch=str(torch.__version__),
        threads=torch.get_num_threads(),
        kernels=instructions(),
        config=config,
        mm_gflops=statistics.median(speeds),
        memory=HOW if config.has_memory else "",
        rows=rows,
        skipped=skipped,
    )


def take_turns(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time tasks in turn.

    Args:
        tasks: By name. Each is called once before, to warm up.
        repeats: Turns, 1 or more.

    Returns:
        Median seconds of a call, by name.
    """
    num_calls = {name: _num_calls(task) for name, task in tasks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            begun = time.perf_counter()
            for _ in range(num_calls[name]):
                task()
            seconds[name].append((time.perf_counter() - begun) / num_calls[name])
    return {name: statistics.median(found) for name, found in seconds.items()}


def _num_calls(task: Callable[[], object]) -> int:
    """Call once to warm up and once on the clock, and tell how many calls make a turn."""
    task()
    begun = time.perf_counter()
    task()
    taken = max(time.perf_counter() - begun, 1e-9)
    return min(_MOST_CALLS, max(1, round(_TURN_SECONDS / taken)))


def mm_task() -> tuple[Callable[[], object], float]:
    """Build a float32 matrix product to compare with, and tell its 10^9 operations."""
    left, right = torch.ones(2, _MM_SIZE, _MM_SIZE)
    return partial(torch.mm, left, right), 2 * _MM_SIZE**3 / 1e9


def _measure(case: Case, config: BenchConfig) -> tuple[list[Row], list[Skipped], float]:
    """Measure one case: the figures, what was left out, and the speed of `torch.mm`."""
    product, operations = mm_task()
    tasks: dict[str, Callable[[], object]] = {"mm": product}
    implementations, skipped = [], []
    operands = Operands(case)
    for name in ("regard", *config.peers):
        built = build_implementation(name, case)
        if isinstance(built, Implementation):
            orders: list[Order] = [o for o in built.orders if o != "hvp" or config.has_hvp]
            found = {f"{name} {order}": Computation(built, operands, order) for order in orders}
            built = _try(built, case, found[f"{name} {orders[-1]}"])
            if isinstance(built, Implementation):
                implementations.append(built)
                tasks |= found
                continue
        skipped.append(built)
    seconds = take_turns(tasks, config.repeats)
    speed = operations / seconds["mm"]
    return [_row(built, case, config, seconds, speed) for built in implementations], skipped, speed


def _try(
    implementation: Implementation, case: Case, compute: Computation
) -> Implementation | Skipped:
    """Compute once; a peer that fails is left out, with its reason."""
    try:
        compute()
    except (RuntimeError, ValueError, OSError) as error:  # OSError: no compiler
        if implementation.name != "regard":
            return skip(implementation.name, case, brief(error))
        if "allocate memory" not in str(error):
            raise
        raise ResourceError(
            f"{case.pattern} at length {case.length:,}: memory does not suffice.  "
            "Shorter: `lengths`; fewer pairs: `patterns`"
        ) from error
    return implementation


def _row(
    implementation: Implementation,
    case: Case,
    config: BenchConfig,
    seconds: Mapping[str, float],
    mm_speed: float,
) -> Row:
    pattern = case.parse()
    assert isinstance(pattern, Pattern)  # those that are no masks tell their cost too
    cost = pattern.cost(case.length, case.length, dim=case.dim)
    operations = cost.flops * case.num_heads / 1e9
    forward = seconds[f"{implementation.name} forward"]
    gradient = seconds.get(f"{implementation.name} gradient")
    hvp = seconds.get(f"{implementation.name} hvp")
    last: Order = "forward" if gradient is None else "gradient"
    forward_speed = operations / forward
    gradient_speed = None if gradient is None else 3 * operations / gradient

    def memory(order: Order) -> int | None:
        is_compiled = implementation.name == "flex"  # the compiler's own memory would be measured
        wanted = config.has_memory and not is_compiled
        return measure_memory(case, implementation.name, order) if wanted else None

    return Row(
        side=implementation.name,
        pattern=case.pattern,
        length=case.length,
        pairs=cost.pairs,
        forward_ms=1e3 * forward,
        gradient_ms=None if gradient is None else 1e3 * gradient,
        hvp_ms=None if hvp is None else 1e3 * hvp,
        memory_bytes=memory(last),
        hvp_memory_bytes=None if hvp is None else memory("hvp"),
        forward_gflops=forward_speed,
        gradient_gflops=gradient_speed,
        of_mm=(gradient_speed or forward_speed) / mm_speed,
        times_regard=seconds[f"{implementation.name} {last}"] / seconds[f"regard {last}"],
    )
