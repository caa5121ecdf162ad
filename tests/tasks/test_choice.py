"""The task of a run, and settings that it does not read."""

from __future__ import annotations

import pytest
from tests.conftest import toy_pairs, write_tsv

from regard.data.readers.source import open_source
from regard.errors import ConfigError
from regard.setup.config import RunConfig
from regard.setup.request import Request
from regard.tasks import DEFAULT_TASK, task_named
from regard.tasks.choice import choose_task


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    write_tsv(path, toy_pairs(20))
    return open_source(str(path))


@pytest.mark.parametrize(
    ("setting", "readers"),
    [
        ("forecast.horizon=12", "forecasting"),
        ("forecast.known=holiday", "forecasting"),
        ("qa.overlap=3", "question-answering"),
        ("sampling.top_k=3", "language-modeling"),
        ("audio.num_bands=20", "audio-classification"),
    ],
)
def test_a_setting_of_another_task_is_refused_by_name(pairs, setting, readers):
    with pytest.raises(ConfigError, match=f"{setting}.*a setting of {readers}; .*for translation"):
        choose_task(Request.parse([setting]), pairs)


@pytest.mark.parametrize("setting", ["search.beam=3", "tokenizer.vocab_size=400", "qa.overlap=128"])
def test_a_setting_that_is_read_or_says_what_is_so_anyway_is_taken(pairs, setting):
    assert choose_task(Request.parse([setting]), pairs).name == "translation"


def test_a_task_that_is_set_reads_its_own_settings(pairs):
    request = Request.parse(["task=language-modeling", "sampling.top_k=3"])
    assert choose_task(request, pairs).name == "language-modeling"
    with pytest.raises(ConfigError, match="a setting of translation"):
        choose_task(Request.parse(["task=language-modeling", "search.beam=3"]), pairs)


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "y.csv"
    path.write_text("time,y\n" + "".join(f"2024-01-01 {h:02}:00,{h % 3}\n" for h in range(24)))
    return open_source(str(path))


@pytest.mark.parametrize("setting", ["languages=en-de", "max_length=50", "drop_overlap=true"])
def test_a_setting_of_the_data_that_the_task_does_not_read_is_refused(hours, setting):
    with pytest.raises(ConfigError, match=f"`data.{setting}`: .*the data is for forecasting"):
        choose_task(Request.parse([f"data.{setting}"]), hours)


def test_where_no_task_is_set_the_data_decides_and_the_embedded_corpus_is_for_translation(hours):
    unset = Request.parse(["task="])
    assert unset.bind_all_but_model(RunConfig()).task == RunConfig().task == ""
    assert choose_task(unset, hours).name == "forecasting"
    assert choose_task(unset, None).name == DEFAULT_TASK == "translation"


def test_an_unknown_task_is_refused_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"was expected\.  Did you mean classification\?$"):
        task_named("clasification")
