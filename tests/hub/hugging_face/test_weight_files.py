"""Weights written to several files with an index, and read back."""

from __future__ import annotations

import json

import pytest
import torch

from regard.hub.hugging_face.published_folder import read_hugging_face, write_hugging_face
from regard.hub.hugging_face.weight_files import (
    WEIGHTS,
    WEIGHTS_INDEX,
    read_all_tensors,
    weight_files,
    write_all_tensors,
)
from regard.models import CHECKPOINT_FORMATS
from regard.models.gpt.model import Gpt, GptConfig

CONFIG = GptConfig(num_layers=2, dim=16, num_heads=2, hidden_dim=24)


def tensors_of(*sizes: int) -> dict[str, torch.Tensor]:
    return {f"t{place}": torch.full((size,), float(place)) for place, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("limit", "shards"),
    [
        (40, [["t0", "t1", "t2"]]),
        (32, [["t0", "t1"], ["t2"]]),
        (24, [["t0", "t1"], ["t2"]]),
        (4, [["t0"], ["t1"], ["t2"]]),
    ],
)
def test_as_much_as_fits_stands_in_a_file_and_a_larger_tensor_alone(limit, shards, tmp_path):
    tensors = tensors_of(2, 4, 4)  # 8, 16 and 16 bytes
    write_all_tensors(tmp_path, tensors, limit)
    found = [sorted(read_all_tensors_of(path)) for path in weight_files(tmp_path)]
    assert found == shards
    again = read_all_tensors(tmp_path)
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / WEIGHTS_INDEX).exists() == (len(shards) > 1)


def read_all_tensors_of(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_the_index_is_that_of_transformers(tmp_path):
    write_all_tensors(tmp_path, tensors_of(2, 4), 16)
    assert json.loads((tmp_path / WEIGHTS_INDEX).read_text()) == {
        "metadata": {"total_size": 24},
        "weight_map": {
            "t0": "model-00001-of-00002.safetensors",
            "t1": "model-00002-of-00002.safetensors",
        },
    }


def test_what_an_earlier_export_left_is_not_read(tmp_path):
    write_all_tensors(tmp_path, tensors_of(3, 3, 3), 4)
    write_all_tensors(tmp_path, tensors_of(5, 5), 20)
    assert sorted(path.name for path in tmp_path.glob("model-*")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    write_all_tensors(tmp_path, tensors_of(7), 100)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    write_all_tensors(tmp_path, tensors_of(5, 5), 20)
    assert not (tmp_path / WEIGHTS).exists()
    assert len(read_all_tensors(tmp_path)["t0"]) == 5


def test_a_sharded_model_is_the_same_here_and_in_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    model = Gpt(CONFIG, 40).eval()
    checkpoint_format = CHECKPOINT_FORMATS["llama"]
    write_hugging_face(tmp_path, model, CONFIG, checkpoint_format, 40, shard_bytes=3000)
    assert len(weight_files(tmp_path)) > 3
    published = read_hugging_face(tmp_path)
    again = Gpt(published.config, 40).eval()
    published.load_into(again)
    ids = torch.arange(10)[None]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        ours, found = model(ids), theirs(ids).logits
        assert torch.equal(ours, again(ids))
    assert float((ours - found).abs().max()) < 1e-4 * float(found.std())
