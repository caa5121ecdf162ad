"""Rotary angles in ``config.json``: read as ``transformers`` reads them, and written for it.

Releases of ``transformers`` before 5 have ``rope_theta`` and ``rope_scaling``, later ones
``rope_parameters`` with all of it; in a file with both ``rope_scaling`` counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from regard.errors import ConfigError
from regard.layers.rotary_scaling import (
    ROTARY_SCALINGS,
    LongRopeScaling,
    PlainAngles,
    RotaryScaling,
    YarnScaling,
    default_yarn_factor,
)
from regard.models.base.checkpoint_format import field_of, require_fields

R = TypeVar("R", bound=RotaryScaling)
_KINDS = {str(kind.__struct_config__.tag): kind for kind in ROTARY_SCALINGS} | {
    "su": LongRopeScaling  # its name in the first releases of Phi-3
}
_ORIGINAL_LENGTH = "original_max_position_embeddings"
_OPTIONAL: dict[type[RotaryScaling], frozenset[str]] = {
    YarnScaling: frozenset({"beta_fast", "beta_slow", "attention_factor"})
}
"""Numbers that a file need not have."""


class RotaryFields(NamedTuple):
    """Where a format has its angles, and what it has without these fields.

    Args:
        base: Name of the field of the base next to ``rope_parameters``.
        default_base: Without that field.
        fraction: Name of the field of the part of a head that is rotated.
        default_fraction: Without that field; None for a format that rotates whole heads alone.
    """

    base: str = "rope_theta"
    default_base: float = 10000.0
    fraction: str = "partial_rotary_factor"
    default_fraction: float | None = None

    def read(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Read the angles.

        Args:
            fields: All values of ``config.json``.

        Returns:
            The settings ``rotary_base``, ``rotary_scaling``, of a format that has it
            ``rotary_fraction``, and ``max_positions`` where the angles limit it.

        Raises:
            ConfigError: A value is of another type, or asks for what is not computed here.
        """
        name = "rope_scaling" if fields.get("rope_scaling") else "rope_parameters"
        rope = fields.get(name) or {}
        if not isinstance(rope, Mapping):
            raise ConfigError(f"config.json: {name}={json.dumps(rope)}: an object was expected.")
        if by_layer := [key for key, value in rope.items() if isinstance(value, Mapping)]:
            raise ConfigError(
                f"config.json: {name}.{by_layer[0]}: no such variant here, all layers have the "
                "same angles."
            )
        outside = {name: fields.get(name) for name in (self.base, self.fraction)}
        own_names = {"rope_theta": self.base, "partial_rotary_factor": self.fraction}
        inside = {
            own_names.get(str(key), str(key)): value
            for key, value in rope.items()
            if value is not None
        }
        rope = outside | inside
        scaling = read_scaling(fields, rope, name)
        settings: dict[str, Any] = {
            "rotary_base": field_of(rope, self.base, self.default_base),
            "rotary_scaling": scaling,
        }
        if isinstance(scaling, LongRopeScaling):
            settings["max_positions"] = _original_length(fields, rope)
        if self.default_fraction is not None:
            part = field_of(rope, self.fraction, self.default_fraction)
            return settings | {"rotary_fraction": part}
        for key, values in ((self.fraction, outside), (f"{name}.{self.fraction}", inside)):
            require_fields({key: values.get(self.fraction)}, {key: 1.0})
        return settings


def read_scaling(fields: Mapping[str, Any], rope: Mapping[str, Any], name: str) -> RotaryScaling:
    """Read how angles are changed for long texts.

    Args:
        fields: All values of ``config.json``.
        rope: Those of the angles.
        name: The name of these, for messages.

    Returns:
        The rule.

    Raises:
        ConfigError: A value is missing or of another type, or asks for what is not computed here.
    """
    key = "rope_type" if rope.get("rope_type") is not None else "type"
    rope_type = rope.get(key) or "default"
    if not isinstance(rope_type, str) or rope_type not in _KINDS:
        raise ConfigError(
            f"config.json: {name}.{key}={json.dumps(rope_type)}: no such variant here, known are "
            f"{', '.join(_KINDS)}."
        )
    kind = _KINDS[rope_type]
    if kind is LongRopeScaling:
        return _read_longrope(fields, rope, name)
    values = {field.name: rope.get(field.name) for field in msgspec.structs.fields(kind)}
    if _ORIGINAL_LENGTH in values:
        values[_ORIGINAL_LENGTH] = _original_length(fields, rope)
    if kind is YarnScaling:
        truncate = f"{name}.truncate"
        require_fields({truncate: rope.get("truncate")}, {truncate: True})
        values["attention_factor"] = _yarn_factor(rope)
    missing = [key for key, value in values.items() if value is None]
    if needed := [key for key in missing if key not in _OPTIONAL.get(kind, frozenset())]:
        raise ConfigError(f"config.json: {name}.{needed[0]} is missing, which {rope_type} needs.")
    numbers = {
        key: field_of(values, key, 1 if key == _ORIGINAL_LENGTH else 1.0)
        for key in values
        if key not in missing
    }
    return _build_rule(kind, numbers, name)


def _build_rule(kind: type[R], numbers: Mapping[str, Any], name: str) -> R:
    """Return a rule with its numbers; raise ConfigError with their name in the file."""
    try:
        return kind(**numbers)
    except ValueError as error:
        raise ConfigError(f"config.json: {name}.{error}.") from error


def _original_length(fields: Mapping[str, Any], rope: Mapping[str, Any]) -> Any:
    """Return the longest text of the first training; None where nothing says it."""
    # The value next to the angles counts first, and the longest text is the last resort.
    lengths = (
        fields.get(_ORIGINAL_LENGTH),
        rope.get(_ORIGINAL_LENGTH),
        fields.get("max_position_embeddings"),
    )
    return next((length for length in lengths if length is not None), None)


def _read_longrope(
    fields: Mapping[str, Any], rope: Mapping[str, Any], name: str
) -> LongRopeScaling:
    """Read the rule that has a divisor for each angle, and others for long texts.

    Args:
        fields: All values of ``config.json``.
        rope: Those of the angles.
        name: The name of these, for messages.

    Returns:
        The rule.

    Raises:
        ConfigError: A value is missing or of another type, or asks for what is not computed here.
    """
    of_own_code = {f"{name}.{key}": rope.get(key) for key in ("short_mscale", "long_mscale")}
    require_fields(of_own_code, dict.fromkeys(of_own_code))
    for key in ("short_factor", "long_factor"):
        divisors = rope.get(key)
        numbers = divisors if isinstance(divisors, list) else []
        if not numbers or not all(type(number) in (int, float) for number in numbers):
            raise ConfigError(
                f"config.json: {name}.{key}={json.dumps(divisors)[:80]}: a list of numbers was "
                "expected, which longrope needs."
            )
    most = field_of(fields, "max_position_embeddings", 1)
    original = field_of({_ORIGINAL_LENGTH: _original_length(fields, rope)}, _ORIGINAL_LENGTH, 1)
    factor = field_of(rope, "factor", most / max(1, original))
    amplitude = 1.0
    if factor > 1 and original > 1:
        amplitude = math.sqrt(1 + math.log(factor) / math.log(original))
    numbers = {
        "short_factor": tuple(map(float, rope["short_factor"])),
        "long_factor": tuple(map(float, rope["long_factor"])),
        "factor": factor,
        "attention_factor": field_of(rope, "attention_factor", amplitude),
    }
    return _build_rule(LongRopeScaling, numbers, name)


def _yarn_factor(rope: Mapping[str, Any]) -> float | None:
    """Return YaRN's factor on queries and keys; None where it is the paper's, of ``factor``."""
    if (factor := rope.get("attention_factor")) is not None:
        return factor
    weights = [rope.get(name) for name in ("mscale", "mscale_all_dim")]
    if not all(weights):
        return None
    divisor = field_of(rope, "factor", 1.0)
    over, under = (default_yarn_factor(divisor, float(weight or 0)) for weight in weights)
    return over / under


def write_rotary(
    base: float, scaling: RotaryScaling, max_positions: int, *, fraction: float | None = None
) -> dict[str, Any]:
    """Return the fields of the angles, for old and new releases of ``transformers``.

    Args:
        base: Of the angles.
        scaling: How they are changed for long texts.
        max_positions: Tokens of the longest text; where the angles limit it, of one with those that
            are computed here.
        fraction: Part of a head that is rotated; None for a format that has no field for it.

    Returns:
        The values of the fields, by name.
    """
    rule, lengths = scaling_fields(scaling), {}
    if isinstance(scaling, LongRopeScaling):
        rule[_ORIGINAL_LENGTH] = max_positions
        lengths = {
            _ORIGINAL_LENGTH: max_positions,
            "max_position_embeddings": round(scaling.factor * max_positions),
        }
    part = {} if fraction is None else {"partial_rotary_factor": fraction}
    return {
        "rope_theta": base,
        "rope_parameters": {"rope_theta": base, **part, **rule},
        **({} if scaling == PlainAngles() else {"rope_scaling": rule}),
        **part,
        **lengths,
    }


def scaling_fields(scaling: RotaryScaling) -> dict[str, Any]:
    """Return the name of a rule and its numbers, those that are set.

    >>> scaling_fields(YarnScaling(factor=2.0))["rope_type"]
    'yarn'
    """
    numbers = msgspec.structs.asdict(scaling)
    return {
        "rope_type": scaling.rope_type,
        **{name: number for name, number in numbers.items() if number is not None},
    }
