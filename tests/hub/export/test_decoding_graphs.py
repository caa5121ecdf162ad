"""Models that write texts as graphs of a step, and the lines of the README that run them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.hub.export.onnx_models import (
    TEXTS,
    export_untraced,
    opened,
    readme_names,
    train_tokenizer,
)
from tests.models.published_weights import spread

from regard.errors import ConfigError
from regard.generation.beam_search_config import NEW_SEARCH
from regard.generation.sampling import SamplingConfig, next_probabilities
from regard.hub.export import TrainedModel, onnx, torch_program
from regard.hub.export.decoding_graphs import DECODER, MODEL
from regard.hub.export.graph import Graph
from regard.hub.export.graph_folder import check_shapes
from regard.hub.export.graphs import make_graphs
from regard.hub.export.usage.continue_texts import TextGenerator
from regard.layers.attention_config import AttentionConfig
from regard.models import (
    DECODERS,
    ENCODER_DECODERS,
    BertConfig,
    ConvS2SConfig,
    GptConfig,
    LstmConfig,
    MesaNetConfig,
    TransformerConfig,
    TransformerXlConfig,
)
from regard.models.encoder_decoder.model import EncoderDecoderConfig
from regard.models.t5.model import T5Config

SIZES = {"dim": 16, "num_heads": 2, "hidden_dim": 24}
TRANSFORMER = TransformerConfig(**SIZES, num_encoder_layers=1, num_decoder_layers=2)
GPT = GptConfig(**SIZES, num_layers=2)
DECODER_CASES = {
    "rotary": (GPT, "full"),
    "grouped, windows, caps": (
        replace(GPT, num_kv_heads=1, window=(0, 3), attention_soft_cap=5.0, logit_soft_cap=9.0),
        "full",
    ),
    "learned": (replace(GPT, positions="learned", max_positions=40, position_offset=2), "full"),
    "global and strided": (GPT, "local:3|global:2|strided:4"),
    "by score": (GPT, "top_k:3"),
    "sinusoidal": (TRANSFORMER, "full"),
}
PAIR_CASES = {
    "plain": TRANSFORMER,
    "copies questions": replace(TRANSFORMER, has_copy=True, separator_id=3),
    "post-norm": replace(TRANSFORMER, norm="post", positions="learned", max_positions=40),
    "t5": T5Config(**SIZES, num_encoder_layers=1, num_decoder_layers=2),
    "two models": EncoderDecoderConfig(
        encoder=BertConfig(dim=24, num_heads=2, hidden_dim=24, num_layers=1), decoder=GPT
    ),
}


def drawn(family, config, pattern="full"):
    torch.manual_seed(0)
    model = family.model(config, 40, AttentionConfig(decoder=pattern)).eval()
    spread(model, gain=1.5)
    return model


def graphs_of(model):
    return make_graphs(TrainedModel(model, None, AttentionConfig()))


def nothing_before(graph, rows):
    """Return the keys and values before the first step."""
    example = graph.example()
    return {
        name: example[name].new_zeros(
            rows, *[0 if i in axes else n for i, n in enumerate(shape)][1:]
        )
        for name, axes in graph.inputs.items()
        if name.startswith("past") and (shape := example[name].shape)
    }


def step(graph, inputs, past):
    """Return logits, and the keys and values that go into the next step."""
    with torch.inference_mode():
        outputs = graph.compute(inputs | past)
    logits = outputs.pop("logits")
    return logits, {name.replace("present", "past_key_values"): x for name, x in outputs.items()}


@pytest.mark.parametrize("case", DECODER_CASES)
def test_steps_of_padded_rows_have_the_logits_of_each_text(case):
    config, pattern = DECODER_CASES[case]
    model = drawn(DECODERS[config.family], config, pattern)
    graph = graphs_of(model)[MODEL]
    texts = [torch.randint(0, 40, (n,), generator=torch.Generator().manual_seed(n)) for n in (9, 4)]
    ids = torch.stack([texts[0], torch.cat([torch.zeros(5).long(), texts[1]])])
    mask = (torch.arange(9) >= torch.tensor([[0], [5]])).long()
    past = nothing_before(graph, 2)
    logits = []
    for begin, end in ((0, 6), (6, 7), (7, 9)):
        inputs = {
            "input_ids": ids[:, begin:end],
            "attention_mask": mask[:, :end],
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, begin:end],
        }
        part, past = step(graph, inputs, past)
        logits.append(part)
    joined = torch.cat(logits, 1)
    for row, text in enumerate(texts):
        expected = model(text[None])[0]
        torch.testing.assert_close(joined[row, 9 - len(text) :], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", PAIR_CASES)
def test_steps_of_targets_have_the_logits_of_the_model(case):
    config = PAIR_CASES[case]
    model = drawn(ENCODER_DECODERS[config.family], config)
    encoder, decoder = graphs_of(model).values()
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, 40, (2, 8), generator=generator)
    source[0, 3] = 3
    mask = (torch.arange(8) < torch.tensor([[8], [5]])).long()
    target = torch.randint(4, 40, (2, 6), generator=generator)
    with torch.inference_mode():
        states = encoder.compute({"input_ids": source, "attention_mask": mask})
        expected = model(source, target, lengths=torch.tensor([8, 5]))
    of_source = {
        "encoder_attention_mask": mask,
        "encoder_hidden_states": states["last_hidden_state"],
        "encoder_input_ids": source,
    }
    of_source = {name: x for name, x in of_source.items() if name in decoder.inputs}
    past, logits = nothing_before(decoder, 2), []
    for begin, end in ((0, 1), (1, 4), (4, 6)):
        part, past = step(decoder, {"input_ids": target[:, begin:end]} | of_source, past)
        logits.append(part)
    torch.testing.assert_close(torch.cat(logits, 1), expected, rtol=0, atol=2e-5)


def test_a_source_that_is_padded_on_the_left_gives_nan():
    encoder, _ = graphs_of(drawn(ENCODER_DECODERS["transformer"], TRANSFORMER)).values()
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    states = encoder.compute({"input_ids": torch.full((2, 3), 5), "attention_mask": mask})
    assert states["last_hidden_state"].isnan().any((1, 2)).tolist() == [False, True]


WRITTEN = {
    # Of two layers, whose keys and values must not change places.
    "language model": (DECODERS["gpt"], DECODER_CASES["grouped, windows, caps"][0]),
    "copies": (
        ENCODER_DECODERS["transformer"],
        replace(TRANSFORMER, num_decoder_layers=1, has_copy=True),
    ),
}


@pytest.fixture(scope="module", params=WRITTEN)
def step_and_program(request):
    """A step and its program, which is traced once for both formats."""
    graph = list(graphs_of(drawn(*WRITTEN[request.param])).values())[-1]
    return graph, graph.trace()


@pytest.mark.slow
@pytest.mark.parametrize("form", [onnx.ONNX, torch_program.TORCH], ids=lambda form: form.name)
def test_a_written_step_serves_every_batch_and_length(
    step_and_program, form, tmp_path, monkeypatch
):
    if form is onnx.ONNX:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    graph, program = step_and_program
    monkeypatch.setattr(Graph, "trace", lambda graph: program)
    path = tmp_path / f"model{form.suffix}"
    form.write(graph, path, {"summary": "", "task": "test"})
    check_shapes(graph, path, form)  # partly with keys before, partly without
    generator = torch.Generator().manual_seed(2)
    inputs = graph.make_inputs(generator, 2, 9)
    for name in [name for name in inputs if ".encoder." in name]:  # all of a source is computed
        shape = list(inputs[name].shape)
        shape[2 if "copy" not in name else 1] = 9
        inputs[name] = torch.randn(shape, generator=generator)
    session = form.open_session(path)
    outputs = session.run(["logits"], {name: x.numpy() for name, x in inputs.items()})
    with torch.inference_mode():
        expected = graph.compute(inputs)["logits"]
    np.testing.assert_allclose(outputs[0], expected, rtol=0, atol=1e-4)
    nodes = session.get_inputs()
    assert [node.name for node in nodes] == list(graph.inputs)
    of_keys = next(node for node in nodes if node.name.startswith("past"))
    assert [isinstance(size, int) for size in of_keys.shape] == [False, True, False, True]


@pytest.mark.parametrize(
    "config",
    [
        LstmConfig(num_decoder_layers=1, dim=16),
        ConvS2SConfig(num_decoder_layers=1, dim=16),
        MesaNetConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=24),
        TransformerXlConfig(num_layers=1, dim=16, num_heads=2, hidden_dim=24),
    ],
)
def test_families_with_another_cache_are_named(config):
    model = DECODERS[config.family].model(config, 40, AttentionConfig())
    with pytest.raises(ConfigError, match=rf"{type(model).__name__} keeps something else"):
        graphs_of(model)


def test_attention_over_a_part_of_the_source_is_named():
    model = ENCODER_DECODERS["transformer"].model(TRANSFORMER, 40, AttentionConfig(cross="local:3"))
    with pytest.raises(ConfigError, match=r"attention\.cross=local:3"):
        graphs_of(model)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


SEARCHES = [
    {},
    {"stopping": "certain", "length_penalty": 1.4},
    {"stopping": "first", "length_penalty": -0.5},
    {"ranking": "wu", "stopping": "certain"},
    {"beam": 1},
    {"beam": 1, "repetition_penalty": 1.7, "min_length": 6},
    {"no_repeat_size": 2, "repetition_penalty": 1.2},
    {"min_length": 9, "forced_first": 30, "forces_end": True},
    {"forced_last": 30},
    {"forbidden": (20, 21, 2), "is_renormalized": True},
]


@pytest.mark.parametrize("settings", SEARCHES, ids=str)
def test_the_readme_writes_what_the_model_does(settings, tokenizer, tmp_path, monkeypatch):
    config = replace(TRANSFORMER, has_copy=len(settings) == 0)
    search = replace(NEW_SEARCH, **{"max_length": 12} | settings)
    writer = opened("translation", config, tokenizer, search=search)
    exported = export_untraced(writer, tmp_path, monkeypatch, texts=TEXTS)
    assert exported.texts.is_equal, exported.texts.first
    assert exported.texts.num_texts >= 4
    assert exported.texts.difference < 1e-5
    if not settings:
        write, texts = readme_names(tmp_path, monkeypatch)["write"], [*TEXTS[:2], " "]
        assert [write(text) for text in texts] == [writer.translate(text) for text in texts]
        table = (tmp_path / "README.md").read_text()
        assert "| in | `past_key_values.N.encoder.value` | float32 | batch_size, 2, past_" in table
        assert table.count("N is the number of a layer, 0 to 1.") == 1


@pytest.mark.parametrize(
    "settings", [{}, {"repetition_penalty": 1.5, "no_repeat_size": 2, "forbidden": (5, 9)}], ids=str
)
def test_the_readme_continues_as_the_model_does(settings, tokenizer, tmp_path, monkeypatch):
    config = replace(GPT, positions="learned", max_positions=30)
    sampling = SamplingConfig(**settings)
    writer = opened("language-modeling", config, tokenizer, sampling=sampling)
    exported = export_untraced(writer, tmp_path, monkeypatch, texts=TEXTS)
    assert exported.texts.is_equal, exported.texts.first
    generate = readme_names(tmp_path, monkeypatch)["generate"]
    assert generate("the red", seed=3) == generate("the red", seed=3)
    with pytest.raises(ValueError, match="the prompt has 30 tokens or more"):
        generate("the red tree likes " * 9)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), list(itertools.product((0.0, 0.3, 2.0), (0, 5), (0.4, 1.0)))
)
def test_tokens_are_drawn_from_the_distribution_of_the_model(temperature, top_k, top_p):
    logits = torch.randn(50, generator=torch.Generator().manual_seed(4))
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    own = next_probabilities(logits[None], config)[0]
    drawn_from = TextGenerator.probabilities(
        SimpleNamespace(), logits.double().numpy(), temperature, top_k, top_p
    )
    np.testing.assert_allclose(drawn_from, own, rtol=0, atol=1e-6)


def test_the_decoder_of_a_pair_has_the_name_that_others_read():
    model = drawn(ENCODER_DECODERS["transformer"], TRANSFORMER)
    graph = graphs_of(model)[DECODER]
    assert list(graph.inputs)[3:7] == [
        f"past_key_values.0.{side}.{part}"
        for side in ("decoder", "encoder")
        for part in ("key", "value")
    ]
