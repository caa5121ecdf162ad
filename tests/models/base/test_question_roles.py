"""Roles of the tokens of a question and its text, and the Transformer that reads them."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ConfigError
from regard.explain.module_tree import list_parts
from regard.models import Transformer, TransformerConfig
from regard.models.base.question_roles import find_roles
from regard.models.transformer.encoder_only import TransformerEncoder

SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "dim": 16,
    "num_heads": 2,
    "hidden_dim": 32,
    "dropout": 0.0,
}


@pytest.mark.parametrize(
    ("row", "length", "roles"),
    [
        ([5, 6, 2, 7, 5, 6, 2], 7, [0, 0, 0, 1, 2, 2, 0]),
        ([5, 2, 5, 2, 0, 0], 4, [0, 0, 2, 0, -1, -1]),
        ([5, 6, 5], 3, [0, 0, 0]),  # no separator, no text
        ([2, 5, 5], 3, [0, 1, 1]),  # no question
        ([5, 2], 2, [0, 0]),
    ],
)
def test_a_token_of_the_text_matches_one_of_its_own_question(row, length, roles) -> None:
    assert find_roles(torch.tensor([row]), 2, torch.tensor([length])).tolist() == [roles]
    # A row of another question, which is longer, changes nothing.
    rows = torch.tensor([row, [9, 5, 7, 6, 2, 9, 1][: len(row)]])
    assert find_roles(rows, 2, torch.tensor([length, len(row)]))[0].tolist() == roles


def test_the_encoder_reads_which_tokens_are_in_the_question() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**SIZES, separator_id=2), 20).eval()
    assert model.source_roles is not None
    ids = torch.tensor([[5, 2, 7, 5, 2]])
    states, _ = model.encode(ids)
    with torch.no_grad():
        weight = model.source_roles.weight
        weight[:, 2] = weight[:, 1]  # in both as in the text alone
    assert not torch.allclose(states, model.encode(ids)[0])
    with torch.no_grad():
        model.source_roles.weight.zero_()
    plain = Transformer(TransformerConfig(**SIZES), 20).eval()
    missing, surplus = plain.load_state_dict(model.state_dict(), strict=False)
    assert (missing, surplus) == ([], ["source_roles.weight"])
    torch.testing.assert_close(model.encode(ids)[0], plain.encode(ids)[0])


def test_token_by_token_a_transformer_with_rotary_positions_writes_the_same() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(**SIZES, positions="rotary", has_copy=True, separator_id=2)
    model = Transformer(config, 30).eval()
    source, target = torch.randint(3, 30, (2, 7)), torch.randint(3, 30, (2, 5))
    source[:, 2] = 2
    state = model.init_state(source)
    steps = torch.stack([model.decode_step(target[:, i], state) for i in range(5)], 1)
    expected = model(source, target).log_softmax(-1)  # [batch, length, vocab]
    torch.testing.assert_close(steps.log_softmax(-1), expected, rtol=0, atol=1e-5)
    one = model(torch.flip(source, (0,)), torch.flip(target, (0,)))
    torch.testing.assert_close(torch.flip(one, (0,)).log_softmax(-1), expected, rtol=0, atol=1e-5)


def test_what_only_an_encoder_decoder_with_even_heads_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.separator_id=2.: an encoder alone"):
        TransformerEncoder(TransformerConfig(**SIZES, separator_id=2), 20)
    with pytest.raises(ValueError, match="dim / num_heads must be even with rotary positions"):
        TransformerConfig(**{**SIZES, "dim": 6}, positions="rotary")


def test_the_roles_are_drawn_on_the_side_of_the_source() -> None:
    with torch.device("meta"):
        model = Transformer(TransformerConfig(**SIZES, separator_id=2), 20)
    names = [part.name for part in list_parts(model, 8)]
    assert names[:3] == ["source_embedding", "source_roles", "encoder.0"]
