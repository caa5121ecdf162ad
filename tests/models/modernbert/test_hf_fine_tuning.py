"""Classifiers and finders of answers begin with the head that predicted masked tokens."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.models import Classifier, SpanModel
from regard.models.modernbert.hf import MODERNBERT_FORMAT
from regard.models.modernbert.model import ModernBert, ModernBertConfig
from regard.setup.config import DataConfig, RunConfig
from regard.setup.fine_tuning import load_pretrained

VOCAB = 20


def build(**changes) -> ModernBert:
    sizes = {"num_layers": 2, "dim": 8, "num_heads": 2, "hidden_dim": 12, "window": (0, 4)}
    return ModernBert(ModernBertConfig(**sizes, **changes), VOCAB)


def new_models() -> dict[str, Classifier | SpanModel]:
    encoders = build(norm_bias=True), build(norm_bias=True)
    for encoder in encoders:
        encoder.drop_head()
    return {
        "labels": Classifier(encoders[0], 2),
        "answers": SpanModel(encoders[1], has_roles=False),
    }


@pytest.mark.parametrize("kind", ["labels", "answers"])
@pytest.mark.parametrize("has_head", [True, False])
def test_the_head_of_masked_tokens_goes_on_where_there_is_one(kind, has_head, tmp_path):
    torch.manual_seed(1)
    source = build(norm_bias=True, has_mlm_head=has_head, has_pooler=False)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    write_hugging_face(tmp_path, source, source.config, MODERNBERT_FORMAT, VOCAB)
    model = new_models()[kind]
    fresh = model.encoder.pooler.dense.weight.detach().clone()
    config = RunConfig(start_from=str(tmp_path), data=DataConfig(labels=("a", "b")))
    load_pretrained(model, config)
    pooler, tensors = model.encoder.pooler, load_file(tmp_path / "model.safetensors")
    expected = tensors["head.dense.weight"] if has_head else fresh
    assert torch.equal(pooler.dense.weight, expected)
    assert not has_head or torch.equal(pooler.norm.bias, tensors["head.norm.bias"])
    last = tensors["model.layers.1.mlp.Wo.weight"]
    assert torch.equal(model.encoder.blocks[1].feed_forward.outer.weight, last)
