"""What published families compute otherwise, in the compiled decoder and by PyTorch's operators."""

import msgspec
import pytest
import torch
from tests.generation.native.test_compiled_decoder import (
    assert_close,
    compare,
    draw_vectors,
    language_model,
    sources,
)

from regard.attention import DotProduct
from regard.attention.backends.cpu_kernels import loading
from regard.data.batching import SpecialIds
from regard.generation import SamplingConfig, sample
from regard.generation.beam_search import beam_search
from regard.generation.beam_search_config import BeamSearchConfig
from regard.generation.native import (
    NativeCausalDecoder,
    NativeDecoder,
    library,
    why_through_operators,
)
from regard.layers.attention_config import AttentionConfig
from regard.layers.rotary_scaling import LinearScaling
from regard.models import (
    T5,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GptConfig,
    T5Config,
)

pytestmark = pytest.mark.skipif(
    library.load_fastest() is None, reason="the decoder was not compiled"
)

PYTHIA = {
    "norm_kind": "layer",
    "activation": "gelu",
    "bias": True,
    "parallel_residual": True,
    "rotary_fraction": 1 / 3,
    "tied": False,
}
GEMMA = {
    "norm_kind": "zero_centered_rms",
    "activation": "geglu_tanh",
    "has_embedding_scale": True,
    "head_dim": 10,
    "num_kv_heads": 2,
}
GEMMA_2 = GEMMA | {
    "norm": "sandwich",
    "query_pre_attn_scalar": 3.0,
    "attention_soft_cap": 0.7,
    "logit_soft_cap": 1.5,
    "window": (5, 0),
}
GEMMA_3 = GEMMA | {
    "num_layers": 3,
    "norm": "sandwich",
    "qk_norm": True,
    "window": (5, 5, 0),
    "local_rotary_base": 50.0,
    "rotary_scaling": LinearScaling(factor=3.0),
}
OLMO_2 = {"norm": "output", "qk_norm": "joint", "num_kv_heads": 2}
VARIANTS = {
    "pythia": PYTHIA,
    "gemma": GEMMA,
    "gemma 2": GEMMA_2,
    "gemma 3": GEMMA_3,
    "olmo 2": OLMO_2,
    "parallel with all norms": PYTHIA | GEMMA_2 | {"activation": "geglu", "rotary_fraction": 0.4},
    "joint layer norms of partly rotated heads": PYTHIA | {"qk_norm": "joint", "norm": "output"},
}
T5_SIZES = T5Config(
    num_encoder_layers=2,
    num_decoder_layers=2,
    dim=26,
    num_heads=3,
    head_dim=10,
    hidden_dim=45,
    dropout=0.0,
    num_buckets=6,
    max_distance=17,
)
T5_VARIANTS = {
    "t5": {},
    "mt5": {"activation": "geglu_tanh", "tied": "inputs", "has_output_scale": False},
    "umt5": {"activation": "swiglu", "shares_buckets": False},
}


def t5(changes, *, encoder="full", decoder="full"):
    torch.manual_seed(0)
    config = msgspec.structs.replace(T5_SIZES, **changes)
    model = T5(config, 47, AttentionConfig(encoder=encoder, decoder=decoder))
    for name, parameter in model.named_parameters():
        if "position_bias" in name:  # that every distance shows
            torch.nn.init.normal_(parameter)
    return draw_vectors(model)


def states_of(model, native, ids):
    with torch.inference_mode():
        return model.init_state(ids), native.init_state(ids)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_prompts_and_tokens_are_decoded_as_with_operators(settings):
    model = language_model(settings)
    native = NativeCausalDecoder(model)
    states = model.init_state(), native.init_state()
    # 300 tokens are more than one piece, and 140 more than one block and the windows' ring.
    compare(model, native, states, 3, 16, new=(1, 2, 300, 1, 140, 9, 1, 1))


@pytest.mark.parametrize("changes", T5_VARIANTS.values(), ids=T5_VARIANTS)
@pytest.mark.parametrize("pattern", ["full", "local:4"])
def test_t5_decodes_as_with_operators(changes, pattern):
    model = t5(changes, encoder=pattern, decoder=pattern)
    native = NativeDecoder(model)
    states = states_of(model, native, sources(5, 40, model.vocab_size))
    compare(model, native, states, 5, 12)


@torch.inference_mode()
def test_distances_beyond_the_first_table_have_the_last_bucket():
    model = t5({})
    native = NativeDecoder(model)
    source, target = (
        torch.randint(3, model.vocab_size, (2, length))
        for length in (300, 280)  # a table has 256
    )
    state = native.init_state(source)
    native.decode_step(target[:, :250], state)
    logits = native.decode_step(target[:, 250:], state)
    assert_close(logits, model(source, target)[:, -1])


def test_t5_whose_encoder_is_not_covered_is_read_by_operators():
    model = t5({}, encoder="strided:3")
    native = NativeDecoder(model)
    assert native._packed.source_positions is None
    compare(model, native, states_of(model, native, sources(3, 11, model.vocab_size)), 3, 4)


def test_a_gemma_that_reads_a_source_is_decoded_as_with_operators():
    torch.manual_seed(0)
    config = EncoderDecoderConfig(
        encoder=BertConfig(num_layers=1, dim=12, num_heads=2, hidden_dim=20),
        decoder=GptConfig(num_layers=2, dim=16, num_heads=4, hidden_dim=20, **GEMMA_2),
    )
    model = draw_vectors(EncoderDecoderModel(config, 31))
    native = NativeDecoder(model)
    compare(model, native, states_of(model, native, sources(3, 6, 31)), 3, 8)


@torch.inference_mode()
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_greedy_continuation_is_that_of_the_operators(settings):
    model = language_model(settings)
    model.output_weight.mul_(3.0)
    config = SamplingConfig(max_tokens=30, temperature=0)
    prompt = torch.randint(3, model.vocab_size, (9,)).tolist()
    ours, expected = (
        torch.stack([step.tokens for step in sample(decoder, prompt, config)])
        for decoder in (NativeCausalDecoder(model), model)
    )
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("changes", T5_VARIANTS.values(), ids=T5_VARIANTS)
def test_a_search_with_t5_writes_what_it_writes_with_operators(changes, beam):
    model = t5(changes)
    ids = sources(6, 9, model.vocab_size)
    config = BeamSearchConfig(beam=beam, max_length=20, min_length=2)
    ours, expected = (
        beam_search(decoder, ids, config, SpecialIds()) for decoder in (NativeDecoder(model), model)
    )
    for one, other in zip(ours, expected, strict=True):
        assert [output.ids for output in one] == [output.ids for output in other]
        assert one[0].score == pytest.approx(other[0].score, rel=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("changes", T5_VARIANTS.values(), ids=T5_VARIANTS)
def test_sources_join_those_that_t5_decodes(changes):
    native = NativeDecoder(t5(changes))
    ids = sources(5, 8, native.vocab_size)
    alone, joined = native.init_state(ids[3:]), native.init_state(ids[:3])
    for token in (4, 5, 6):
        native.decode_step(torch.tensor([token] * 3), joined)
    native.add_sources(ids[3:], joined)
    for token in (6, 7):  # at other distances in each row
        expected = native.decode_step(torch.tensor([token] * 2), alone)
        logits = native.decode_step(torch.tensor([token] * 5), joined)
    assert torch.equal(logits[3:], expected)


@torch.inference_mode()
@pytest.mark.parametrize("settings", [GEMMA_2, GEMMA_3, PYTHIA])
def test_texts_of_other_lengths_join_those_that_are_continued(settings):
    native = NativeCausalDecoder(language_model(settings))
    prompts = [torch.randint(3, native.vocab_size, (2, length)) for length in (4, 160, 1)]
    joined, alone = native.init_state(), []
    for prompt in prompts:
        states = native.init_state(), native.init_state()
        for state in states:
            native.decode_step(prompt, state)
        native.join(joined, states[0])
        alone.append(states[1])
    for token in (5, 6):
        column = torch.full((6, 1), token)
        expected = torch.cat([native.decode_step(column[:2], state) for state in alone])
        assert torch.equal(native.decode_step(column, joined), expected)


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", [*VARIANTS, *T5_VARIANTS])
def test_rounding_changes_few_logits_and_no_instruction_set_changes_more(
    name, precision, monkeypatch
):
    model = language_model(VARIANTS[name]) if name in VARIANTS else t5(T5_VARIANTS[name])
    ids = torch.randint(3, model.vocab_size, (5, 11))

    def logits(instructions, precision, rows=5):
        monkeypatch.setattr(library, "load_fastest", lambda: library.load(instructions))
        if isinstance(model, T5):
            native = NativeDecoder(model, precision=precision)
            state = native.init_state(ids[:rows])
        else:
            native = NativeCausalDecoder(model, precision=precision)
            state = native.init_state()
        return native.decode_step(ids[:rows], state)

    exact = logits("baseline", "float32")
    rounding = (logits("baseline", precision) - exact).abs().max()
    assert 0 < rounding < 0.1 * exact.abs().max()
    for instructions in loading.runnable_names():
        if library.load(instructions) is not None:
            assert_close(logits(instructions, "float32"), exact)
            rounded = logits(instructions, precision)
            assert (rounded - exact).abs().max() < 2 * rounding
            assert torch.equal(rounded[:2], logits(instructions, precision, rows=2))


@torch.inference_mode()
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4, 1e18])
def test_bounds_hold_for_scores_and_logits_of_any_size(size):
    settings = {"attention_soft_cap": 2.0, "logit_soft_cap": 3.0, "query_pre_attn_scalar": 1.0}
    model = language_model(settings)
    model.output_weight.mul_(size)
    for block in model.blocks:
        block.self_attention.query_key_value.weight[:24].mul_(size)  # queries
    native = NativeCausalDecoder(model)
    ids = torch.randint(3, model.vocab_size, (2, 30))
    logits = native.decode_step(ids, native.init_state())
    assert_close(logits, model.decode_step(ids, model.init_state()))
    assert logits.abs().max() <= 3.0


@torch.inference_mode()
@pytest.mark.parametrize("name", ["query_key_value", "position_bias"])
def test_a_number_of_t5_that_is_none_is_noticed(name):
    model = t5({})
    getattr(model.decoder[0].self_attention, name).weight[0] = torch.nan
    native = NativeDecoder(model)
    state = native.init_state(sources(2, 4, model.vocab_size))
    assert native.decode_top(torch.tensor([1, 1]), state, 3).log_sum.isnan().all()


def leave_out_a_bias(model):
    model.decoder[1].self_attention.position_bias = None


def bound_some_scores(model):
    model.decoder[1].self_attention.score = DotProduct(1.0, 2.0)


def bound_scores_of_the_source(model):
    model.decoder[1].cross_attention.score = DotProduct(1.0, 2.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (leave_out_a_bias, "its layers differ in their scores"),
        (bound_some_scores, "its layers differ in their scores"),
        (bound_scores_of_the_source, "the bound of scores over the source is not covered"),
    ],
)
def test_a_t5_with_other_scores_is_not_covered(change, reason):
    model = t5({})
    assert why_through_operators(model) is None
    change(model)
    assert why_through_operators(model) == reason
