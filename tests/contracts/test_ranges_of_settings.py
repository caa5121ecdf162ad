"""Every number of a setting has a range: what is outside is refused when it is set."""

import math

import msgspec
import pytest

from regard.generation.sampling import SamplingConfig
from regard.layers.mesa_layer import MesaSolver
from regard.models import DECODERS, ENCODER_DECODERS, ENCODERS, VitConfig
from regard.setup.config import RunConfig

FAMILIES = {
    family.config for role in (ENCODERS, DECODERS, ENCODER_DECODERS) for family in role.values()
}
SECTIONS = {type(value) for value in msgspec.structs.asdict(RunConfig()).values()}
CONFIGS = sorted(
    {kind for kind in SECTIONS | FAMILIES if issubclass(kind, msgspec.Struct)}
    | {MesaSolver, SamplingConfig, VitConfig},
    key=lambda kind: kind.__name__,
)
UNBOUNDED = {("clip", math.inf)}  # no clipping
NEGATIVE = {"length_penalty"}


def numbers_of(config_type):
    for field in msgspec.inspect.type_info(config_type).fields:
        kinds = getattr(field.type, "types", (field.type,))
        if any(isinstance(kind, msgspec.inspect.FloatType) for kind in kinds):
            yield from ((field.name, value) for value in (math.nan, math.inf, -math.inf))
        if any(
            isinstance(kind, msgspec.inspect.FloatType | msgspec.inspect.IntType) for kind in kinds
        ):
            yield field.name, -1


CASES = [
    (config_type, name, value)
    for config_type in CONFIGS
    for name, value in numbers_of(config_type)
    if (name, value) not in UNBOUNDED and not (name in NEGATIVE and value == -1)
]


@pytest.mark.parametrize(("config_type", "name", "value"), CASES)
def test_numbers_outside_their_range_are_refused_by_name(config_type, name, value):
    with pytest.raises(ValueError, match=name):
        config_type(**{name: value})


def test_settings_are_walked():
    assert len(CASES) > 180
