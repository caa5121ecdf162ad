"""Rollout and flow of published decoders are those of the attention that transformers returns."""

from typing import Any

import networkx
import pytest
import torch
from tests.models.published_weights import spread
from tests.tasks.language_modeling.test_predictor import write_vocabulary

import regard
from regard.explain.attribution import METHODS, Budget
from regard.explain.open_prediction import predict


def publish(transformers: Any, folder: Any, kind: str) -> Any:
    """Write a decoder of three layers; a Llama has two query heads for each key head."""
    rows = write_vocabulary(folder, begins=kind == "llama")
    common = {"vocab_size": rows, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_head=2, n_layer=3, **common)
        model = transformers.GPT2LMHeadModel(config)
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
        sizes = {"hidden_size": 32, "intermediate_size": 24}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**heads, **sizes, **common))
    spread(model, seed=1)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder, attn_implementation="eager").eval()


@torch.no_grad()
def mixed_weights(model: Any, ids: list[int]) -> list[torch.Tensor]:
    """Return ``0.5 W + 0.5 I`` of each layer, W the mean over heads (Abnar & Zuidema 2020)."""
    attentions = model(torch.tensor([ids]), output_attentions=True).attentions
    identity = torch.eye(len(ids), dtype=torch.float64)
    return [0.5 * weights[0].double().mean(0) + 0.5 * identity for weights in attentions]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rollout_and_flow_are_those_of_the_attention_of_transformers(kind, transformers, tmp_path):
    model = publish(transformers, tmp_path, kind)
    generator = regard.load(tmp_path)
    prediction = predict(generator, "the red cat", output=" sees the dog")
    tokenizer = generator.tokenizer
    ids = [*tokenizer.encode_prompt("the red cat"), *tokenizer.encode_text(" sees the dog")]
    read = len(prediction.features)  # the last token is written alone
    layers = mixed_weights(model, ids[:read])
    positions = prediction.readout.argmax(-1).tolist()

    expected = torch.linalg.multi_dot(layers[::-1])[positions]  # [outputs, features]
    scores = METHODS["rollout"].compute(prediction, Budget()).scores
    torch.testing.assert_close(
        scores.nan_to_num().double(), expected * prediction.reads, atol=1e-6, rtol=0
    )

    graph = networkx.DiGraph()
    for depth, weights in enumerate(layers):
        for query, key in weights.nonzero().tolist():
            graph.add_edge((depth, key), (depth + 1, query), capacity=float(weights[query, key]))
    scores = METHODS["flow"].compute(prediction, Budget()).scores
    for output, position in enumerate(positions):
        for feature in prediction.reads[output].nonzero().flatten().tolist():
            largest = networkx.maximum_flow_value(graph, (0, feature), (len(layers), position))
            assert float(scores[output, feature]) == pytest.approx(largest, abs=1e-6)
