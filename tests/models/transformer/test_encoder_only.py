"""The encoder of the Transformer alone, as a reader."""

from __future__ import annotations

import pytest
import torch
from tests.models.transformer.test_decoder_only import CLOSE, IDS, VARIANTS, transformer

from regard.errors import ConfigError
from regard.models import Transformer, TransformerEncoder


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_an_encoder_is_that_of_the_whole_transformer(changes):
    side, whole = transformer(TransformerEncoder, **changes), transformer(Transformer, **changes)
    for part, other in (("embedding", "source_embedding"), ("blocks", "encoder")):
        weights = getattr(whole, other).state_dict()
        getattr(side, part).load_state_dict(weights)
    torch.testing.assert_close(side.hidden_states(IDS), whole.encode(IDS)[0], **CLOSE)


def test_a_transformer_tells_no_segments_apart():
    with pytest.raises(ConfigError, match=r"^segments: a Transformer has no table of them"):
        transformer(TransformerEncoder)(IDS, segments=torch.zeros_like(IDS))


@pytest.mark.parametrize(("changes", "longest"), [({}, 10**9), ({"positions": "learned"}, 512)])
def test_learned_positions_alone_limit_the_length_of_a_text(changes, longest):
    found = transformer(TransformerEncoder, **changes).config.max_positions
    assert min(found, 10**9) == longest


def test_a_head_that_is_dropped_is_gone():
    model = transformer(TransformerEncoder)
    model.drop_head()
    assert model.head is None and not model.config.has_mlm_head
    with pytest.raises(ConfigError, match=r"^has_mlm_head=false"):
        model(IDS)
