"""The layers of a built model as a table: what goes out, parameters, operations and memory."""

from __future__ import annotations

import msgspec

from regard.explain.module_tree import Part, group_equal, group_name, list_parts
from regard.models import Model
from regard.option_checks import require_whole

TRAINING_FACTOR = 3
"""Operations of a forward and a backward pass together, in forward passes.

A backward pass costs twice as much as the forward one (Kaplan et al. 2020, "Scaling Laws for Neural
Language Models", section 2.1).
"""


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a model, or several equal ones in a row; numbers are of all of them.

    Args:
        name: Path in the model, such as ``encoder.0-5``.
        kind: What it is, with its sizes.
        depth: 0 for the parts that make up the model, 1 for the parts of the row of depth 0 above.
        count: How many equal parts it is.
        shape: Shape of its output for one row; empty where it has none of its own.
        num_parameters: Its own; a shared table is counted where it is first used.
        weight_bytes: Bytes of its parameters.
        flops_per_token: Operations of a forward pass, by token of the row.
        ties: Parts whose weights it shares.
    """

    name: str
    kind: str
    depth: int
    count: int
    shape: tuple[int, ...]
    num_parameters: int
    weight_bytes: int
    flops_per_token: float
    ties: tuple[str, ...] = ()


def layer_table(model: Model, length: int) -> list[LayerRow]:
    """List the parts of a model, first to last.

    Args:
        model: Model of any family; it may be on the meta device. Costs are those of its mode,
            training or evaluation.
        length: Positions of a row without padding (of source and target each, where there are
            two), 1 or more. Costs are by token of the row (of the target).

    Returns:
        Rows; the numbers of those of depth 0 add up to the model's.

    Raises:
        ConfigError: The length is not a whole number, 1 or more.
    """
    require_whole("length", length, 1)
    rows = []
    for group in group_equal(list_parts(model, length)):
        rows.append(_row(group, length, depth=0, name=group_name(group)))
        for parts in zip(*(part.parts for part in group), strict=True):
            inner = list(parts)
            name = inner[0].name.removeprefix(f"{group[0].name}.")
            rows.append(_row(inner, length, depth=1, name=f"{group_name(group)}.{name}"))
    return rows


def forward_flops_per_token(rows: list[LayerRow]) -> float:
    """Add up the operations of a forward pass, by token."""
    return sum(row.flops_per_token for row in rows if row.depth == 0)


def training_flops_per_token(rows: list[LayerRow]) -> float:
    """Add up the operations of a forward and a backward pass, by token: three forward passes."""
    return TRAINING_FACTOR * forward_flops_per_token(rows)


def format_table(rows: list[LayerRow]) -> list[str]:
    """Lay a table out for people.

    Returns:
        Lines: a header, then one for each row.
    """
    header = ("part", "kind", "output", "parameters", "FLOP a token", "weights")
    cells = [header, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def _row(parts: list[Part], length: int, *, depth: int, name: str) -> LayerRow:
    first = parts[0]
    return LayerRow(
        name=name,
        kind=", ".join((first.description.kind, *first.description.facts)),
        depth=depth,
        count=len(parts),
        shape=first.shape,
        num_parameters=sum(part.num_parameters for part in parts),
        weight_bytes=sum(part.weight_bytes for part in parts),
        flops_per_token=sum(part.flops for part in parts) / length,
        ties=first.ties,
    )


def _short_name(path: str) -> str:
    """Return the last part of a path; a norm is named with what it belongs to."""
    num_parts = 2 if path.endswith(".norm") else 1
    return ".".join(path.split(".")[-num_parts:])


def _cells(row: LayerRow) -> tuple[str, ...]:
    times = f" x {row.count}" if row.count > 1 and row.depth == 0 else ""
    kind = f"{row.kind}{times}"
    if row.ties:
        kind += f" (weights of {', '.join(row.ties)})"
    return (
        f"  {_short_name(row.name)}" if row.depth else row.name,
        kind,
        " x ".join(map("{:,}".format, row.shape)) or "-",
        f"{row.num_parameters:,}",
        f"{row.flops_per_token:,.0f}",
        f"{row.weight_bytes / 1e6:,.2f} MB",
    )
