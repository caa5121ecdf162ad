"""Weights whose table of tokens has more rows than the vocabulary, or fewer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, toy_pairs

import regard
from regard.data.batching import SpecialIds, TokenRows
from regard.data.readers.running_text import read_text
from regard.errors import WeightsError
from regard.generation.beam_search_config import BeamSearchConfig
from regard.hub.model_folder import ModelFolder
from regard.models import Encoder
from regard.runs.export_check import export_model
from regard.runs.information import inspect_folder
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.tasks.sequence_to_sequence.decode_rows import decode_rows, forbid_unused_ids
from regard.training.events import Saved

SHORT = ("data.max_length=32", "training.batch_tokens=256", "training.precision=float32")
SMALL = (
    *SHORT,
    "preset=tiny",
    "model.dim=32",
    "model.hidden_dim=64",
    "model.num_heads=2",
    "model.num_layers=1",
    "tokenizer.vocab_size=400",
    "training.epochs=1",
)
MORE = 7
LOUD = 2.0  # logits of rows without a token are far above most others


def load(folder: Path) -> Any:
    """Open a folder as what it holds; `regard.load` tells of translators alone."""
    return regard.load(folder)


def resized(folder, output, change):
    """Copy a folder with more rows of tokens, or fewer; those that are new have loud logits."""
    shutil.copytree(folder, output)
    tensors, path = load_file(output / "model.safetensors"), output / "config.json"
    fields = json.loads(path.read_text())
    size = fields["vocab_size"]
    for name, tensor in tensors.items():
        if len(tensor) == size and change < 0:
            tensors[name] = tensor[:change].clone()
        elif len(tensor) == size:
            rows = torch.full((change, *tensor.shape[1:]), LOUD) * (-1.0) ** torch.arange(
                tensor[0].numel()
            ).view(1, *tensor.shape[1:])
            tensors[name] = torch.cat([tensor, rows, -rows])
    fields["vocab_size"] = size + (2 * change if change > 0 else change)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    path.write_text(json.dumps(fields))
    return output


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(200)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, book):
    """A published language model that has a row for each token."""
    folder = tmp_path_factory.mktemp("models")
    opened = train(book, folder / "own", settings=SMALL)
    export_model(opened, folder / "hf")
    return folder / "hf"


@pytest.fixture(scope="module")
def padded(tmp_path_factory, whole):
    return resized(whole, tmp_path_factory.mktemp("models") / "padded", MORE)


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory, padded, book):
    folder = tmp_path_factory.mktemp("models") / "more"
    train(book, folder, settings=(*SHORT, f"start_from={padded}", "training.epochs=2"))
    return folder


def num_tokens(folder):
    return len(ModelFolder(folder).read_tokenizer())


@pytest.mark.slow
def test_the_rows_come_with_the_weights_and_stay(gone_on, padded):
    size = num_tokens(padded)
    config = ModelFolder(gone_on).read_config(RunConfig)
    assert config.tokenizer.table_rows == size + 2 * MORE
    assert num_tokens(gone_on) == size
    assert load(gone_on).model.vocab_size == size + 2 * MORE
    assert inspect_folder(gone_on)[0].num_parameters == inspect_folder(padded)[0].num_parameters


def test_no_row_without_a_token_is_written(padded, whole):
    opened, plain = load(padded), load(whole)
    logits = opened.model(torch.tensor([[5, 6, 7]]))[0, -1]
    assert int(logits.argmax()) >= num_tokens(padded)  # what would be written else
    best, wanted = (
        model.generate("7 red", max_tokens=8, temperature=0.0) for model in (opened, plain)
    )
    assert best == wanted


@pytest.mark.slow
def test_the_result_is_evaluated_exported_and_gone_on_from(gone_on, book, tmp_path):
    opened = load(gone_on)
    assert opened.measure(read_text(str(book)))["loss"] < 12
    found = export_model(opened, tmp_path / "hf")
    assert found.difference == 0
    again = load(tmp_path / "hf")
    assert again.model.vocab_size == opened.model.vocab_size
    assert again.generate("7", max_tokens=5, seed=2) == opened.generate("7", max_tokens=5, seed=2)
    second = train(
        book, tmp_path / "m", settings=(*SHORT, f"start_from={gone_on}", "training.epochs=1")
    )
    assert second.model.vocab_size == opened.model.vocab_size


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(gone_on, padded, book, tmp_path):
    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved) and event.step > 2:
            raise CrashError

    settings = (*SHORT, f"start_from={padded}", "training.epochs=2")
    with pytest.raises(CrashError):
        train(book, tmp_path / "crashed", settings=settings, report=crash)
    resume(tmp_path / "crashed")
    ours, theirs = (ModelFolder(f).read_weights() for f in (tmp_path / "crashed", gone_on))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_fewer_rows_than_tokens_are_refused(whole, book, tmp_path):
    folder = resized(whole, tmp_path / "short", -3)
    size = num_tokens(whole)
    with pytest.raises(WeightsError) as caught:
        train(book, tmp_path / "m", settings=(*SHORT, f"start_from={folder}"))
    assert str(caught.value) == (
        f"{folder}: the weights have {size - 3} rows of tokens, the vocabulary has {size} tokens, "
        "so some have no row, such as 'Ġgreen'.  Take the vocabulary that the weights were trained "
        "with, or leave the token out of the text."
    )


@pytest.mark.slow
def test_an_encoder_fills_masks_with_tokens_only(book, tmp_path):
    of_bert = ("model.norm=post", "model.num_segments=2", "model.epsilon=1e-12")
    settings = (*SMALL, *of_bert, "task=masked-language-modeling")
    export_model(train(book, tmp_path / "own", settings=settings), tmp_path / "hf")
    padded = resized(tmp_path / "hf", tmp_path / "padded", MORE)
    opened, plain = load(padded), load(tmp_path / "hf")
    assert isinstance(opened.model, Encoder)
    filled, wanted = (model.fill("7 <mask> cat")[0] for model in (opened, plain))
    assert [word for word, _ in filled] == [word for word, _ in wanted]
    more = train(
        book,
        tmp_path / "more",
        settings=(*SHORT, f"start_from={padded}", "training.epochs=1", settings[-1]),
    )
    assert more.model.vocab_size == opened.model.vocab_size


@pytest.mark.slow
def test_search_writes_tokens_only(pairs_file, tmp_path):
    """A table that a user pads himself: the search may not use its last rows either."""
    translator = train(
        pairs_file,
        tmp_path / "m",
        settings=(*TINY, "training.epochs=1", "tokenizer.table_rows=900", "model.has_copy=false"),
    )
    model, tokenizer = translator.model, translator.tokenizer
    assert model.vocab_size == 900 > len(tokenizer)
    with torch.no_grad():
        model.output_weight[len(tokenizer) :] *= 20
    sources, ids = TokenRows(tokenizer.encode(["7 red cat", "old dog"])), SpecialIds()
    for beam in (1, 3):
        plain = BeamSearchConfig(beam=beam, max_length=5)
        found = decode_rows(model, sources, [0, 1], plain, ids)
        assert max(max(row[0].ids) for row in found) >= len(tokenizer)
        found = decode_rows(model, sources, [0, 1], forbid_unused_ids(plain, model, tokenizer), ids)
        assert all(token < len(tokenizer) for row in found for token in row[0].ids)
    assert translator.translate(["7 red cat"])
