"""Models written as ONNX: the graph, the files next to it, and the lines of the README."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from tests.hub.export.onnx_models import (
    ENCODER,
    TEXTS,
    opened,
    readme_names,
    text_classifier,
    train_tokenizer,
)

from regard.errors import ConfigError, WeightsError
from regard.hub.export import TrainedModel
from regard.hub.export import onnx as onnx_format
from regard.hub.export.graph_folder import check_shapes
from regard.hub.export.graphs import make_graphs
from regard.models import BertConfig, LongformerConfig, LstmConfig
from regard.runs.export_check import export_model

PATTERN = "local:2|global:0"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def classifier(tokenizer):
    return text_classifier(BertConfig(**ENCODER, pooling="mean"), tokenizer, PATTERN)


@pytest.fixture(scope="module")
def written(classifier, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx") / "labels"
    return folder, export_model(classifier, folder, "onnx", texts=TEXTS)


@pytest.fixture(scope="module")
def session(written):
    return onnx_format.open_session(written[0] / "model.onnx")


def labels_of(session, ids, mask):
    return session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]


@pytest.mark.slow
def test_real_texts_have_the_same_labels_in_onnxruntime(written):
    _, exported = written
    assert exported.texts.is_equal
    assert (exported.texts.num_texts, exported.texts.peer) == (5, "onnxruntime")
    assert exported.texts.difference < 1e-6
    assert exported.difference is None  # no folder that is opened here


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 32, 40])
def test_a_graph_serves_every_batch_and_length(rows, length, classifier, session):
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(0, 250, (rows, length), generator=generator)
    lengths = torch.randint(0, length + 1, (rows,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    with torch.inference_mode():
        expected = classifier.model(ids, lengths=lengths)
    np.testing.assert_allclose(labels_of(session, ids, mask), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_padded_row_gives_what_it_gives_alone(session):
    ids = torch.randint(3, 250, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(20) < torch.tensor([[20], [7], [1]])).long()
    together = labels_of(session, ids, mask)
    for row, length in enumerate([20, 7, 1]):
        alone = labels_of(session, ids[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_padding_on_the_left_gives_nan_for_that_row_alone(session):
    ids = torch.full((3, 4), 5)
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]])
    assert np.isnan(labels_of(session, ids, mask)).all(1).tolist() == [False, True, True]


@pytest.mark.slow
def test_the_readme_gives_the_labels_of_the_model(written, classifier, monkeypatch):
    classify = readme_names(written[0], monkeypatch)["classify"]
    for text, probabilities in zip(TEXTS, classify(TEXTS), strict=True):
        own = classifier.classify_rows([text])[0]
        assert max(probabilities, key=probabilities.__getitem__) == own.label
        assert probabilities == pytest.approx(own.probabilities, abs=1e-6)
    assert classify([]) == []


@pytest.mark.slow
def test_the_vocabulary_cuts_and_pads_as_the_model_does(written, classifier, tokenizer):
    from tokenizers import Tokenizer

    there = Tokenizer.from_file(str(written[0] / "tokenizer.json"))
    there.encode_special_tokens = True
    rows = tokenizer.encode_truncated([*TEXTS, "", " "], max_length=24)
    encodings = there.encode_batch([*TEXTS, "", " "])
    assert {len(encoding.ids) for encoding in encodings} == {24}
    assert [
        [t for t, m in zip(e.ids, e.attention_mask, strict=True) if m] for e in encodings
    ] == rows
    assert {
        t for e in encodings for t, m in zip(e.ids, e.attention_mask, strict=True) if not m
    } == {0}


@pytest.mark.slow
def test_the_file_says_what_it_holds_and_nothing_of_the_machine(written):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(written[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(facts["labels"]) == ["joy", "anger", "fear"]
    assert (facts["task"], facts["family"], facts["max_length"]) == ("classification", "bert", "24")
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    assert {node.domain for node in model.graph.node} == {""}
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert axes == [["batch_size", "sequence_length"]] * 2 + [["batch_size", 3]]
    content = (written[0] / "model.onnx").read_bytes()
    assert b".py" not in content and b"/regard/" not in content


@pytest.mark.slow
def test_config_has_the_fields_that_others_read(written):
    config = json.loads((written[0] / "config.json").read_text())
    assert config["id2label"] == {"0": "joy", "1": "anger", "2": "fear"}
    assert (config["model_type"], config["max_position_embeddings"]) == ("bert", 32)
    assert config["exported_by"] == "regard"


@pytest.mark.slow
def test_a_graph_that_differs_is_found(classifier, written, monkeypatch):
    graph = make_graphs(TrainedModel(classifier.model, None, None))["model"]
    with torch.no_grad():
        classifier.model.output_bias += 0.1
    try:
        with pytest.raises(WeightsError, match="logits differs from the model's for 1 rows"):
            check_shapes(graph, written[0] / "model.onnx", onnx_format.ONNX)
    finally:
        with torch.no_grad():
            classifier.model.output_bias -= 0.1


@pytest.mark.slow
def test_a_graph_that_is_not_computed_is_found(classifier, written):
    graph = make_graphs(TrainedModel(classifier.model, None, None))["model"]

    def narrow(*shape):
        return {name: values.int() for name, values in graph.make_inputs(*shape).items()}

    with pytest.raises(WeightsError, match=r"1 rows of length 1: .*Unexpected input data type"):
        check_shapes(
            graph._replace(make_inputs=narrow), written[0] / "model.onnx", onnx_format.ONNX
        )


def test_an_example_is_longer_than_the_tokens_that_are_global(tokenizer):
    longformer = text_classifier(LongformerConfig(**ENCODER, window=4, num_global=12), tokenizer)
    graph = make_graphs(TrainedModel(longformer.model, None, None))["model"]
    assert graph.example()["input_ids"].shape == (3, 21)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("local:0.2", "local:0.2,0.2"),
        ("hierarchical:4", "hierarchical:4"),
        ("random:4:1", "random"),
    ],
)
def test_a_pattern_that_no_graph_has_is_named(pattern, name, tokenizer, tmp_path):
    classifier = text_classifier(BertConfig(**ENCODER), tokenizer, pattern)
    with pytest.raises(ConfigError, match=f"attention {name}"):
        export_model(classifier, tmp_path, "onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_keeps_no_keys_and_values_is_refused(tokenizer, tmp_path):
    writer = opened("language-modeling", LstmConfig(num_decoder_layers=1, dim=16), tokenizer)
    with pytest.raises(ConfigError, match="LstmDecoder keeps something else than keys and values"):
        export_model(writer, tmp_path, "onnx")
    assert not list(tmp_path.iterdir())


def test_packages_that_are_missing_are_named(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed.*regard\[onnx\]"):
        export_model(classifier, tmp_path, "onnx")
