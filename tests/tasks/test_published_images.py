"""Vision Transformers in Hugging Face's layout, used and gone on from."""

import json

import numpy as np
import pytest
import torch
from tests.tasks.input_data import draw_bars

import regard
from regard.__main__ import main
from regard.errors import ConfigError, WeightsError
from regard.interchange.folder import ModelFolder
from regard.tasks.run_config import RunConfig
from regard.tasks.train import train

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A classifier as ``transformers`` saves it, and the one that it was."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    names = {0: "cat", 1: "dog", 2: "bird"}
    config = transformers.ViTConfig(**SIZES, id2label=names)
    theirs = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        theirs.classifier.weight.normal_()
    folder = tmp_path_factory.mktemp("vit")
    theirs.save_pretrained(folder)
    prepared = {"image_mean": [0.25], "image_std": [0.5], "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder, theirs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("pictures")
    for number, (pixels, label) in enumerate(zip(*draw_bars(24), strict=True)):
        (folder / label).mkdir(exist_ok=True)
        image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_it_classifies_as_its_makers_library_does(published, pictures):
    folder, theirs = published
    opened = regard.load(folder)
    assert opened.labels == ("cat", "dog", "bird")
    for place, found in opened.stream(str(pictures)):
        pixels = np.asarray(pytest.importorskip("PIL.Image").open(place), np.float32) / 255
        prepared = torch.from_numpy((pixels - 0.25) / 0.5)[None, None]
        wanted = theirs(pixel_values=prepared).logits.softmax(-1)[0]
        for label, share in zip(opened.labels, wanted.tolist(), strict=True):
            assert found.probabilities[label] == pytest.approx(share, abs=1e-4)


def test_the_verb_classifies_with_it(capsys, published, pictures):
    assert main(["classify", str(published[0]), str(pictures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert {line.split("\t")[1] for line in lines} <= {"cat", "dog", "bird"}


def test_a_run_goes_on_from_it(tmp_path, published, pictures):
    settings = (f"start_from={published[0]}", "training.epochs=1")
    train(pictures, tmp_path / "m", settings=settings)
    config = ModelFolder(tmp_path / "m").read_config(RunConfig)
    assert config.data.labels == ("lying", "standing")
    assert config.data.mean == (0.25 * 255,)
    assert config.optimizer.name == "adamw"
    assert len(list(regard.load(tmp_path / "m").stream(str(pictures)))) == 24


def test_it_does_not_go_on_with_texts(tmp_path, published):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,y\n")
    with pytest.raises(ConfigError) as caught:
        train(path, tmp_path / "m", settings=(f"start_from={published[0]}",))
    assert str(caught.value) == (
        f"{published[0]}: made for image-classification; the data is for classification."
    )


def test_a_missing_tensor_is_named(tmp_path, published):
    from safetensors.torch import load_file, save_file

    tensors = load_file(published[0] / "model.safetensors")
    tensors.pop("vit.layernorm.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((published[0] / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"vit\.layernorm\.bias is missing"):
        regard.load(tmp_path)
