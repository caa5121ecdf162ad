"""``regard bench attention``: time, memory and achieved arithmetic, by pattern and length.

The implementations of a case, and `torch.mm`, are computed in turn, so that all see the same noise
of the machine; figures are medians over the turns. For all implementations a pair of positions
counts as ``4 dim`` operations a head in the forward pass (two products) and ``8 dim`` in the
backward pass (four); pairs that are not allowed and repeated computation do not count.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec
import torch

from regard.attention import parse_pattern
from regard.attention.backends.cpu_kernels import instructions
from regard.bench import PEERS
from regard.bench.attention_memory import HOW, measure_memory
from regard.bench.peers import (
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
from regard.settings.binding import check_types

_LARGEST = 1 << 24  # positions, heads or numbers of a head
_MM_SIZE = 1024  # rows and columns: large enough for the peak, 20 ms on two cores
_TURN_SECONDS = 0.02  # short calls are repeated within a turn
_MAX_CALLS = 64


class BenchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cases and measurements of a benchmark.

    Args:
        patterns: Patterns as text, for `parse_pattern`, one or more.
        lengths: Numbers of positions, one or more, each 1 or more.
        num_heads: Number of heads, 1 or more.
        dim: Size of a head, 1 or more.
        dtype: Type of q, k and v.
        repeats: Number of turns, 1 or more.
        is_decoder: Whether only keys at or before the query are allowed.
        has_hvp: Whether Hessian-vector products are timed.
        has_memory: Whether memory is measured.
        peers: Names in `PEERS`.

    Raises:
        ConfigError: A value cannot be used.
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
        check_types(self)
        counts = {"heads": self.num_heads, "dim": self.dim, "repeats": self.repeats}
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"{name}={value}: must be 1 or more.")
            if value > _LARGEST:
                raise ConfigError(f"{name}={value}: must be {_LARGEST:,} or less.")
        for name in self.peers:
            if name not in PEERS:
                raise ConfigError(
                    f"peers={','.join(self.peers)}: {name} is not known.  "
                    f"Known: {', '.join(PEERS)}."
                )
        for pattern in self.patterns:
            parse_pattern(pattern, is_decoder=self.is_decoder)

    def cases(self) -> list[Case]:
        """Return every pattern at every length."""
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
        side: Name of the implementation.
        pattern: Pattern of the case.
        length: Length of the case.
        pairs: Allowed pairs of a head.
        forward_ms: Milliseconds of a forward pass.
        gradient_ms: Milliseconds of a forward and backward pass; None without a gradient.
        hvp_ms: Milliseconds of a Hessian-vector product with its gradient and forward pass.
        memory_bytes: Memory of forward and backward pass, or of the forward pass alone.
        hvp_memory_bytes: Memory of a Hessian-vector product.
        forward_gflops: 10^9 operations a second in the forward pass.
        gradient_gflops: 10^9 operations a second in forward and backward pass.
        of_mm: `gradient_gflops`, or else `forward_gflops`, divided by that of `torch.mm` in
            float32.
        times_regard: Time divided by regard's, of forward and backward pass or else forward.
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
    """All figures of a benchmark.

    Args:
        torch: Version of PyTorch.
        threads: Number of PyTorch's threads.
        kernels: Instruction set of attention's fused kernels; None where they are not compiled.
        config: The cases and measurements.
        mm_gflops: 10^9 operations a second of `torch.mm` in float32, median over the cases.
        memory: How memory was measured; empty where it was not.
        rows: The figures of each implementation in each case.
        skipped: Implementations that were skipped, and why.
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
    """Return the lengths in a text of whole numbers joined by commas.

    Raises:
        ConfigError: A part is not a whole number of 1 or more.

    >>> parse_lengths("128,1024")
    (128, 1024)
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and 0 < int(part) <= _LARGEST):
            raise ConfigError(
                f'lengths={text}: "{part}" is not a length.  Expected whole numbers of 1 or more, '
                "e.g. 128,1024,8192."
            )
    return tuple(int(part) for part in parts)


def parse_patterns(text: str) -> tuple[str, ...]:
    """Return the patterns in a text, separated by semicolons; they are not checked.

    Raises:
        ConfigError: The text is empty.

    >>> parse_patterns("causal; local:256|global:0")
    ('causal', 'local:256|global:0')
    """
    patterns = tuple("".join(part.split()) for part in text.split(";") if part.strip())
    if not patterns:
        raise ConfigError("patterns: none is given.  Expected e.g. 'full;local:256|global:0'.")
    return patterns


def run_bench(
    config: BenchConfig, report: Callable[[Sequence[Row], Sequence[Skipped]], None]
) -> BenchReport:
    """Return the figures of every case.

    Args:
        config: The cases and measurements.
        report: Called after each case with its figures and the skipped implementations.

    Raises:
        ResourceError: There is not enough memory.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    speeds = []
    for case in config.cases():
        case_rows, case_skipped, speed = _measure(case, config)
        report(case_rows, case_skipped)
        rows += case_rows
        skipped += case_skipped
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
    """Return the median seconds of a call of each task, timed in turn.

    Args:
        tasks: Tasks by name; each is called twice before, to warm up and to decide how many calls
            one turn has.
        repeats: Number of turns, 1 or more.
    """
    num_calls = {}
    for name, task in tasks.items():
        task()
        start = time.perf_counter()
        task()
        seconds_per_call = max(time.perf_counter() - start, 1e-9)
        num_calls[name] = min(_MAX_CALLS, max(1, round(_TURN_SECONDS / seconds_per_call)))
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            for _ in range(num_calls[name]):
                task()
            seconds[name].append((time.perf_counter() - start) / num_calls[name])
    return {name: statistics.median(turns) for name, turns in seconds.items()}


def mm_task() -> tuple[Callable[[], object], float]:
    """Return a float32 matrix product to compare with, and its operations in 10^9."""
    left, right = torch.ones(2, _MM_SIZE, _MM_SIZE)
    return partial(torch.mm, left, right), 2 * _MM_SIZE**3 / 1e9


def _measure(case: Case, config: BenchConfig) -> tuple[list[Row], list[Skipped], float]:
    """Return the figures of a case, what was skipped, and the speed of `torch.mm`."""
    product, operations = mm_task()
    tasks: dict[str, Callable[[], object]] = {"mm": product}
    implementations, skipped = [], []
    operands = Operands(case)
    for name in ("regard", *config.peers):
        implementation = build_implementation(name, case)
        if isinstance(implementation, Skipped):
            skipped.append(implementation)
            continue
        orders: list[Order] = [o for o in implementation.orders if o != "hvp" or config.has_hvp]
        computations = {
            f"{name} {order}": Computation(implementation, operands, order) for order in orders
        }
        try:
            computations[f"{name} {orders[-1]}"]()
        except (RuntimeError, ValueError, OSError) as error:  # OSError: no compiler
            if name != "regard":
                skipped.append(skip(name, case, brief(error)))
                continue
            if "allocate memory" not in str(error):
                raise
            raise ResourceError(
                f"{case.pattern} at length {case.length:,}: not enough memory.  "
                "Shorter: `lengths`; fewer pairs: `patterns`"
            ) from error
        implementations.append(implementation)
        tasks |= computations
    seconds = take_turns(tasks, config.repeats)
    speed = operations / seconds["mm"]
    rows = [
        _row(implementation, case, config, seconds, speed) for implementation in implementations
    ]
    return rows, skipped, speed


def _row(
    implementation: Implementation,
    case: Case,
    config: BenchConfig,
    seconds: Mapping[str, float],
    mm_speed: float,
) -> Row:
    cost = case.parse().cost(case.length, case.length, dim=case.dim)
    operations = cost.flops * case.num_heads / 1e9
    forward = seconds[f"{implementation.name} forward"]
    gradient = seconds.get(f"{implementation.name} gradient")
    hvp = seconds.get(f"{implementation.name} hvp")
    last: Order = "forward" if gradient is None else "gradient"
    forward_speed = operations / forward
    gradient_speed = None if gradient is None else 3 * operations / gradient

    def memory(order: Order) -> int | None:
        is_compiled = implementation.name == "flex"  # the compiler's own memory would be measured
        is_measured = config.has_memory and not is_compiled
        return measure_memory(case, implementation.name, order) if is_measured else None

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
