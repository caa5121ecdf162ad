"""Clients of OpenAI's API speak to the service of a language model and of an encoder."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from tests.explain import predictors
from tests.serving.running_service import running

from regard.setup.config import RunConfig
from regard.tasks.masked_language_modeling.predictor import TextEncoder

ASKED = {"model": "toy", "prompt": "the cat", "seed": 3}


def test_a_completion_has_its_text_its_end_and_its_tokens(generating):
    answer = generating.post("/v1/completions", {**ASKED, "max_tokens": 5}).json
    expected = generating.twin.generate("the cat", max_tokens=5, seed=3)
    (choice,) = answer["choices"]
    assert choice["text"] == expected.text
    assert choice["finish_reason"] == ("stop" if expected.is_complete else "length")
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == expected.num_tokens
    assert answer["usage"]["prompt_tokens"] == len(generating.twin.tokenizer.encode_text("the cat"))


def test_without_a_number_it_writes_16_tokens_at_most(generating):
    answer = generating.post("/v1/completions", ASKED).json
    assert answer["usage"]["completion_tokens"] <= 16


def test_several_prompts_and_completions_are_numbered(generating):
    body = {**ASKED, "prompt": ["the cat", "a dog"], "n": 2, "max_tokens": 3, "echo": True}
    choices = generating.post("/v1/completions", body).json["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"][:5] for choice in choices] == ["the c", "the c", "a dog", "a dog"]


def test_a_stream_has_pieces_usage_and_an_end(generating):
    body = {**ASKED, "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True}}
    blocks = generating.post("/v1/completions", body).body.decode().strip().split("\n\n")
    assert blocks[-1] == "data: [DONE]"
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]
    expected = generating.twin.generate("the cat", max_tokens=6, seed=3)
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert text == expected.text
    assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert chunks[-1]["usage"]["completion_tokens"] == expected.num_tokens


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model": "gpt-4"}, 404, "The model `gpt-4` does not exist"),
        ({"logprobs": 3}, 400, "logprobs is not supported."),
        ({"logprobs": 0}, 400, "logprobs is not supported."),  # asks for those of the tokens alone
        ({"presence_penalty": 0.5}, 400, "presence_penalty is not supported."),
        ({"stop": ["a", "b"]}, 400, "2 texts to stop at are not supported."),
        ({"best_of": 3}, 400, "best_of=3 is not supported"),
        ({"messages": []}, 400, "unknown field messages."),
        ({"temperature": -1}, 400, "`temperature`"),
        ({"stream": True, "n": 2}, 400, "one completion of one prompt can be streamed."),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_its_form(generating, changes, status, message):
    answer = generating.post("/v1/completions", {**ASKED, **changes})
    assert answer.status == status
    assert answer.json["error"]["message"].startswith(message)
    assert answer.json["error"]["type"] == "invalid_request_error"


def test_the_model_is_listed(generating):
    (model,) = generating.get("/v1/models").json["data"]
    assert model["id"] == "toy"


def test_vectors_are_numbers_or_packed():
    classifier = predictors.text_classifier()
    config = RunConfig(task="masked-language-modeling", model=predictors.BERT)
    encoder = TextEncoder(classifier.model.encoder, classifier.tokenizer, config)
    body = {"model": "toy", "input": ["the cat", "a dog ran"]}
    with running(encoder) as client:
        plain = client.post("/v1/embeddings", body).json
        packed = client.post("/v1/embeddings", {**body, "encoding_format": "base64"}).json
        smaller = client.post("/v1/embeddings", {**body, "dimensions": 4})
    vectors = np.array([entry["embedding"] for entry in plain["data"]])
    unpacked = [
        np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in packed["data"]
    ]
    np.testing.assert_allclose(vectors, encoder.embed(body["input"]).numpy(), atol=1e-6)
    np.testing.assert_allclose(np.stack(unpacked), vectors, atol=1e-6)
    assert smaller.status == 400
    assert plain["usage"]["prompt_tokens"] > 0


def test_the_model_is_found_by_its_name(generating):
    named, other = generating.get("/v1/models/toy"), generating.get("/v1/models/gpt-4")
    assert named.json["id"] == "toy"
    assert (other.status, other.json["error"]["code"]) == (404, "model_not_found")


def test_a_chat_is_refused_in_its_form(generating):
    body = {"model": "toy", "messages": [{"role": "user", "content": "the cat"}]}
    answer = generating.post("/v1/chat/completions", body)
    assert answer.status == 400
    assert "/v1/completions" in answer.json["error"]["message"]
