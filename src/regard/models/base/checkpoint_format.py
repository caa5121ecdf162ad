"""How a family's parameters are named and laid out in the checkpoints that others publish.

A family declares a `Layout` for each ``model_type`` of a Hugging Face ``config.json`` that it can
read; `regard.hub` applies it in both directions. Models never read files themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from typing import Any, Literal, NamedTuple, TypeVar

from regard.errors import ConfigError

V = TypeVar("V", bool, int, float, str)


class Place(NamedTuple):
    """Where one parameter stands in a published checkpoint.

    Args:
        ours: Name of the parameter in the model.
        theirs: Names of the tensors that make it up, stacked along the first axis where several,
            which are of equal sizes then.
        is_transposed: Whether theirs have rows and columns exchanged (GPT-2's ``Conv1D``).
    """

    ours: str
    theirs: tuple[str, ...]
    is_transposed: bool = False


class LabelHead(NamedTuple):
    """What stands behind an encoder in a published classifier of texts.

    Args:
        dense: Name of the map that the first token's state goes through.
        output: Name of the map to the labels.
        activation: Between the two.
        ignored: Ends of names of parts that old files have and no classifier uses.
    """

    dense: str
    output: str
    activation: Literal["tanh", "relu"] = "tanh"
    ignored: tuple[str, ...] = ()


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
        adapt: Fits the configuration to the names of the tensors that a file has, where
            ``config.json`` does not tell which parts there are.
        renamed: Ends of names that old files have, each with its end of today.
        twins: For the name of a tensor, the name of another that it equals where the two are tied:
            a checkpoint may then have it too, or leave it out.
        labels: Of the classifiers made of it; None where there are none.
    """

    read: Callable[[Mapping[str, Any]], Any]
    write: Callable[[Any, int], dict[str, Any]]
    places: Callable[[Any], list[Place]]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    adapt: Callable[[Any, Set[str]], Any] | None = None
    renamed: tuple[tuple[str, str], ...] = ()
    twins: Mapping[str, str] = {}
    labels: LabelHead | None = None


def field_of(fields: Mapping[str, Any], name: str, default: V) -> V:
    """Take one value from ``config.json``.

    Args:
        fields: All values.
        name: Of the wanted one.
        default: What ``transformers`` takes where it is missing or null; tells the type.

    Raises:
        ConfigError: The value is of another type; whole numbers do for fractions.

    >>> field_of({"hidden_size": 64}, "hidden_size", 768), field_of({}, "layer_norm_eps", 1e-12)
    (64, 1e-12)
    """
    value = fields.get(name)
    if value is None:
        return default
    allowed = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigError(
            f"config.json: {name}={value!r}: expected a value such as {default!r}, "
            "the default of transformers."
        )
    return type(default)(value)


def require_fields(fields: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    """Refuse fields of ``config.json`` that change what is computed in a way no model here does.

    Args:
        fields: What the file says.
        only: The one value of each that is computed; a field that is missing or null has it.

    Raises:
        ConfigError: A field has another value.
    """
    for name, value in only.items():
        if fields.get(name) not in (value, None):
            raise ConfigError(
                f"config.json: {name}={json.dumps(fields[name])}: no such variant here, "
                f"{name}={json.dumps(value)} alone is computed."
            )
