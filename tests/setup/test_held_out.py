"""How many rows are held out: by default, by a fraction, in configurations of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.conftest import toy_pairs, write_tsv

import regard
from regard.__main__ import main
from regard.data.readers.source import open_source
from regard.errors import ConfigError, DataError
from regard.setup import inspect
from regard.setup.config import DataConfig, RunConfig
from regard.setup.dataset import ReadOptions
from regard.setup.request import Request
from regard.tasks import guess_task, task_named


def sizes(path, *settings):
    """Return the sizes of the parts of a new run on a file."""
    task = task_named(guess_task(path))
    request = Request.parse(settings, paths={"path": str(path)})
    draft = request.check(task.defaults)
    data = task.read(ReadOptions.from_request(request, draft, {}, has_sizes=False))
    return len(data.train), len(data.valid), len(data.test)


@pytest.mark.parametrize(("rows", "held_out"), [(20, 4), (100, 10), (200, 20), (700, 50)])
def test_more_than_a_handful_of_small_data_is_held_out(tmp_path, rows, held_out):
    path = write_tsv(tmp_path / "a.tsv", [(f"s{row}", f"t{row}") for row in range(rows)])
    assert sizes(path) == (rows - 2 * held_out, held_out, held_out)


@pytest.mark.parametrize(
    ("train", "test", "lack"),
    [
        ("text,label\n" + "a{0} b,{1}\n", "id,text\n" + "{0},c{0}\n", "text without label"),
        ("source,target\n" + "a{0},b{0}\n", "id,source\n" + "{0},c{0}\n", "source without target"),
    ],
)
def test_test_rows_without_what_is_predicted_come_with_the_fraction_that_works(
    train, test, lack, tmp_path
):
    for name, text in (("train", train), ("test", test)):
        header, row = text.split("\n", 1)
        rows = "".join(row.format(number, "xy"[number % 2]) for number in range(60))
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{rows}")
    with pytest.raises(DataError) as raised:
        sizes(tmp_path / "train.csv", f"data.test={tmp_path / 'test.csv'}")
    assert str(raised.value) == (
        f"{tmp_path}/test.csv: a column {lack}: such rows cannot be scored.  Hold out some of the "
        "training data: `data.test=10%`"
    )


def test_a_fraction_is_held_out(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", [(f"s{row}", f"t{row}") for row in range(200)])
    assert sizes(path, "data.valid=30%", "data.test=2.5%") == (135, 60, 5)
    other = write_tsv(tmp_path / "b.tsv", [("a", "b"), ("c", "d")])
    assert sizes(path, "data.valid=5%", f"data.test={other}") == (190, 10, 2)


def test_a_configuration_of_an_earlier_version_keeps_its_parts(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", [(f"s{row}", f"t{row}") for row in range(200)])
    config = RunConfig(data=DataConfig(path=str(path)))
    parts = task_named("translation").read(ReadOptions.from_config(config))
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (190, 5, 5)
    config = replace(config, data=replace(config.data, split_rule=2))
    parts = task_named("translation").read(ReadOptions.from_config(config))
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (160, 20, 20)


@pytest.mark.parametrize("fraction", ["0%", "100%", "-5%", "250 %"])
def test_a_fraction_that_leaves_nothing_is_refused(tmp_path, fraction):
    path = write_tsv(tmp_path / "a.tsv", toy_pairs(20))
    with pytest.raises(ConfigError, match="valid must be above 0 % and below 100 %, not "):
        sizes(path, f"data.valid={fraction}")


@pytest.mark.parametrize(
    ("value", "cause", "proposal"),
    [
        ("0", "a run always holds out some rows", "10%"),
        ("0.0", "a run always holds out some rows", "10%"),
        ("0.25", "a number alone is not a fraction", "25%"),
        (".05", "a number alone is not a fraction", "5%"),
        ("12,5", "a number alone is not a fraction", "12.5%"),
        ("15", "a number alone is not a fraction", "15%"),
        ("500", "a number alone is not a fraction", "10%"),
        ("-1", "a number alone is not a fraction", "10%"),
        ("nan", "a number alone is not a fraction", "10%"),
        ("12,5%", "not a fraction of the data", "12.5%"),
        ("inf%", "not a fraction of the data", "10%"),
    ],
)
@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_number_that_is_no_file_gets_the_fraction_to_name(
    capsys, tmp_path, part, value, cause, proposal
):
    path = write_tsv(tmp_path / "a.tsv", toy_pairs(40))
    assert main(["check", str(path), f"--{part}={value}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"regard: --{part} {value}: ")
    assert cause in error
    assert error.endswith(f"Hold out a fraction: --{part} {proposal}\n")
    assert main(["check", str(path), f"--{part}", proposal]) == 0


def test_a_file_may_have_a_number_as_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_tsv(tmp_path / "a.tsv", toy_pairs(40))
    write_tsv(tmp_path / "10", [("a", "b"), ("c", "d")])
    assert main(["check", str(path), "--test", "10", "--json"]) == 0


def test_in_python_numbers_and_columns_are_named_for_what_they_are(tmp_path):
    path = write_tsv(tmp_path / "a.tsv", toy_pairs(40))
    with pytest.raises(ConfigError, match="a run always holds out some rows"):
        regard.train(path, tmp_path / "m", test=0)
    with pytest.raises(DataError, match=r"^5: no such file"):
        regard.train(5, tmp_path / "m")
    with pytest.raises(DataError, match=r"^valid: dict, not rows\."):
        regard.train(path, tmp_path / "m", valid={"text": ["a"], "label": ["b"]})
    assert not (tmp_path / "m").exists()
    assert sizes(path, "data.valid=1e-05%")[1] == 1


def test_fractions_of_the_command_line_are_parts_of_the_rows(capsys, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", [(f"s{row}", f"t{row}") for row in range(50)])
    assert main(["check", str(path), "--valid", "20%", "--test", "10%", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["num_train"], report["num_valid"], report["num_test"]) == (35, 10, 5)
    assert "--valid 20%" in report["next"]


@pytest.mark.parametrize("text", ["word " * 4000, "Title\n" + "x" * 9000 + "\nThe end.\n"])
def test_a_text_of_one_huge_line_is_cut(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text)
    task = task_named("language-modeling")
    request = Request.parse(["data.valid=10%"], paths={"path": str(path)})
    draft = request.check(task.defaults)
    data = task.read(ReadOptions.from_request(request, draft, {}, has_sizes=False))
    num_train, num_valid, num_test = data.sizes
    assert abs(num_valid - 0.1 * len(text)) < 0.03 * len(text)
    assert 0 < num_test < 0.05 * len(text)
    assert num_train > 0.8 * len(text)
    parts = (data.train, data.valid, data.test)
    num_chars = sum(len(line) for part in parts for line in part.texts)
    assert num_chars == len(text.replace("\n", ""))


def test_the_embedded_corpus_has_parts_of_its_own():
    task = task_named("translation")
    draft = Request.parse(["data.valid=10%"]).check(task.defaults)
    with pytest.raises(ConfigError, match="the embedded corpus has validation and test data"):
        task.read(ReadOptions.from_config(draft))


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    opened = []
    paths = [str(tmp_path / name) for name in ("book.txt", "valid.txt")]
    for path in paths:
        Path(path).write_text("".join(f"{path}: line {number}\n" for number in range(40)))

    def open_counted(name, part):
        opened.append(name)
        return open_source(name, part)

    monkeypatch.setattr(inspect, "open_source", open_counted)
    data = DataConfig(path=paths[0], valid=paths[1])
    task_named("language-modeling").read(ReadOptions(data=data, seed=1))
    assert sorted(opened) == paths
