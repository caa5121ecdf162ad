"""The compiled decoder against PyTorch's operators, on small random models."""

import os
import signal
import sys
import weakref

import pytest
import torch
from tests.processes import start_process

from regard.attention.backends.cpu_kernels import loading
from regard.data.batching import SpecialIds
from regard.errors import ConfigError, ShapeError, WeightsError
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.native import (
    NativeCausalDecoder,
    NativeDecoder,
    library,
    why_through_operators,
)
from regard.generation.native.coverage import self_attention_of
from regard.layers.attention_config import AttentionConfig
from regard.layers.lora import add_low_rank
from regard.layers.rotary_scaling import YarnScaling
from regard.models import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gpt,
    GptConfig,
    LstmConfig,
    LstmEncoderDecoder,
    MesaNet,
    MesaNetConfig,
    Transformer,
    TransformerConfig,
)
from regard.models.transformer.decoder_only import TransformerDecoder

pytestmark = pytest.mark.skipif(
    library.load_fastest() is None, reason="the decoder was not compiled"
)

MARIAN = {
    "norm": "post",
    "positions": "sinusoidal_halves",
    "activation": "silu",
    "has_output_bias": True,
}
BART = {
    "norm": "post",
    "positions": "learned",
    "position_offset": 2,
    "max_positions": 5,
    "activation": "gelu",
    "has_embedding_norm": True,
    "has_embedding_scale": False,
    "has_output_bias": True,
}
MODERN = {"positions": "rotary", "activation": "swiglu", "dim": 36, "hidden_dim": 77}
GPT_2 = {
    "positions": "learned",
    "max_positions": 6,
    "norm_kind": "layer",
    "activation": "gelu_tanh",
    "bias": True,
}

GEMMA = {
    "norm_kind": "zero_centered_rms",
    "has_embedding_scale": True,
    "query_pre_attn_scalar": 3.0,
    "rotary_scaling": YarnScaling(factor=4.0, original_max_position_embeddings=8),
}
QWEN = {"num_kv_heads": 2, "head_dim": 10, "qkv_bias": True, "qk_norm": True, "window": (0, 7)}


def draw_vectors(model):
    """Draw norms and biases too, which begin as ones and zeros."""
    for parameter in model.parameters():
        if parameter.dim() == 1 or len(parameter) == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return model.eval()


def translator(settings, *, vocab=61, attention="full", seed=0):
    torch.manual_seed(seed)
    sizes = {"dim": 30, "num_heads": 3, "hidden_dim": 50, "dropout": 0.0}
    config = TransformerConfig(num_encoder_layers=1, num_decoder_layers=2, **{**sizes, **settings})
    patterns = AttentionConfig(decoder=attention)
    return draw_vectors(Transformer(config, vocab, patterns))


def language_model(settings, *, vocab=45, attention="full"):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "dim": 24, "num_heads": 4, "hidden_dim": 40, "dropout": 0.0}
    patterns = AttentionConfig(pattern=attention)
    return draw_vectors(Gpt(GptConfig(**{**sizes, **settings}), vocab, patterns))


def sources(batch, length, vocab):
    ids = torch.randint(3, vocab, (batch, length))
    for row in range(1, batch):
        ids[row, torch.randint(1, length + 1, ()) :] = 0
    return ids


def assert_close(logits, expected):
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.inference_mode()
def compare(model, native, states, rows, steps, *, new=(1,)):
    """Decode drawn tokens on both paths; rows leave, repeat and change places after each step."""
    for step in range(steps):
        shape = (rows,) if isinstance(native, NativeDecoder) else (rows, new[step % len(new)])
        ids = torch.randint(3, model.vocab_size, shape)
        expected = model.decode_step(ids, states[0])
        if step % 2:
            top = native.decode_top(ids, states[1], 7)
            best = expected.topk(7)
            assert torch.equal(top.ids, best.indices)
            assert_close(top.logits, best.values)
            assert_close(
                top.logits - top.log_sum[:, None], best.values - expected.logsumexp(-1)[:, None]
            )
        else:
            assert_close(native.decode_step(ids, states[1]), expected)
        selected = torch.randint(0, rows, (max(1, rows + step % 4 - 2),))
        rows = len(selected)
        for state in states:
            state.select(selected)


@pytest.mark.parametrize("batch", [1, 5, 70])
@pytest.mark.parametrize("settings", [{}, MARIAN, BART, MODERN])
def test_a_translator_decodes_as_with_operators(settings, batch):
    model = translator(settings)
    native = NativeDecoder(model)
    ids = sources(batch, 9, model.vocab_size)
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, batch, 9)


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
@pytest.mark.parametrize(
    "settings", [{"has_copy": True}, {"has_copy": True, "separator_id": 4, **MARIAN}]
)
def test_a_model_that_copies_decodes_as_with_operators(settings, precision):
    model = translator(settings, vocab=300)
    native = NativeDecoder(model, precision=precision)
    ids = sources(6, 9, 20)  # few tokens, which are repeated
    ids[:, 2] = 4
    ids[5] = 0
    states = model.init_state(ids), native.init_state(ids)
    if precision == "float32":
        compare(model, native, states, len(ids), 9)
        return
    for step in range(4):
        tokens = torch.randint(3, model.vocab_size, (len(ids),))
        expected = model.decode_step(tokens, states[0])
        if step % 2:
            top = native.decode_top(tokens, states[1], 5)
            assert (top.logits - expected.gather(1, top.ids)).abs().max() < 0.1
            assert (top.log_sum == 0).all()
        else:
            assert (native.decode_step(tokens, states[1]) - expected).abs().max() < 0.1


def test_rows_of_many_blocks_are_decoded():
    model = translator({})
    native = NativeDecoder(model, num_threads=2)
    ids = sources(277, 4, model.vocab_size)
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, len(ids), 2)


@pytest.mark.parametrize(
    ("settings", "attention"),
    [
        ({}, "full"),
        ({"num_kv_heads": 2}, ("local:7", "full")),
        (GPT_2, "local:5"),
        ({"head_dim": 10, "num_kv_heads": 1}, "local:1"),
        (QWEN, "full"),
        (GPT_2 | {"qk_norm": True}, "full"),
        ({"window": 1, "num_kv_heads": 1}, "full"),
        (GEMMA, "full"),
        (GEMMA | QWEN, "full"),
        (GEMMA | QWEN | {"head_dim": 12, "rotary_fraction": 0.5}, "full"),
        ({"rotary_fraction": 0.4, "bias": True}, "full"),
        (GEMMA | {"norm_kind": "layer", "bias": True}, "full"),
    ],
)
def test_a_language_model_decodes_prompts_and_tokens_as_with_operators(settings, attention):
    model = language_model(settings, attention=attention)
    native = NativeCausalDecoder(model)
    states = model.init_state(), native.init_state()
    # 300 tokens are more than one piece, and 140 more than one block and the window's ring.
    compare(model, native, states, 3, 24, new=(1, 2, 300, 1, 140, 9, 1, 1))
    assert len(states[1]) == len(states[0])


def test_the_decoder_of_the_transformer_alone_is_covered():
    torch.manual_seed(0)
    config = TransformerConfig(num_decoder_layers=1, dim=16, num_heads=2, hidden_dim=20, **MARIAN)
    model = draw_vectors(TransformerDecoder(config, 31))
    native = NativeCausalDecoder(model)
    compare(model, native, (model.init_state(), native.init_state()), 2, 5)


def test_a_bert_that_writes_with_a_gpt_is_covered():
    torch.manual_seed(0)
    config = EncoderDecoderConfig(
        encoder=BertConfig(num_layers=1, dim=12, num_heads=2, hidden_dim=20),
        decoder=GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=20),
    )
    model = draw_vectors(EncoderDecoderModel(config, 31))
    native = NativeDecoder(model)
    ids = sources(3, 6, 31)
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, 3, 6)


@pytest.mark.parametrize(("pattern", "length"), [("full", 150), ("local:5", 40)])
def test_long_sources_and_windows_are_encoded_as_with_operators(pattern, length):
    torch.manual_seed(0)
    config = TransformerConfig(
        num_encoder_layers=2, num_decoder_layers=1, dim=12, num_heads=2, hidden_dim=20
    )
    model = draw_vectors(Transformer(config, 31, AttentionConfig(encoder=pattern)))
    native = NativeDecoder(model)
    ids = sources(3, length, 31)
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, 3, 4)


@pytest.mark.parametrize("settings", [{"separator_id": 4}, {"encoder": "strided:3"}])
def test_an_encoder_that_is_not_covered_goes_through_operators(settings):
    torch.manual_seed(0)
    patterns = AttentionConfig(encoder=settings.pop("encoder", "full"))
    config = TransformerConfig(
        num_encoder_layers=2, num_decoder_layers=1, dim=12, num_heads=2, hidden_dim=20, **settings
    )
    model = draw_vectors(Transformer(config, 31, patterns))
    native = NativeDecoder(model)
    ids = sources(3, 9, 31)
    ids[:, 2] = 4
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, 3, 4)


def test_a_source_without_tokens_is_decoded_as_with_operators():
    model = translator({})
    native = NativeDecoder(model)
    ids = torch.tensor([[5, 6, 7], [0, 0, 0]])
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, 2, 3)


def test_adapted_maps_are_packed_with_their_change():
    model = translator({})
    add_low_rank(model, rank=2, alpha=4.0)
    for parameter in model.parameters():
        if len(parameter) == 2 or parameter.shape[-1] == 2:
            torch.nn.init.normal_(parameter)
    native = NativeDecoder(model)
    ids = sources(2, 5, model.vocab_size)
    with torch.inference_mode():
        states = model.init_state(ids), native.init_state(ids)
    compare(model, native, states, 2, 3)


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("settings", [{}, MARIAN, BART, {"has_copy": True}])
def test_search_writes_the_tokens_that_it_writes_with_operators(settings, beam):
    model = translator(settings, seed=beam)
    with torch.no_grad():
        model.output_weight.mul_(3.0)
    ids = sources(12, 7, model.vocab_size)
    config = BeamSearchConfig(beam=beam, max_length=25, min_length=2)
    expected = beam_search(model, ids, config, SpecialIds())
    found = beam_search(NativeDecoder(model), ids, config, SpecialIds())
    assert [[output.ids for output in row] for row in found] == [
        [output.ids for output in row] for row in expected
    ]


@torch.inference_mode()
def test_a_row_has_the_same_bits_in_any_batch_and_with_any_number_of_threads():
    model = translator({})
    ids = sources(150, 8, model.vocab_size)
    tokens = torch.randint(3, model.vocab_size, (4, 150))
    results = []
    for rows, threads in ((150, 1), (150, 2), (3, 1)):
        native = NativeDecoder(model, num_threads=threads)
        state = native.init_state(ids)
        state.select(torch.arange(rows))
        for step in tokens:
            logits = native.decode_step(step[:rows], state)
        results.append(logits[:3])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_threads_that_share_the_outputs_of_a_few_rows_change_no_bit(precision):
    sizes = {"dim": 64, "num_heads": 4, "hidden_dim": 9_000, "has_copy": True}
    model = translator(sizes, vocab=9_000)  # maps that are large enough to be shared
    ids = sources(3, 8, model.vocab_size)
    tokens = torch.randint(3, model.vocab_size, (3, 3))
    results = []
    for threads in (1, 2, 3):
        native = NativeDecoder(model, precision=precision, num_threads=threads)
        state = native.init_state(ids)
        tops = [native.decode_top(step, state, 9) for step in tokens]
        results.append([*tops[-1], native.decode_step(tokens[0], state)])
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@torch.inference_mode()
def decode_again_in_a_fork():
    """Decode with two threads here and in a fork; end with 0 where both give the same."""
    model = translator({})
    native = NativeDecoder(model, num_threads=2)
    ids = sources(40, 8, model.vocab_size)
    token = torch.full((40,), 5)
    expected = native.decode_step(token, native.init_state(ids))
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        is_equal = torch.equal(native.decode_step(token, native.init_state(ids)), expected)
        os._exit(0 if is_equal else 1)
    sys.exit(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_a_fork_decodes_with_threads_of_its_own_and_waits_for_none_of_its_parent():
    process = start_process(decode_again_in_a_fork)
    process.join()
    assert process.exitcode == 0


@torch.inference_mode()
def test_sources_join_those_that_are_being_decoded():
    model = translator({})
    native = NativeDecoder(model)
    ids = sources(5, 8, model.vocab_size)
    alone = native.init_state(ids[3:])
    joined = native.init_state(ids[:3])
    for token in (4, 5):
        native.decode_step(torch.tensor([token] * 3), joined)
    native.add_sources(ids[3:], joined)
    joined.select(torch.tensor([2, 3, 4]))
    for token in (6, 7):
        expected = native.decode_step(torch.tensor([token] * 2), alone)
        found = native.decode_step(torch.tensor([token] * 3), joined)[1:]
    assert torch.equal(found, expected)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("settings", "attention"), [({}, "full"), (GPT_2, "full"), ({}, "local:5"), (QWEN, "full")]
)
def test_texts_of_other_lengths_join_those_that_are_continued(settings, attention):
    model = language_model(settings | {"max_positions": 200}, attention=attention)
    native = NativeCausalDecoder(model)
    joined, alone = native.init_state(), []
    for length in (4, 70, 1, 33):  # around the ring of a window, and through a larger room
        prompt = torch.randint(3, model.vocab_size, (2, length))
        states = [native.init_state() for _ in range(2)]
        for state in states:
            native.decode_step(prompt, state)
        alone.append(states[0])
        native.join(joined, states[1])
    assert len(joined) == 70
    ids = torch.randint(3, model.vocab_size, (8, 60))
    for step in range(60):
        column = ids[:, step : step + 1]
        rows = native.decode_step(column, joined)
        pairs = zip(alone, column.split(2), strict=True)
        expected = torch.cat([native.decode_step(tokens, state) for state, tokens in pairs])
        assert torch.equal(rows, expected)
    joined.select(torch.tensor([7, 2]))
    native.join(joined, alone[1])
    more = native.decode_step(torch.tensor([[5], [6], [7], [8]]), joined)
    assert torch.equal(more[2:], native.decode_step(torch.tensor([[7], [8]]), alone[1]))


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_rounding_changes_logits_by_less_than_a_hundredth_of_the_largest(precision):
    model = translator({"dim": 64, "num_heads": 4, "hidden_dim": 256}, vocab=200)
    exact, rounded = NativeDecoder(model), NativeDecoder(model, precision=precision)
    ids = sources(40, 8, model.vocab_size)
    states = exact.init_state(ids), rounded.init_state(ids)
    for _ in range(4):
        tokens = torch.randint(3, model.vocab_size, (40,))
        expected = exact.decode_step(tokens, states[0])
        found = rounded.decode_step(tokens, states[1])
        difference = (found - expected).abs().max() / expected.abs().max()
        assert 0 < difference < 0.01


@torch.inference_mode()
def test_bf16_is_as_close_to_float32_as_the_operators_in_bf16():
    model = translator({"dim": 64, "num_heads": 4, "hidden_dim": 256}, vocab=200)
    ids, tokens = sources(40, 8, model.vocab_size), torch.randint(3, model.vocab_size, (40,))
    expected = model.decode_step(tokens, model.init_state(ids))
    native = NativeDecoder(model, precision="bf16")
    found = native.decode_step(tokens, native.init_state(ids))
    model.to(torch.bfloat16)
    operators = model.decode_step(tokens, model.init_state(ids)).float()
    assert (found - expected).abs().max() < (operators - expected).abs().max()
    assert (found - operators).abs().max() < 2 * (operators - expected).abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_most_outputs_are_those_of_float32(precision):
    model = translator({"dim": 64, "num_heads": 4, "hidden_dim": 256}, vocab=200)
    model.output_weight.mul_(3.0)
    ids, config = sources(40, 8, 200), BeamSearchConfig(beam=4, max_length=8, min_length=2)
    exact, rounded = (
        beam_search(NativeDecoder(model, precision=name), ids, config, SpecialIds())
        for name in ("float32", precision)
    )
    equal = [one[0].ids == other[0].ids for one, other in zip(exact, rounded, strict=True)]
    assert sum(equal) > len(equal) / 2


@torch.inference_mode()
def test_keys_and_values_that_no_row_needs_make_room_for_others():
    model = language_model({}, attention="local:5")
    native = NativeCausalDecoder(model)
    state = native.init_state()
    ids = torch.full((4, 1), 5)
    sizes = []
    for _ in range(700):
        native.decode_step(ids, state)
        sizes.append(state.num_bytes)
        state.select(torch.tensor([0, 0, 1, 2]))
    assert sizes[-1] == sizes[200]


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_a_weight_that_is_not_a_number_is_noticed(precision):
    model = translator({})
    model.decoder_blocks[0].feed_forward.outer.weight.data[0, 0] = torch.nan
    native = NativeDecoder(model, precision=precision)
    ids = sources(2, 4, model.vocab_size)
    assert native.decode_top(torch.tensor([1, 1]), native.init_state(ids), 3).log_sum.isnan().all()
    with pytest.raises(WeightsError, match="gives NaN for the next token"):
        beam_search(native, ids, BeamSearchConfig(beam=2))


@torch.inference_mode()
@pytest.mark.parametrize("name", ["norm", "gate", "logit"])
def test_a_model_that_copies_and_gives_nan_says_so_for_any_source(name):
    model = translator({"has_copy": True})
    spoilt = {
        "norm": model.decoder_norm.weight,
        "gate": model.copy_head.gate.weight,
        "logit": model.output_weight[7],
    }
    spoilt[name].fill_(torch.nan)
    native = NativeDecoder(model)
    state = native.init_state(torch.tensor([[0, 5, 2], [0, 2, 2]]))
    for k in (1, 8, model.vocab_size):
        top = native.decode_top(torch.tensor([1, 1]), state, k)
        assert (top.logits - top.log_sum[:, None]).isnan().all()


@torch.inference_mode()
@pytest.mark.parametrize("start_id", [1, 4])
def test_copies_continue_as_in_the_operators(start_id):
    model = translator({"has_copy": True, "start_id": start_id}, vocab=9)
    model.copy_head.continuation.fill_(40.0)  # so that all that is copied continues
    model.copy_head.gate.weight.zero_()
    model.copy_head.gate.bias.fill_(-20.0)  # and all is copied
    native, ids = NativeDecoder(model), torch.tensor([[5, 6, 7, 5, 8, 2], [6, 6, 3, 2, 0, 0]])
    ours, expected = native.init_state(ids), model.init_state(ids)
    for tokens in ([start_id, start_id], [5, 6], [7, 3]):
        last = torch.tensor(tokens)
        steps = native.decode_step(last, ours), model.decode_step(last, expected)
        assert_close(*steps)
    assert steps[0].argmax(-1).tolist() == [5, 2]  # what follows 7, and 3


@torch.inference_mode()
def test_a_model_that_copies_may_give_a_token_no_probability():
    model = translator({"has_copy": True, "has_output_bias": True}, vocab=9)
    model.output_bias.view(-1)[[0, 4, 8]] = -torch.inf
    native, ids = NativeDecoder(model), torch.tensor([[0, 5, 2]])
    expected = model.decode_step(torch.tensor([1]), model.init_state(ids))
    top = native.decode_top(torch.tensor([1]), native.init_state(ids), 9)
    assert_close(top.logits[:, :7], expected.topk(7).values)
    assert top.ids[0, :7].tolist() == expected.topk(7).indices[0].tolist()
    assert (top.logits[0, 7:] == -torch.inf).all()


@torch.inference_mode()
def test_sentences_that_follow_each_other_need_no_more_positions():
    model = translator({})
    native = NativeDecoder(model)
    state = native.init_state(torch.tensor([[5, 2]]))
    for _ in range(20):
        native.decode_top(torch.tensor([1]), state, 2)
        native.add_sources(torch.tensor([[5, 2]]), state)
        state.select(torch.tensor([1]))
    assert len(state) == 0


@torch.inference_mode()
def test_tables_of_positions_live_while_they_are_read(monkeypatch):
    native = NativeDecoder(translator({}))
    positions, read = native._packed.source_positions, native._packed.library.regard_state_read
    tables = []

    def read_while_another_thread_needs_more(*arguments):
        old = weakref.ref(positions.up_to(2).tensors[0])
        positions.up_to(1_000)
        tables.append(old())
        return read(*arguments)

    monkeypatch.setattr(
        native._packed.library, "regard_state_read", read_while_another_thread_needs_more
    )
    native.init_state(torch.tensor([[5, 2]]))
    assert tables[0] is not None


def replace_a_norm(model):
    model.decoder_norm = torch.nn.LayerNorm(30)


def replace_a_forward(model):
    model.decoder[1].feed_forward.forward = lambda x: x


def replace_a_layer(model):
    model.decoder[1] = translator({"hidden_dim": 20}).decoder[1]


def change_an_epsilon(model):
    model.decoder[1].self_residual.norm.epsilon = 1e-3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace_a_norm, "LayerNorm is not covered"),
        (replace_a_forward, "the `forward` of a FeedForward was replaced"),
        (replace_a_layer, "its layers differ in their sizes"),
        (change_an_epsilon, "its norms differ"),
    ],
)
def test_a_model_with_other_parts_is_not_covered(change, reason):
    model = translator({})
    assert why_through_operators(model) is None
    change(model)
    assert why_through_operators(model) == reason


@torch.inference_mode()
def test_ids_and_rows_out_of_range_are_refused():
    model = translator({})
    native = NativeDecoder(model)
    state = native.init_state(sources(2, 4, model.vocab_size))
    for token in (-1, model.vocab_size):
        with pytest.raises(IndexError, match="a token id or a row is out of range"):
            native.decode_step(torch.tensor([1, token]), state)
    with pytest.raises(IndexError, match="a token id or a row is out of range"):
        state.select(torch.tensor([0, 2]))
    with pytest.raises(ShapeError, match="2, new"):
        native.decode_step(torch.tensor([1, 1, 1]), state)
    with pytest.raises(ShapeError, match="k must be 1 to 61"):
        native.decode_top(torch.tensor([1, 1]), state, 62)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (torch.ones(2, 0, dtype=torch.long), ShapeError),
        (torch.ones(2, 3, 1, dtype=torch.long), ShapeError),
        (torch.ones((), dtype=torch.long), ShapeError),
        (torch.tensor([[1, 2, 61]]), IndexError),
        (torch.tensor([-1, 1, 2]), IndexError),
        (torch.cat([torch.ones(1, 299, dtype=torch.long), torch.tensor([[61]])], 1), IndexError),
    ],
    ids=["empty", "three dimensions", "no dimension", "beyond", "negative", "beyond in a long one"],
)
def test_a_prompt_that_is_refused_leaves_no_rows(prompt, error):
    model = Gpt(GptConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=16), 61).eval()
    native = NativeCausalDecoder(model)
    state = native.init_state()
    for _ in range(2):
        with pytest.raises(error):
            native.decode_step(prompt, state)
        assert (state.num_rows, len(state), state.is_new) == (0, 0, True)
    right = torch.tensor([[3, 4], [5, 6], [7, 8]])
    logits = native.decode_step(right, state)
    assert torch.equal(logits, native.decode_step(right, native.init_state()))
    assert (state.num_rows, len(state)) == (3, 2)


@torch.inference_mode()
def test_a_long_continuation_that_is_refused_leaves_the_state_as_it_was():
    native = NativeDecoder(translator({}))
    state = native.init_state(sources(1, 4, native.vocab_size))
    native.decode_step(torch.tensor([1]), state)
    ids = torch.ones(1, 300, dtype=torch.long)
    ids[0, -1] = native.vocab_size
    with pytest.raises(IndexError, match="a token id or a row is out of range"):
        native.decode_step(ids, state)
    assert (state.num_rows, len(state)) == (1, 1)


def test_what_is_not_covered_says_why():
    strided = translator({}, attention="strided:2")
    lstm = LstmEncoderDecoder(LstmConfig(dim=8), 10)
    assert why_through_operators(translator({})) is None
    assert why_through_operators(strided) == (
        "pattern strided:2&causal of the decoder is not covered"
    )
    assert why_through_operators(lstm) == "LstmEncoderDecoder is not covered"
    assert why_through_operators(translator({}).double()) == "its weights are float64"
    with pytest.raises(ConfigError, match="strided:2&causal of the decoder is not covered"):
        NativeDecoder(strided)


def test_a_block_that_mixes_positions_otherwise_is_refused():
    model = MesaNet(MesaNetConfig(num_layers=1, dim=8, num_heads=2, hidden_dim=8), 10)
    with pytest.raises(ConfigError, match="MesaMixer is not covered by the compiled decoder"):
        self_attention_of(model.blocks[0])


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_every_instruction_set_that_runs_here_gives_the_same(precision, monkeypatch):
    model = translator({"dim": 40, "num_heads": 4, "hidden_dim": 300, "has_copy": True})
    ids = sources(9, 8, model.vocab_size)
    tokens = torch.randint(3, model.vocab_size, (3, 9))

    def logits(compiled, precision):
        monkeypatch.setattr(library, "load_fastest", lambda: compiled)
        native = NativeDecoder(model, precision=precision)
        state = native.init_state(ids)
        return torch.stack([native.decode_step(step, state) for step in tokens])

    names = [name for name in loading.runnable_names() if library.load(name) is not None]
    expected = logits(library.load("baseline"), precision)
    rounding = (expected - logits(library.load("baseline"), "float32")).abs().max()
    # Sums of other orders round some numbers to another integer, which changes less than rounding.
    tolerance = {"float32": 1e-4, "bf16": 1e-3, "int8": rounding}[precision]
    for name in names:
        assert (logits(library.load(name), precision) - expected).abs().max() < tolerance


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_norms_of_heads_are_the_same_in_every_instruction_set_and_batch(precision, monkeypatch):
    model = language_model(QWEN | {"dim": 40})
    prompt = torch.randint(3, model.vocab_size, (5, 11))

    def logits(compiled, precision, rows=5):
        monkeypatch.setattr(library, "load_fastest", lambda: compiled)
        native = NativeCausalDecoder(model, precision=precision)
        return native.decode_step(prompt[:rows], native.init_state())

    expected = logits(library.load("baseline"), precision)
    rounding = (expected - logits(library.load("baseline"), "float32")).abs().max()
    tolerance = {"float32": 1e-4, "bf16": 1e-3, "int8": rounding}[precision]
    for name in loading.runnable_names():
        if (compiled := library.load(name)) is not None:
            both = logits(compiled, precision)
            assert (both - expected).abs().max() < tolerance
            assert torch.equal(both[:2], logits(compiled, precision, rows=2))


@torch.inference_mode()
@pytest.mark.parametrize("settings", [{}, {"has_copy": True}])
def test_rows_that_begin_as_copies_have_the_numbers_of_the_first_and_then_their_own(settings):
    model = translator(settings)
    native = NativeDecoder(model)
    ids = sources(3, 9, model.vocab_size)
    alone, copied = native.init_state(ids), native.init_state(ids)
    copied.select(torch.tensor([0, 0, 0, 1, 1, 2]))
    start = torch.full((6,), 1)
    logits = native.decode_step(start, copied)
    assert torch.equal(logits, native.decode_step(start[:3], alone)[[0, 0, 0, 1, 1, 2]])
    tokens = torch.tensor([5, 6, 7, 8, 8, 9])
    alone.select(torch.tensor([0, 0, 0, 1, 1, 2]))
    assert torch.equal(native.decode_step(tokens, copied), native.decode_step(tokens, alone))
    copied.select(torch.tensor([2, 1, 0, 5, 4, 3]))
    alone.select(torch.tensor([2, 1, 0, 5, 4, 3]))
    top = native.decode_top(tokens, copied, 5)
    assert torch.equal(top.ids, native.decode_top(tokens, alone, 5).ids)
    assert not torch.equal(logits[0], logits[3])
