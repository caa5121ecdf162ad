"""Decoding of many sources: batches, workers, precisions, and what takes the steps."""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from contextlib import nullcontext

import pytest
import torch

from regard.errors import ConfigError, WeightsError
from regard.generation import decode, decoders, scheduling, seq2seq_decoder
from regard.generation.decoders import CurrentDecoder, decoder_of, decoding_path, default_precision
from regard.generation.decoding import JoiningDecoder, TopDecoder
from regard.generation.native import library
from regard.generation.top_tokens import top_tokens
from regard.models import LstmConfig, LstmEncoderDecoder, Transformer, TransformerConfig

VOCAB = 24
SOURCES = [[5, 6, 2], [7, 2], [9, 9, 4, 8, 3, 2], [2], [11, 3, 2], [8, 7, 6, 5, 4, 3, 2]]


@pytest.fixture(scope="module")
def model():
    return build()


def build(seed=0):
    torch.manual_seed(seed)
    config = TransformerConfig(
        num_encoder_layers=1, num_decoder_layers=2, dim=16, num_heads=2, hidden_dim=32
    )
    model = Transformer(config, VOCAB).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(2.0)
    return model


def is_compiled(model):
    return isinstance(seq2seq_decoder(model), TopDecoder)


def ids_of(outputs):
    return [output.ids for output in outputs]


@pytest.mark.parametrize("beam", [1, 3])
def test_outputs_are_those_of_each_source_alone_in_their_order(model, beam):
    together = decode(model, SOURCES, beam=beam)
    alone = [decode(model, [source], beam=beam)[0] for source in SOURCES]
    assert ids_of(together) == ids_of(alone)
    assert [t.score for t in together] == pytest.approx([a.score for a in alone], abs=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_sentences_that_join_and_workers_that_share_change_no_output(
    model, beam, num_workers, monkeypatch
):
    sources, num_threads = SOURCES * 4, torch.get_num_threads()
    expected = decode(model, sources, beam=beam)
    monkeypatch.setattr(scheduling, "DECODING_TOKENS", 16 * beam)
    found = decode(model, sources, beam=beam, num_workers=num_workers)
    assert ids_of(found) == ids_of(expected)
    assert torch.get_num_threads() == num_threads


@pytest.mark.parametrize(("num_workers", "most_tokens"), [(1, 1024), (2, 275), (4, 256)])
def test_a_small_number_of_sources_is_shared_out_among_the_workers(
    model, num_workers, most_tokens, monkeypatch
):
    if not is_compiled(model):
        pytest.skip("the decoder was not compiled")
    batches = []

    def note(*args):
        batches.extend(scheduling_batches(*args))
        return batches

    scheduling_batches = scheduling.length_batches
    monkeypatch.setattr(scheduling, "length_batches", note)
    sources = [[5, 6, 7, 8, 2]] * 110
    decode(model, sources, beam=2, max_length=2, num_workers=num_workers)
    most = most_tokens // (5 * 2)
    assert [len(batch) for batch in batches][:-1] == [most] * (109 // most)


@pytest.mark.parametrize("beam", [1, 3])
def test_the_compiled_decoder_and_the_operators_write_the_same(model, beam):
    if not is_compiled(model):
        pytest.skip("the decoder was not compiled")
    hooked = copy.deepcopy(model)
    hooked.decoder_norm.register_forward_hook(lambda *_: None)
    assert decoding_path(hooked) == "PyTorch's operators: its layers have hooks"
    options = {"beam": beam, "min_length": 3, "max_length": 9, "precision": "float32"}
    compiled, operators = (decode(each, SOURCES, **options) for each in (model, hooked))
    assert ids_of(compiled) == ids_of(operators)
    assert all(len(output.ids) >= 2 for output in compiled)


def test_a_padded_tensor_is_read_as_rows(model):
    padded = torch.tensor([[5, 6, 2, 0], [7, 2, 0, 0]])
    assert ids_of(decode(model, padded)) == ids_of(decode(model, SOURCES[:2]))


@pytest.mark.parametrize("beam", [1, 4])
def test_lengths_are_kept(model, beam):
    outputs = decode(model, SOURCES, beam=beam, min_length=6, max_length=5)
    assert [len(output.ids) for output in outputs] == [5] * len(SOURCES)
    assert not any(output.is_complete for output in outputs)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_scores_are_divided_by_a_power_of_the_length(model, length_penalty):
    outputs = decode(model, SOURCES, length_penalty=length_penalty)
    for output in outputs:
        length = len(output.ids) + output.is_complete
        expected = output.log_probability / length**length_penalty
        assert output.score == pytest.approx(expected, rel=1e-12)
    assert len({len(output.ids) for output in outputs}) > 1


def test_no_sources_have_no_outputs(model):
    assert decode(model, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam"),
        ({"max_length": 0}, "max_length"),
        ({"num_workers": 0}, "num_workers must be 1 or more, not 0"),
        ({"num_workers": 1.5}, "num_workers=1.5: a whole number or none was expected"),
        ({"max_length": 2.5}, "max_length=2.5: a whole number or none was expected"),
        ({"end_id": VOCAB}, "end_id must be 0 to 23, not 24"),
        ({"precision": "int4"}, "`precision=int4` is unknown: it is one of float32, bf16, int8"),
    ],
)
def test_a_number_out_of_its_range_is_refused(model, options, message):
    with pytest.raises(ConfigError, match=message):
        decode(model, SOURCES, **options)


def test_a_source_without_tokens_is_refused_by_its_index(model):
    with pytest.raises(ConfigError, match="source 1 has no tokens"):
        decode(model, [[5, 2], []])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([5.5, 2], "source 1 must be a list of whole numbers"),
        ([True, False], "source 1 must be a list of whole numbers"),
        (["a"], "source 1 must be a list of whole numbers"),
        (7, "source 1 must be a list of whole numbers"),
        ([5, [2]], "source 1 must be a list of whole numbers"),
        ([5, VOCAB], "source 1: token ids must be 0 to 23, not 24"),
        ([-1, 2], "source 1: token ids must be 0 to 23, not -1"),
    ],
)
def test_a_source_of_other_things_than_token_ids_is_refused(model, source, message):
    with pytest.raises(ConfigError, match=message):
        decode(model, [[5, 2], source])


def test_int8_is_refused_by_name_where_the_compiled_decoder_does_not_write():
    lstm = LstmEncoderDecoder(LstmConfig(dim=8, num_encoder_layers=1, num_decoder_layers=1), VOCAB)
    with pytest.raises(ConfigError, match=r"precision=int8.*LstmEncoderDecoder is not covered"):
        decode(lstm.eval(), SOURCES, precision="int8")
    assert len(decode(lstm.eval(), SOURCES, precision="float32", beam=2)) == len(SOURCES)


@pytest.mark.parametrize(
    ("trained_in", "is_fast", "precision"),
    [("bf16", True, "bf16"), ("bf16", False, None), ("float32", True, None), ("auto", True, None)],
)
def test_what_was_trained_in_bf16_is_decoded_in_it_where_the_processor_is_fast(
    trained_in, is_fast, precision, model, monkeypatch
):
    if not is_compiled(model):
        pytest.skip("the decoder was not compiled")
    monkeypatch.setattr(library, "is_fast_in_bf16", lambda: is_fast)
    assert default_precision(model, trained_in) == precision
    lstm = LstmEncoderDecoder(LstmConfig(dim=8, num_encoder_layers=1, num_decoder_layers=1), VOCAB)
    assert default_precision(lstm, trained_in) is None


@pytest.mark.parametrize(
    ("trained_in", "is_fast", "precision"),
    [("bf16", True, "bf16"), ("bf16", False, None), ("float32", True, None)],
)
def test_what_was_trained_in_bf16_is_decoded_in_it_on_a_gpu_that_is_fast(
    trained_in, is_fast, precision, model, monkeypatch
):
    """Whatever the processor next to the GPU has."""
    monkeypatch.setattr(decoders, "is_repeated_as_graph", lambda model: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_fast)
    monkeypatch.setattr(library, "is_fast_in_bf16", lambda: not is_fast)
    assert default_precision(model, trained_in) == precision


def test_a_model_that_computes_in_bf16_is_decoded_in_it():
    model = build()
    if not is_compiled(model):
        pytest.skip("the decoder was not compiled")
    assert decoding_path(model) == "compiled decoder, float32"
    model.compute_dtype = torch.bfloat16
    assert decoding_path(model) == "compiled decoder, bf16"
    assert decoding_path(model, "int8") == "compiled decoder, int8"


def test_the_decoder_is_kept_with_the_model_until_its_weights_change():
    model = build()
    before = decoder_of(model, "float32")
    assert decoder_of(model, "float32") is before
    assert ids_of(decode(model, SOURCES, precision="float32")) == ids_of(
        decode(copy.deepcopy(model), SOURCES, precision="float32")
    )
    assert decoder_of(copy.deepcopy(model), "float32") is not before
    if not is_compiled(model):
        return
    with torch.no_grad():
        model.output_weight.zero_()
    assert decoder_of(model, "float32") is not before
    assert decode(model, SOURCES, precision="float32", beam=1, max_length=3)[0].ids == [0, 0, 0]


def test_bf16_decodes_a_copy(model):
    outputs = decode(model, SOURCES, precision="bf16", max_length=4)
    assert len(outputs) == len(SOURCES)
    assert next(model.parameters()).dtype == torch.float32


def test_a_decoder_is_made_again_where_the_weights_changed():
    model, current = build(), CurrentDecoder()
    first = current.get(model, None, seq2seq_decoder)
    assert current.get(model, None, seq2seq_decoder) is first
    model.load_state_dict(build(seed=1).state_dict())
    second = current.get(model, None, seq2seq_decoder)
    assert second is not first or not is_compiled(model)
    assert copy.deepcopy(current).decoder is None
    assert pickle.loads(pickle.dumps(current)).decoder is None


def test_threads_that_ask_at_once_share_one_decoder():
    model, current, made, num_made = build(), CurrentDecoder(), [], []
    barrier = threading.Barrier(4)

    def make(*arguments):
        num_made.append(1)
        return seq2seq_decoder(*arguments)

    def ask():
        barrier.wait()
        made.append(current.get(model, None, make))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(num_made) == 1
    assert all(each is made[0] for each in made)


def test_new_weights_never_have_the_addresses_of_those_of_a_decoder():
    model, current = build(), CurrentDecoder()
    current.get(model, None, seq2seq_decoder)
    old = weakref.ref(model.output_weight.untyped_storage())
    pointers = {weight.data_ptr() for weight in model.parameters()}
    model.to(torch.bfloat16).to(torch.float32)
    assert old() is not None
    assert not pointers & {weight.data_ptr() for weight in model.parameters()}


def test_an_error_of_a_worker_is_raised(model, monkeypatch):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.output_weight.fill_(torch.nan)
    monkeypatch.setattr(scheduling, "DECODING_TOKENS", 8)
    with pytest.raises(WeightsError, match="gives NaN for the next token"):
        decode(broken, SOURCES, num_workers=2)


def test_the_compiled_decoder_lets_rows_join(model):
    if is_compiled(model):
        assert isinstance(seq2seq_decoder(model), JoiningDecoder)
    assert not isinstance(model, JoiningDecoder)


@pytest.mark.parametrize("vocab", [1, 7, 64 * 64 - 1, 64 * 64, 64 * 64 + 1, 5000])
@pytest.mark.parametrize("k", [1, 8])
def test_the_best_tokens_are_those_of_a_full_sort(vocab, k):
    logits = 3 * torch.randn(3, vocab, generator=torch.Generator().manual_seed(vocab))
    logits[1, vocab // 2 :] = -torch.inf
    best = top_tokens(logits, k)
    assert torch.equal(best.logits, logits.sort(dim=1, descending=True).values[:, :k])
    assert torch.equal(logits.gather(1, best.ids), best.logits)
    torch.testing.assert_close(best.log_sum, logits.logsumexp(1))


@pytest.mark.parametrize("vocab", [7, 5000])
def test_a_logit_that_is_no_number_makes_the_sum_none(vocab):
    logits = torch.zeros(2, vocab)
    logits[1, 3] = torch.nan
    assert top_tokens(logits, 2).log_sum.isnan().tolist() == [False, True]
