"""Runs of a Transformer that copies: training, resuming, what `info` and `export` say."""

from __future__ import annotations

import pytest
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.runs.test_run_resume import Crash, crash_after, essence

from regard import load
from regard.errors import ConfigError
from regard.explain.layer_table import layer_table
from regard.hub.model_folder import ModelFolder
from regard.runs.export_check import export_model
from regard.runs.information import inspect_folder
from regard.runs.run import resume, train
from regard.setup.config import RunConfig

SETTINGS = (
    *TINY,
    "training.epochs=1",
    "training.checkpoint_seconds=0.0",
    "model.has_copy=true",
    "training.coverage=0.5",
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_tsv(tmp_path_factory.mktemp("data") / "pairs.tsv", toy_pairs(150))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("copying") / "model"
    train(pairs, path, settings=SETTINGS)
    return path


@pytest.mark.slow
def test_a_run_that_crashes_ends_with_the_same_bits(folder, pairs, tmp_path):
    with pytest.raises(Crash):
        train(pairs, tmp_path / "broken", settings=SETTINGS, report=crash_after(2))
    resume(tmp_path / "broken")
    assert essence(tmp_path / "broken") == essence(folder)


@pytest.mark.slow
def test_a_folder_keeps_the_option_and_opens(folder):
    config = ModelFolder(folder).read_config(RunConfig)
    assert config.model.has_copy
    assert config.training.coverage == 0.5
    model = load(folder)
    assert model.model.copy_head is not None
    assert len(model.translate(["3 red cat sees the dog", "7 old house likes the tree"])) == 2
    assert len(model.translate_best(["3 red cat sees the dog"], beam=3, nbest=3)[0]) == 3


@pytest.mark.slow
def test_information_has_the_mechanism_and_export_refuses_it(folder, tmp_path):
    information, model = inspect_folder(folder)
    rows = layer_table(model, 16)
    assert rows[-1].name == "copy_head"
    assert sum(row.num_parameters for row in rows if row.depth == 0) == information.num_parameters
    with pytest.raises(ConfigError, match="pegasus checkpoints have no copy mechanism"):
        export_model(load(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
