"""``regard info``: what a model folder holds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

Flag = Parameter(negative=())


def info(model: str, *, json: Annotated[bool, Flag] = False) -> int:
    """Tell what a model folder holds: architecture, data, figures.

    Parameters
    ----------
    model
        Folder of a model.
    json
        One JSON object instead of text.
    """
    from regard.tasks.information import inspect_folder

    found = inspect_folder(model)
    if json:
        print(msgspec.json.encode(found).decode())
        return 0
    config = found.config
    data = config.data
    source = f"{data.path}   sha256 {data.sha256[:16]}" if data.path else "the embedded corpus"
    print(f"Model   {found.summary}   {found.num_parameters:,} parameters   sha {found.sha}")
    print(f"Tokens  {config.tokenizer.kind} {found.vocab_size:,}")
    print(f"Data    {source}   {data.languages or 'languages guessed'}")
    print(
        f"Cost    {found.flops_per_token / 1e6:.1f} MFLOP a target token in training "
        f"(forward and backward), {found.weight_bytes / 1e6:.1f} MB of weights"
    )
    state = "finished" if found.is_finished else "not finished"
    print(f"Run     {state}, {found.num_evaluations} evaluations, {found.step:,} steps")
    for name, value in found.figures.items():
        print(f"        {name} {value:.3f}")
    print("Parts")
    for name, shape, count in found.layers:
        print(f"        {name:58s} {shape:>14s} {count:>12,}")
    return 0
