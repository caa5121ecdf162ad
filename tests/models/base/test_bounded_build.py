"""A model is built where the weights of its folder have room for its sizes."""

from __future__ import annotations

import pytest

from regard.layers.attention_config import AttentionConfig
from regard.models import FAMILIES
from regard.models.base.bounded_build import TooLargeError, build_bounded


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_allocates_more_than_the_weights_have(name):
    family = FAMILIES[name]
    config = family.config()
    if "dim" not in config.__struct_fields__:
        pytest.skip("made of two other configurations")
    heads = {"num_heads": 16} if "num_heads" in config.__struct_fields__ else {}
    large = type(config)(dim=1 << 20, **heads)
    with pytest.raises(TooLargeError):
        build_bounded(lambda: family.model(large, 300, AttentionConfig()), 100_000)
