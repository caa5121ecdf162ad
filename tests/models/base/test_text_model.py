"""One rule of padding for all models: rows end with their last token, or where lengths say so."""

from __future__ import annotations

import pytest
import torch

from regard.errors import ShapeError
from regard.models import (
    Bert,
    BertConfig,
    Classifier,
    ConvS2S,
    ConvS2SConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gpt,
    GptConfig,
    LstmConfig,
    LstmEncoderDecoder,
    Transformer,
    TransformerConfig,
    mask_lengths,
)
from regard.models.base.text_model import token_lengths

SIZES = {"dim": 8, "num_heads": 2, "hidden_dim": 16}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 1}
BERT, GPT = BertConfig(num_layers=1, **SIZES), GptConfig(num_layers=1, **SIZES)
TRANSLATORS = {
    "transformer": lambda: Transformer(TransformerConfig(**LAYERS, **SIZES), 20),
    "lstm": lambda: LstmEncoderDecoder(LstmConfig(**LAYERS, dim=8), 20),
    "conv_s2s": lambda: ConvS2S(ConvS2SConfig(**LAYERS, dim=8), 20),
    "encoder_decoder": lambda: EncoderDecoderModel(
        EncoderDecoderConfig(encoder=BERT, decoder=GPT), 20
    ),
}
TARGET = torch.tensor([[1, 4, 3]])


@pytest.fixture(params=TRANSLATORS)
def translator(request):
    torch.manual_seed(0)
    return TRANSLATORS[request.param]().eval()


def test_a_padding_id_within_a_text_is_a_token():
    ids = torch.tensor([[5, 0, 6, 7], [5, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]])
    assert token_lengths(ids).tolist() == [4, 1, 3, 0]
    assert token_lengths(torch.zeros(2, 0, dtype=torch.long)).tolist() == [0, 0]


def test_the_last_token_after_a_padding_id_counts(translator):
    source = torch.tensor([[5, 0, 6, 7]])
    changed = torch.tensor([[5, 0, 6, 9]])
    assert not torch.allclose(translator(source, TARGET), translator(changed, TARGET))
    padded = torch.tensor([[5, 0, 6, 7, 0, 0]])
    torch.testing.assert_close(translator(padded, TARGET), translator(source, TARGET))
    state = translator.init_state(padded)
    step = translator.decode_step(TARGET[:, 0], state)
    torch.testing.assert_close(step, translator(source, TARGET)[:, 0])


def test_lengths_keep_a_padding_id_at_the_end_of_a_text(translator):
    source, longer = torch.tensor([[5, 6, 0]]), torch.tensor([[5, 6, 0, 8]])
    whole, three = torch.tensor([3]), torch.tensor([3])
    out = translator(source, TARGET, lengths=whole)
    torch.testing.assert_close(translator(longer, TARGET, lengths=three), out)
    assert not torch.allclose(translator(source, TARGET), out)
    state = translator.init_state(longer, lengths=three)
    torch.testing.assert_close(translator.decode_step(TARGET[:, 0], state), out[:, 0])


def test_an_encoder_and_its_classifier_take_lengths():
    torch.manual_seed(0)
    model = Classifier(Bert(BERT, 20), 3).eval()
    torch.nn.init.normal_(model.output_weight)
    out = model(torch.tensor([[5, 6, 0]]), lengths=torch.tensor([3]))
    padded = model(torch.tensor([[5, 6, 0, 4]]), lengths=torch.tensor([3]))
    torch.testing.assert_close(padded, out)
    assert not torch.allclose(model(torch.tensor([[5, 6, 0]])), out)


def test_what_follows_the_length_changes_nothing_in_a_decoder():
    torch.manual_seed(0)
    model = Gpt(GPT, 20).eval()
    ids, changed = torch.tensor([[5, 6, 0, 9]]), torch.tensor([[5, 6, 0, 7]])
    lengths = torch.tensor([3])
    first, second = model(ids, lengths=lengths), model(changed, lengths=lengths)
    torch.testing.assert_close(first[:, :3], second[:, :3])
    torch.testing.assert_close(model(ids)[:, :3], first[:, :3])


def test_an_attention_mask_gives_lengths():
    assert mask_lengths(torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])).tolist() == [2, 3, 0]
    assert mask_lengths(torch.tensor([[True, False]])).tolist() == [1]


@pytest.mark.parametrize("mask", [[[0, 1, 1]], [[1, 0, 1]]])
def test_padding_before_tokens_is_refused(mask):
    with pytest.raises(ShapeError, match=r"padding before tokens.  Pad on the right"):
        mask_lengths(torch.tensor(mask))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1, 2]), r"lengths are \[2\] int64; \[1\] whole numbers are expected"),
        (torch.tensor([[1, 1, 1]]), r"Of a mask: lengths=mask_lengths\(mask\)"),
        (torch.tensor([True]), r"lengths are \[1\] bool"),
        (torch.tensor([2.0]), r"lengths are \[1\] float32"),
        (torch.tensor([4]), r"lengths must be 0 to 3, not \[4\]"),
        (torch.tensor([-1]), r"lengths must be 0 to 3, not \[-1\]"),
    ],
)
@pytest.mark.parametrize("build", [lambda: Bert(BERT, 20), lambda: Gpt(GPT, 20)])
def test_lengths_that_are_not_those_of_the_rows_are_refused(build, lengths, message):
    with pytest.raises(ShapeError, match=message):
        build()(torch.tensor([[5, 6, 7]]), lengths=lengths)
