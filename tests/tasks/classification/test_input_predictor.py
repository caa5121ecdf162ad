"""Vision Transformers in Hugging Face's layout, used and gone on from."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from tests.tasks.classification.input_data import draw_bars, write_waves

import regard
from regard.__main__ import main
from regard.errors import ConfigError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.setup.build import build_model
from regard.setup.config import RunConfig
from regard.setup.fine_tuning import load_pretrained
from regard.tasks import task_named
from regard.tasks.classification.input_predictor import InputClassifier


def load(folder: Path) -> Any:
    """Open a folder as what it holds; `regard.load` tells of translators alone."""
    return regard.load(folder)


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
    opened = load(folder)
    assert opened.labels == ("cat", "dog", "bird")
    for place, found in opened.stream(str(pictures)):
        pixels = np.asarray(pytest.importorskip("PIL.Image").open(place), np.float32) / 255
        prepared = torch.from_numpy((pixels - 0.25) / 0.5)[None, None]
        wanted = theirs(pixel_values=prepared).logits.softmax(-1)[0]
        for label, share in zip(opened.labels, wanted.tolist(), strict=True):
            assert found.probabilities[label] == pytest.approx(share, abs=1e-4)


def test_info_describes_it_without_a_vocabulary(capsys, published):
    assert main(["info", str(published[0])]) == 0
    out = capsys.readouterr().out
    assert "Tokens" not in out
    assert "Labels  3: cat, dog, bird\n" in out
    assert f"Use     regard classify {published[0]} FILE\n" in out
    assert f"        regard train FOLDER --from {published[0]} -o NEW\n" in out


def test_a_run_keeps_the_rows_of_published_labels(published):
    folder, theirs = published
    config = load(folder).config
    data = replace(config.data, labels=("bird", "cat", "horse"))
    training = replace(config.training, precision="float32")
    config = replace(config, start_from=str(folder), data=data, training=training)
    model = build_model(config, 0, task_named(config.task))
    assert load_pretrained(model, config) == (
        "The output layer keeps what it knows of bird, cat.  New: horse.  "
        "Left out, since the data lacks them: dog."
    )
    for name in ("weight", "bias"):
        rows, old = model.get_parameter(f"head.{name}"), getattr(theirs.classifier, name)
        assert torch.equal(rows[0], old[2]) and torch.equal(rows[1], old[0])
    assert not model.get_parameter("head.weight")[2].any()


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({}, 0.25 * 255, 0.5 * 255),
        ({"rescale_factor": 1 / 127.5}, 0.25 * 127.5, 0.5 * 127.5),
        ({"do_rescale": False}, 0.25, 0.5),
        ({"do_normalize": False}, 0.0, 255.0),
    ],
)
def test_pixels_are_scaled_as_the_folder_says(fields, mean, std, published, tmp_path):
    folder = shutil.copytree(published[0], tmp_path / "vit")
    prepared = {"image_mean": [0.25], "image_std": [0.5], **fields}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    data = load(folder).config.data
    assert (*data.mean, *data.std) == pytest.approx((mean, std))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_mean": 0.5}, "image_mean=0.5: a list of numbers was expected."),
        ({"image_std": ["x"]}, 'image_std=["x"]: a list of numbers was expected.'),
        ({"rescale_factor": 0}, "rescale_factor=0: a number above 0 was expected."),
        ({"do_center_crop": True}, "do_center_crop=true: images are not cropped here"),
    ],
)
def test_a_preparation_that_is_not_computed_is_refused_by_name(
    fields, message, published, tmp_path
):
    folder = shutil.copytree(published[0], tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError) as error:
        load(folder)
    assert str(error.value).startswith(f"{folder}/preprocessor_config.json: {message}")


def test_the_verb_classifies_with_it(capsys, published, pictures):
    assert main(["classify", str(published[0]), str(pictures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert {line.split("\t")[1] for line in lines} <= {"cat", "dog", "bird"}


@pytest.mark.slow
def test_a_run_continues_from_it(tmp_path, published, pictures):
    settings = (f"start_from={published[0]}", "training.epochs=1")
    train(pictures, tmp_path / "m", settings=settings)
    config = ModelFolder(tmp_path / "m").read_config(RunConfig)
    assert config.data.labels == ("lying", "standing")
    assert config.data.mean == (0.25 * 255,)
    assert config.optimizer.name == "adamw"
    assert len(list(load(tmp_path / "m").stream(str(pictures)))) == 24


def test_it_does_not_train_on_texts(tmp_path, published):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,y\n")
    with pytest.raises(ConfigError) as caught:
        train(path, tmp_path / "m", settings=(f"start_from={published[0]}",))
    assert str(caught.value) == (
        f"{published[0]}: a model for image-classification (model_type vit); the data is for "
        "classification."
    )


def test_a_missing_tensor_is_named(tmp_path, published):
    from safetensors.torch import load_file, save_file

    tensors = load_file(published[0] / "model.safetensors")
    tensors.pop("vit.layernorm.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((published[0] / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"vit\.layernorm\.bias is missing"):
        load(tmp_path)


SMALL = (
    "preset=tiny",
    "model.dim=16",
    "model.num_heads=2",
    "model.hidden_dim=32",
    "model.num_layers=2",
    "training.epochs=2",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures):
    settings = (*SMALL, "model.pooling=first", "model.width=12", "model.patch_width=3")
    return train(pictures, tmp_path_factory.mktemp("models") / "m", settings=settings)


@pytest.mark.slow
def test_one_of_ours_opens_in_transformers(tmp_path, trained, pictures):
    transformers = pytest.importorskip("transformers")
    found = export_model(trained, tmp_path / "hf")
    assert (found.model_type, found.difference) == ("vit", 0)
    assert found.peer_difference is not None and found.peer_difference < 1e-5
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path / "hf").eval()
    assert theirs.config.id2label == dict(enumerate(trained.labels))
    opened = load(tmp_path / "hf")
    assert opened.labels == trained.labels
    ours, again = (list(model.stream(str(pictures))) for model in (trained, opened))
    for (place, one), (_, other) in zip(ours, again, strict=True):
        assert one.label == other.label, place
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_their_preparation_of_pixels_is_ours(tmp_path, trained):
    transformers = pytest.importorskip("transformers")
    processors = pytest.importorskip("transformers.models.vit.image_processing_pil_vit")
    export_model(trained, tmp_path / "hf")
    theirs = processors.ViTImageProcessorPil.from_pretrained(tmp_path / "hf")
    assert transformers
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 12), dtype=np.uint8)
    prepared = theirs(pixels, input_data_format="channels_first", return_tensors="np")
    data = trained.config.data
    np.testing.assert_allclose(
        prepared["pixel_values"][0], (pixels - data.mean[0]) / data.std[0], rtol=1e-4, atol=1e-4
    )


def refusal(opened, folder) -> str:
    with pytest.raises(ConfigError) as caught:
        export_model(opened, folder)
    return str(caught.value)


def test_a_mean_over_patches_has_no_place(tmp_path, pictures):
    opened = train(pictures, tmp_path / "m", settings=SMALL)
    assert refusal(opened, tmp_path / "hf") == (
        "model.pooling=mean: vit checkpoints have first only.  "
        "A model that can be written is trained with `model.pooling=first`."
    )
    assert not (tmp_path / "hf").exists()


@pytest.mark.slow
def test_recordings_and_series_have_no_place(tmp_path):
    waves = write_waves(tmp_path / "waves.csv", num=30, length=16)
    opened = train(waves, tmp_path / "m", settings=SMALL)
    assert refusal(opened, tmp_path / "hf") == (
        "export: a model of series, which no published layout here reads: those of a Vision "
        "Transformer are of images alone."
    )
    sounds = replace(opened.config, task="audio-classification")
    with pytest.raises(ConfigError, match="a model of recordings"):
        export_model(InputClassifier(opened.model, sounds), tmp_path / "hf")
