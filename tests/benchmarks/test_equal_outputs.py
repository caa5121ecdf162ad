"""The comparison of outputs scores them as their model does, and finds the three ways equal."""

import pytest
import torch

from benchmarks import equal_outputs
from regard.data.batching import SpecialIds
from regard.generation import BeamSearchConfig
from regard.generation.decoders import seq2seq_decoder
from regard.models import Transformer, TransformerConfig

SIZES = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim": 16, "num_heads": 2}
IDS = SpecialIds(pad=0, start=1, end=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**SIZES, hidden_dim=20, dropout=0.0), 30).eval()


def test_sources_are_padded_on_the_right():
    assert equal_outputs.pad([[5, 6, 7], [8]], 0).tolist() == [[5, 6, 7], [8, 0, 0]]


def test_an_output_has_the_mean_log_probability_of_its_tokens_and_its_end(model):
    output = [9, 12]
    with torch.inference_mode():
        logits = model(torch.tensor([[5, 6, 2]]), torch.tensor([[1, 9, 12]]))[0]
    expected = logits.log_softmax(-1)[range(3), [9, 12, 2]].mean()
    value = equal_outputs.score(model, [5, 6, 2], output, IDS, 9)
    assert value == pytest.approx(float(expected), abs=1e-6)
    at_limit = equal_outputs.score(model, [5, 6, 2], output, IDS, 2)
    assert at_limit == pytest.approx(
        float(logits.log_softmax(-1)[range(2), [9, 12]].mean()), abs=1e-6
    )


def test_compiled_decoder_and_operators_write_the_same(model):
    sources = [[5, 6, 2], [7, 8, 9, 10, 2], [4, 2]]
    search = BeamSearchConfig(beam=3, max_length=6, max_length_ratio=None)
    ours = equal_outputs.write(seq2seq_decoder(model, "float32"), sources, search, IDS)
    assert ours == equal_outputs.write(model, sources, search, IDS)
    assert [len(output) <= 6 for output in ours] == [True] * 3
