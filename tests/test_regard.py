"""What ``import regard`` offers: light to import, and the same from files and from memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.conftest import TINY, toy_pairs

import regard
from regard.errors import ConfigError, DataError
from regard.training.events import Finished

LABELED = [{"text": f"{word} day {row}", "label": word} for row in range(30) for word in "ab"]


@pytest.mark.slow
def test_the_libraries_are_there_after_the_import_and_torch_is_not():
    script = (
        "import sys, regard; assert 'torch' not in sys.modules; "
        "print([getattr(regard, name).__name__ for name in regard.__all__ if name[0] != '_'])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    for name in ("regard.attention", "regard.optim", "regard.models", "regard.layers", "'train'"):
        assert name in out
    with pytest.raises(AttributeError, match="has no attribute 'zzz'"):
        _ = regard.zzz


def test_its_names_are_what_it_offers():
    assert dir(regard) == sorted(regard.__all__)


@pytest.fixture(scope="module")
def from_pairs(tmp_path_factory):
    """A translator of pairs in memory."""
    folder = tmp_path_factory.mktemp("memory") / "m"
    return regard.train(toy_pairs(120), folder, settings=TINY, report=None), folder


@pytest.mark.slow
def test_pairs_in_memory_train_a_translator_and_are_kept(from_pairs):
    translator, folder = from_pairs
    assert (folder / "data.jsonl").read_text().count("\n") == 120
    assert translator.config.data.path == str(folder / "data.jsonl")
    assert regard.resume(folder, report=None).config == translator.config


@pytest.mark.slow
def test_one_string_gives_one_result_and_a_list_a_list(from_pairs):
    translator, _ = from_pairs
    one = translator.translate("7 red cat")
    assert isinstance(one, str)
    assert translator.translate(["7 red cat"]) == [one]


@pytest.mark.slow
def test_records_in_memory_train_a_classifier(tmp_path):
    events = []
    settings = ("training.epochs=1", "model.dim=16", "tokenizer.kind=byte")
    classifier = regard.train(
        LABELED, tmp_path / "m", valid=LABELED[:4], settings=(*settings, "data.allow_overlap=true"),
        report=events.append,
    )  # fmt: skip
    assert set(classifier.labels) == {"a", "b"}
    assert classifier.classify("a day").label == classifier.classify(["a day"])[0].label
    assert (tmp_path / "m" / "valid.jsonl").is_file()
    assert isinstance(events[-1], Finished)


class Frame:
    """A table as data frames have it."""

    columns = ("text", "label")

    def __getitem__(self, name):
        return [record[name] for record in LABELED]

    def to_dict(self):
        """Return the columns."""
        return {name: self[name] for name in self.columns}


def test_a_data_frame_gives_the_rows_of_its_columns(tmp_path):
    from regard.data.readers.memory import source_of_rows

    assert source_of_rows(Frame()).content == source_of_rows(LABELED).content


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "data: there are no rows."),
        ([("a", "b"), ("a", "b", "c")], "data: row 2 is \"('a', 'b', 'c')\" (tuple)."),
        ([3], "data: row 1 is '3' (int).  Expected a pair"),
        ([{"text": object()}], "data: row 1 cannot be written as JSON"),
    ],
)
def test_rows_that_cannot_be_used_are_named(rows, message, tmp_path):
    with pytest.raises(DataError) as caught:
        regard.train(rows, tmp_path / "m", report=None)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "m").exists()


def test_errors_of_settings_and_data_are_value_errors(tmp_path):
    with pytest.raises(ValueError, match='preset="huge"'):
        regard.train(toy_pairs(40), tmp_path / "m", preset="huge", report=None)
    with pytest.raises(ConfigError, match="one of translation"):
        regard.train(toy_pairs(40), tmp_path / "m", task="translating", report=None)


@pytest.mark.slow
def test_an_evaluation_has_scores_and_baselines(from_pairs, tmp_path):
    test = tmp_path / "test.tsv"
    test.write_text("".join(f"{s}\t{t}\n" for s, t in toy_pairs(200)[180:]))
    report = regard.evaluate(from_pairs[1], test, allow_overlap=True)
    assert report.num_pairs == 20
    assert report.scores.chrf.low <= report.scores.chrf.value <= report.scores.chrf.high


@pytest.mark.parametrize("value", [None, 3, 0.5, [1], {}, b"m", object(), int])
def test_what_is_no_path_is_refused_by_the_name_of_the_argument(value, tmp_path):
    expected = f"was expected, a text or a Path, not {type(value).__name__}."
    for name, call in (
        ("folder", lambda: regard.load(value)),
        ("output", lambda: regard.resume(value)),
        ("output", lambda: regard.train([("a", "b")], value)),
        ("model", lambda: regard.evaluate(value, "pairs.tsv")),
    ):
        with pytest.raises(TypeError) as error:
            call()
        assert str(error.value).startswith(f"`{name}`: the path of ")
        assert str(error.value).endswith(expected)
    if value is not None:
        with pytest.raises(TypeError, match="`compare`: the path of a model folder"):
            regard.evaluate(tmp_path, "pairs.tsv", compare=value)


@pytest.mark.parametrize("value", [3, "loud", [print]])
def test_a_report_that_cannot_be_called_is_refused(value, tmp_path):
    with pytest.raises(TypeError, match='a function, "auto" or None was expected, not'):
        regard.resume(tmp_path, report=value)


def test_importing_the_package_loads_no_torch():
    script = "import regard, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
