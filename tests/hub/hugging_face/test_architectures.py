"""The class that a folder names decides its head: others are refused by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from regard.errors import ConfigError, WeightsError
from regard.hub.hugging_face.published_folder import read_hugging_face

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 20,
}
GPT_SIZES = {"vocab_size": 50, "n_embd": 16, "n_head": 2, "n_layer": 1}
DISTIL_SIZES = {"vocab_size": 50, "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 20}
VIT_SIZES = SIZES | {"image_size": 8, "patch_size": 4}
SIZES_OF = {
    "GPT2": GPT_SIZES | {"pad_token_id": 0},
    "DistilBert": DISTIL_SIZES,
    "ViT": VIT_SIZES,
    "Longformer": SIZES | {"attention_window": 8},
}


def publish(transformers: Any, family: str, head: str, folder: Path, **fields: Any) -> Path:
    """Save a model of random weights with a head."""
    sizes = SIZES_OF.get(family, SIZES) | fields
    config = getattr(transformers, f"{family}Config")(**sizes)
    getattr(transformers, f"{family}{head}")(config).save_pretrained(folder)
    return folder


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "head", "output"),
    [
        ("Bert", "ForTokenClassification", "labels of tokens"),
        ("Bert", "ForNextSentencePrediction", "whether two texts follow each other"),
        ("Bert", "ForMultipleChoice", "a choice among several texts"),
        ("Bert", "LMHeadModel", "continuations of texts"),
        ("Roberta", "ForTokenClassification", "labels of tokens"),
        ("Roberta", "ForCausalLM", "continuations of texts"),
        ("DistilBert", "ForTokenClassification", "labels of tokens"),
        ("Longformer", "ForTokenClassification", "labels of tokens"),
        ("GPT2", "ForSequenceClassification", "labels of texts"),
        ("GPT2", "ForTokenClassification", "labels of tokens"),
        ("GPT2", "DoubleHeadsModel", "continuations and a choice among them"),
        ("Llama", "ForSequenceClassification", "labels of texts"),
        ("ViT", "ForMaskedImageModeling", "hidden patches"),
    ],
)
def test_another_head_is_refused_by_its_name(family, head, output, transformers, tmp_path):
    publish(transformers, family, head, tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_hugging_face(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path}/config.json: architectures={family}{head}: gives {output}: a head that no "
        f"model here has.  Heads of {family.lower()} that are read: Model, "
    )


@pytest.mark.slow
def test_a_class_that_is_named_without_a_list_decides_too(transformers, tmp_path):
    publish(transformers, "Bert", "ForTokenClassification", tmp_path)
    change_config(tmp_path, architectures="BertForTokenClassification")
    with pytest.raises(ConfigError, match="architectures=BertForTokenClassification: gives labels"):
        read_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("Bert", "Model"),
        ("Bert", "ForMaskedLM"),
        ("Bert", "ForPreTraining"),
        ("Bert", "ForSequenceClassification"),
        ("Bert", "ForQuestionAnswering"),
        ("DistilBert", "ForQuestionAnswering"),
        ("Roberta", "ForMaskedLM"),
        ("DistilBert", "ForMaskedLM"),
        ("Longformer", "ForSequenceClassification"),
        ("GPT2", "Model"),
        ("GPT2", "LMHeadModel"),
        ("Llama", "ForCausalLM"),
        ("ViT", "Model"),
        ("ViT", "ForImageClassification"),
    ],
)
def test_heads_that_models_have_are_read(family, head, transformers, tmp_path):
    published = read_hugging_face(publish(transformers, family, head, tmp_path))
    assert bool(published.labels) == head.endswith(
        ("ForSequenceClassification", "ImageClassification")
    )
    assert published.finds_spans == (head == "ForQuestionAnswering")


def test_a_class_without_a_usual_ending_leaves_the_tensors_to_decide(transformers, tmp_path):
    publish(transformers, "Bert", "ForSequenceClassification", tmp_path)
    change_config(tmp_path, architectures=["Mine"])
    assert read_hugging_face(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_a_map_to_labels_beside_a_class_without_one_is_not_taken_for_its_head(
    transformers, tmp_path
):
    publish(transformers, "Bert", "ForSequenceClassification", tmp_path)
    change_config(tmp_path, architectures=["BertModel"])
    with pytest.raises(WeightsError, match=r"classifier\.bias does not belong to this model"):
        read_hugging_face(tmp_path)


def test_a_class_whose_head_the_file_lacks_is_refused(transformers, tmp_path):
    path = (
        publish(transformers, "Bert", "ForSequenceClassification", tmp_path) / "model.safetensors"
    )
    tensors = {name: tensor for name, tensor in load_file(path).items() if "classifier" not in name}
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"classifier\.weight is missing"):
        read_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"problem_type": "regression"}, "a model of scores"),
        ({"finetuning_task": "mnli"}, "labels of pairs of texts"),
        ({"id2label": {"0": "ENTAILMENT", "1": "neutral"}}, "the label ENTAILMENT, which is of"),
    ],
)
def test_labels_of_another_kind_are_refused_by_the_class_and_the_kind(
    fields, kind, transformers, tmp_path
):
    publish(transformers, "Bert", "ForSequenceClassification", tmp_path)
    assert read_hugging_face(tmp_path).labels == ("LABEL_0", "LABEL_1")
    change_config(tmp_path, **fields)
    with pytest.raises(ConfigError, match=f"BertForSequenceClassification: .*{kind}"):
        read_hugging_face(tmp_path)


@pytest.mark.parametrize(("family", "head"), [("Bert", "Sequence"), ("ViT", "Image")])
def test_a_single_label_is_a_score(family, head, transformers, tmp_path):
    publish(transformers, family, f"For{head}Classification", tmp_path, num_labels=1)
    with pytest.raises(ConfigError, match=f"{family}For{head}Classification: one label"):
        read_hugging_face(tmp_path)


def test_several_labels_of_an_image_at_once_are_refused(transformers, tmp_path):
    publish(transformers, "ViT", "ForImageClassification", tmp_path)
    assert read_hugging_face(tmp_path).config.num_labels == 2
    change_config(tmp_path, problem_type="multi_label_classification")
    with pytest.raises(ConfigError, match="several labels at once"):
        read_hugging_face(tmp_path)


def test_the_head_of_next_sentences_is_known_without_a_class(transformers, tmp_path):
    publish(transformers, "Bert", "ForNextSentencePrediction", tmp_path)
    change_config(tmp_path, architectures=None)
    with pytest.raises(ConfigError, match="gives whether two texts follow each other"):
        read_hugging_face(tmp_path)
    publish(transformers, "Bert", "ForPreTraining", tmp_path)
    change_config(tmp_path, architectures=None)
    assert read_hugging_face(tmp_path).config.has_mlm_head
