"""How a family's parameters are named and laid out in the checkpoints that others publish.

A family declares a `Layout` for each ``model_type`` of a Hugging Face ``config.json`` that it can
read; `regard.interchange` applies it in both directions. Models never read files themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where one parameter stands in a published checkpoint.

    Args:
        ours: Name of the parameter in the model.
        theirs: Names of the tensors that make it up, stacked along the first axis where several.
        is_transposed: Whether theirs have rows and columns exchanged (GPT-2's ``Conv1D``).
    """

    ours: str
    theirs: tuple[str, ...]
    is_transposed: bool = False


class Layout(NamedTuple):
    """One published layout of a family.

    Args:
        read: Turns the fields of ``config.json`` into the family's configuration; raises
            `ConfigError` with the field's name where the family has no such variant.
        write: Turns the configuration and the vocabulary size into the fields of ``config.json``
            that ``transformers`` needs to open it, ``architectures`` and ``model_type`` among them.
        places: Lists every parameter of the configuration's model, tied ones once.
        prefix: What the names of the bare model's tensors (``AutoModel``) lack: such a checkpoint
            is read as if each name began with it.
        ignored: Ends of names that hold nothing trained, such as masks and position ids.
    """

    read: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any, int], dict[str, Any]]
    places: Callable[[Any], list[Place]]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
