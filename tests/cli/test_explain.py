"""``regard explain``: formats, options that do not go together, files, and the table of methods."""

from __future__ import annotations

import json
import math

import pytest
from tests.cli.commands import feed
from tests.conftest import TINY, toy_pairs, write_tsv

from regard.__main__ import main
from regard.cli import progress
from regard.runs.run import train
from regard.tasks import opening

METHODS = ("--method", "ig,attention")


@pytest.fixture(autouse=True)
def without_lines_of_progress(monkeypatch):
    """A busy machine takes long enough for some."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", math.inf)


def test_an_explanation_is_printed_with_error_faithfulness_and_the_honest_sentence(trained, capsys):
    assert main(["explain", str(trained), "bir", *METHODS]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Integrated gradients" in out
    assert "random" in out
    assert "Attention shows where information may flow, not why." in out


def test_json_is_the_document_of_the_page(trained, capsys):
    assert main(["explain", str(trained), "bir", *METHODS, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["methods"]) == ["integrated_gradients", "attention"]
    assert document["text"] == "bir"
    assert document["model"]["name"] == trained.name
    assert len(document["model"]["hash"]) == 8
    pieces = [feature["text"] for feature in document["input"] if feature["part"] == "source"]
    assert "".join(pieces).strip() == "bir</s>"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "begin"), [("why.html", "<!doctype html>"), ("why.svg", "<svg"), ("why.json", "{")]
)
def test_the_suffix_of_a_file_decides_the_format(trained, tmp_path, capsys, name, begin):
    path = tmp_path / name
    assert main(["explain", str(trained), "bir", *METHODS, "-o", str(path)]) == 0
    assert capsys.readouterr() == ("", f"{path}: written\n")
    assert path.read_text().lstrip().lower().startswith(begin)


@pytest.mark.slow
def test_one_line_of_a_file_is_explained_and_which_one_is_said(trained, tmp_path, capsys):
    path = tmp_path / "lines.txt"
    path.write_text("bir\niki\n")
    assert main(["explain", str(trained), str(path), *METHODS, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == "bir"
    assert err == f"regard: note: {path}: the first of 2 lines is explained; another one: --line\n"
    assert main(["explain", str(trained), str(path), *METHODS, "--json", "--line", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "iki"
    assert main(["explain", str(trained), str(path), "--line", "3"]) == 3
    err = capsys.readouterr().err
    assert err == f"regard: {path} has 2 lines: there is no line 3 to explain.\n"


def test_what_has_no_line_is_said_to_be_empty(trained, tmp_path, capsys, monkeypatch):
    for words in ([], ["-"], ["-", "--line", "2"]):
        feed(monkeypatch, "")
        assert main(["explain", str(trained), *words]) == 3
        err = capsys.readouterr().err
        assert err == "regard: standard input is empty: there is nothing to explain.\n"
    (tmp_path / "none.txt").touch()
    assert main(["explain", str(trained), str(tmp_path / "none.txt")]) == 3
    assert "none.txt is empty: there is nothing to explain." in capsys.readouterr().err
    feed(monkeypatch, "bir\n")
    assert main(["explain", str(trained), "-", "--line", "2"]) == 3
    err = capsys.readouterr().err
    assert err == "regard: standard input has 1 line: there is no line 2 to explain.\n"


def test_another_output_and_a_contrast_are_explained(trained, capsys):
    words = ["explain", str(trained), "bir", *METHODS, "--json"]
    assert main([*words, "--target", "abc", "--contrast", "abd"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["contrast"] == "abd"
    assert len(document["output"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bir", "-o", "why.pdf"], "-o why.pdf: an explanation has no format of this suffix."),
        (["bir", "-o", "why.html", "--format", "svg"], "-o why.html: not the suffix of svg."),
        (["bir", "-o", "why.html", "--json"], "not the suffix of json.  Leave --json out."),
        (["bir", "--json", "--format", "text"], "--json and --format text: leave one out."),
        (["bir", "-o", "no/such/why.html"], "no/such/why.html: cannot be written"),
        (["bir", "--evaluate", "test.tsv"], "Leave TEXT out."),
        (["--evaluate", "test.tsv", "-o", "why.html"], "Leave -o out."),
        (["--evaluate", "test.tsv", "-o", "table.json"], "Leave -o out."),
        (["--evaluate", "test.tsv", "--line", "2"], "Leave --line out."),
        (["--evaluate", "test.tsv", "--text"], "Leave --text out."),
        (["--evaluate", "test.tsv", "--encoding", "latin1"], "Leave --encoding out."),
        (["bir", "--rows", "5"], "--rows goes with --evaluate FILE."),
        (["--evaluate", "test.tsv", "--format", "svg"], "text or json, not svg"),
        (["bir", "--line", "0"], "--line"),
        (["bir", "--memory", "0"], "--memory"),
        (["bir", "--method", "shap"], "occlusion"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_opened(
    trained, monkeypatch, capsys, words, message
):
    monkeypatch.setattr(opening, "open_model", lambda _: pytest.fail("opened"))
    assert main(["explain", str(trained), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" "], "the text is empty"),
        (["bir", "--context", "pairs.txt"], "does not answer questions"),
    ],
)
def test_what_the_model_cannot_explain_is_refused(trained, capsys, words, message):
    assert main(["explain", str(trained), *words]) in (2, 3, 4)
    assert message in capsys.readouterr().err


def test_the_table_of_methods_ends_with_the_best(trained, tmp_path, capsys):
    path = write_tsv(tmp_path / "new.tsv", [("ein a", "a"), ("ein b", "b")])
    words = ["explain", str(trained), "--evaluate", str(path), "--method", "attention"]
    assert main([*words, "--rows", "2"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("Best    attention")
    assert last.endswith(", not clearly ahead of random")  # which is ahead on these two rows


@pytest.mark.slow
def test_methods_are_compared_on_rows_of_a_test_file(trained, tmp_path, capsys):
    path = write_tsv(tmp_path / "new.tsv", [(f"ein {a}", b) for a, b in toy_pairs(3, seed=9)])
    words = ["explain", str(trained), "--evaluate", str(path), "--method", "occlusion,attention"]
    assert main([*words, "--rows", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rows"] == 2
    assert set(result["methods"]) == {"occlusion", "attention", "random"}
    assert result["best"] in ("occlusion", "attention")
    for method in result["methods"].values():
        assert method["comprehensiveness"]["low"] <= method["comprehensiveness"]["value"]


@pytest.fixture(scope="module")
def trained_on_few(tmp_path_factory):
    """A model of few rows: the influence of each is computed, and it is trained again."""
    folder = tmp_path_factory.mktemp("few")
    train(write_tsv(folder / "pairs.tsv", toy_pairs(120)), folder / "toy", settings=TINY)
    return folder / "toy"


@pytest.mark.slow
def test_training_rows_are_part_of_the_document(trained_on_few, capsys):
    words = ["explain", str(trained_on_few), "bir", "--method", "attention", "--influence", "3"]
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    influence = json.loads(out)["influence"]
    assert influence["unit"] == "pairs"
    assert influence["data"].endswith("pairs.tsv")
    assert len(influence["helpful"]) == len(influence["harmful"]) == 3
    assert influence["retraining"] is None


@pytest.mark.slow
def test_influence_is_checked_by_training_again(trained_on_few, capsys):
    words = ["explain", str(trained_on_few), "bir", "--method", "attention", "--influence", "3"]
    assert main([*words, "--retrain", "1"]) == 0
    out = capsys.readouterr().out
    assert "Without them the output would be less probable" in out
    assert "Trained again, each once: log-probability" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--influence", "0"], "--influence 0: must be 1"),
        (["--retrain", "2"], "--retrain checks the influence of training rows: add --influence N."),
        (["--influence", "2", "--retrain", "0"], "--retrain 0: must be 1"),
        (["--influence", "2", "-o", "why.svg"], "a picture shows no training rows."),
    ],
)
def test_options_of_training_rows_without_effect_are_refused(trained, words, message, capsys):
    assert main(["explain", str(trained), "bir", *words]) == 2
    assert message in capsys.readouterr().err
