"""Every number of a setting has a range: what is outside is refused when it is set."""

import math

import msgspec
import pytest

from regard.attention import Cosine, DotProduct, Local
from regard.errors import ConfigError
from regard.generation.sampling import SamplingConfig
from regard.layers import (
    GatedConvolution,
    LayerNorm,
    Linear,
    LongformerAttention,
    MesaMixer,
    RMSNorm,
    Rotary,
)
from regard.layers.mesa_layer import MesaSolver
from regard.models import DECODERS, ENCODER_DECODERS, ENCODERS, VitConfig
from regard.setup.config import RunConfig
from regard.training import ExponentialMovingAverage

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


WHOLE = [
    (config_type, field.name)
    for config_type in CONFIGS
    for field in msgspec.inspect.type_info(config_type).fields
    if isinstance(field.type, msgspec.inspect.IntType)
]


@pytest.mark.parametrize(("config_type", "name"), WHOLE)
@pytest.mark.parametrize("value", [1.5, "2"])
def test_a_value_that_is_no_whole_number_is_refused(config_type, name, value):
    with pytest.raises(ConfigError) as caught:
        config_type(**{name: value})
    assert str(caught.value) == f"{name}={value}: a whole number was expected."


LAYERS = {
    "norm": (lambda: LayerNorm(4, epsilon=-1.0), "epsilon must be 0 or more, not -1.0"),
    "rms norm": (lambda: RMSNorm(4, epsilon=math.nan), "epsilon must be 0 or more, not nan"),
    "size of a norm": (lambda: RMSNorm(0), "dim must be a whole number, 1 or more, not 0"),
    "linear": (lambda: Linear(4, 0), "out_dim must be a whole number, 1 or more, not 0"),
    "maps": (
        lambda: Linear(4, 8, num_splits=3),
        "out_dim=8: must be a multiple of num_splits=3.",
    ),
    "initial scale": (
        lambda: Linear(4, 8, init_scale=math.inf),
        "init_scale must be 0 or more, not inf",
    ),
    "rotary": (lambda: Rotary(base=0), "base must be above 0, not 0"),
    "convolution": (
        lambda: GatedConvolution(4, 0, is_causal=True),
        "kernel_width must be a whole number, 1 or more, not 0",
    ),
    "longformer": (
        lambda: LongformerAttention(8, 2, pattern=Local(2, 2), num_global=-1),
        "num_global must be a whole number, 0 or more, not -1",
    ),
    "mesa heads": (lambda: MesaMixer(9, 2), "dim=9: must be a multiple of num_heads=2."),
    "mesa": (
        lambda: MesaMixer(8, 2, regularization_min=1.0),
        "regularization_min must be above 0 and below 1, not 1.0",
    ),
    "average": (
        lambda: ExponentialMovingAverage(Linear(2, 2), 1.5),
        "decay must be at least 0 and below 1, not 1.5",
    ),
    "scale of scores": (lambda: DotProduct(math.nan), "scale must be a finite number, not nan"),
    "temperature": (
        lambda: Cosine("2"),
        "temperature must be a finite number or a tensor, not '2'",
    ),
    "soft cap": (
        lambda: DotProduct(soft_cap="5"),
        "soft_cap must be above 0 and finite, or None, not '5'",
    ),
}


@pytest.mark.parametrize(("build", "message"), LAYERS.values(), ids=LAYERS)
def test_a_layer_is_not_built_with_a_number_outside_its_range(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_most_settings_are_among_the_cases():
    assert len(WHOLE) > 60
    assert len(CASES) > 180
