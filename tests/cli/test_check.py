"""``regard check``: what is read, what is wrong with it, and the next command."""

import io
import json

import pytest
from tests.cli.commands import feed, run
from tests.conftest import toy_pairs


def test_check_reports_and_names_the_next_command(capsys, pairs_file):
    code, out, _ = run(capsys, "check", pairs_file)
    assert code == 0
    assert "400 pairs" in out
    assert f"regard train {pairs_file} -o FOLDER" in out
    words = ("--lang", "en-de", "--drop-overlap", "--set", "data.max_length=99")
    code, out, _ = run(capsys, "check", pairs_file, *words)
    assert out.endswith(f"Next    regard train {pairs_file} {' '.join(words)} -o FOLDER\n")
    code, out, _ = run(capsys, "check", pairs_file, "--json")
    report = json.loads(out)
    assert report["num_pairs"] == report["rows"] == 400
    assert (report["read_as"], report["columns"]) == (
        "sentence pairs (tab-separated, no header)",
        [],
    )
    assert (report["dropped"], report["problems"]) == ({}, [])
    assert report["next"] == f"regard train {pairs_file} -o FOLDER"


def test_check_names_the_columns_that_it_reads(capsys, tmp_path):
    data = tmp_path / "mood.csv"
    rows = (f"good day {n},pos\nbad night {n},neg\n" for n in range(40))
    data.write_text("Text,Label\n" + "".join(rows))
    report = json.loads(run(capsys, "check", data, "--json")[1])
    assert report["read_as"] == "labelled text, columns Text, Label"
    assert report["columns"] == ["Text", "Label"]
    line = run(capsys, "check", data)[1].splitlines()[0]
    assert line.startswith(f"Data    {data}   read as {report['read_as']}   80 texts   2 labels")


def test_columns_that_nobody_asked_for_are_named_once(capsys, tmp_path):
    data = tmp_path / "mood.csv"
    rows = (f"{n};good day {n};pos;0.5\n{n};bad night {n};neg;0.1\n" for n in range(40))
    data.write_text("sep=;\nid;Review;Sentiment;score\n" + "".join(rows))
    report = json.loads(run(capsys, "check", data, "--json")[1])
    assert report["unused_columns"] == ["id", "score"]
    assert report["read_as"] == (
        "labelled text, columns Review, Sentiment (semicolon-separated, not used: id, score)"
    )


def test_labels_that_can_hardly_be_learned_are_warned_about(capsys, tmp_path):
    data = tmp_path / "mood.csv"
    rows = [f"good day {n},pos\nbad night {n},neg\n" for n in range(40)]
    data.write_text("Text,Label\n" + "".join(rows) + "a strange thing,rare\n")
    out = run(capsys, "check", data)[1]
    assert out.splitlines()[1] == "Warning 1 label has one row: rare.  Add rows of them."
    data.write_text("Text,Label\n" + "".join(f"text number {n},{n}\n" for n in range(40)))
    report = json.loads(run(capsys, "check", data, "--json")[1])
    assert report["warnings"][0] == (
        "40 labels in 40 rows: nearly every row has its own.  Wrong column?  --columns Text,NAME"
    )


def test_a_label_of_the_test_part_alone_is_warned_about(capsys, tmp_path):
    data, test = tmp_path / "mood.csv", tmp_path / "test.csv"
    rows = [f"good day {n},pos\nbad night {n},neg\n" for n in range(40)]
    data.write_text("Text,Label\n" + "".join(rows))
    test.write_text("Text,Label\na strange thing,rare\nanother,rare\nfine,pos\n")
    code, out, _ = run(capsys, "check", data, "--test", test)
    assert code == 0
    assert out.splitlines()[1] == "Warning 1 label has no row in training: rare."
    test.write_text("Text,Label\na strange thing,rare\n")
    code, _, err = run(capsys, "check", data, "--test", test)
    assert code == 3
    assert 'the label "rare" is not in' in err


def test_one_column_of_two_is_refused(capsys, pairs_file):
    code, _, err = run(capsys, "check", pairs_file, "--columns", "source")
    assert code == 2
    assert "one column, two expected, source and target: --columns source,NAME" in err


def test_pairs_with_few_targets_are_warned_about(capsys, tmp_path):
    data = tmp_path / "mood.tsv"
    alone = "".join(f"word {n}\tWort {n}\n" for n in range(20))
    data.write_text("".join(f"good day {n}\tpos\n" for n in range(400)) + alone)
    out = run(capsys, "check", data)[1]
    remedy = "--columns 1,2 --set task=classification"
    assert f"Warning 400 pairs have only 1 different target.  Labels?  {remedy}\n" in out


@pytest.mark.parametrize("is_first", [True, False], ids=["label first", "label last"])
def test_texts_with_labels_and_no_header_are_told_the_columns(capsys, tmp_path, is_first):
    data = tmp_path / "mood.tsv"
    rows = [(("pos", "neg")[n % 2], f"good day {n}") for n in range(40)]
    data.write_text("".join("\t".join(row if is_first else row[::-1]) + "\n" for row in rows))
    code, _, err = run(capsys, "check", data)
    columns = "2,1" if is_first else "1,2"
    assert code == 3
    assert err.endswith(
        f"40 pairs have only 2 different {'sources' if is_first else 'targets'}.  Labels?  "
        f"--columns {columns} --set task=classification\n"
    )
    code, out, _ = run(capsys, "check", data, "--columns", columns)
    assert code == 0
    assert "read as labelled text, columns" in out and "no header)" in out


@pytest.mark.parametrize("verb", [("train", "-o", "m"), ("check",)], ids=["train", "check"])
def test_data_that_is_named_twice_is_refused(capsys, pairs_file, verb):
    words = (verb[0], pairs_file, *verb[1:])
    code, _, err = run(capsys, *words, "--set", "data.path=other.tsv")
    assert code == 2
    assert err == (
        f"regard: data.path=other.tsv: {pairs_file} is named as well.  Name one of the two.\n"
    )


def test_check_counts_near_duplicates(capsys, tmp_path):
    rows = [f"a text number {row}\tein Text Nummer {row}" for row in range(40)]
    rows += ["\u201eA text\u201c number 7!\tein Text, Nummer\u200b 7"]
    data = tmp_path / "pairs.tsv"
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert "Similar 1 row differs from another only in" in run(capsys, "check", data)[1]
    assert json.loads(run(capsys, "check", data, "--json")[1])["near_duplicates"] == 1


def test_check_takes_standard_input(capsys, monkeypatch):
    feed(monkeypatch, "".join(f"{s}\t{t}\n" for s, t in toy_pairs(40)))
    code, out, _ = run(capsys, "check", "-")
    assert code == 0
    assert "40 pairs" in out
    assert "Next" not in out  # there is no file to train on


def test_check_lists_every_malformed_row(capsys, tmp_path):
    data = tmp_path / "pairs.tsv"
    rows = [f"{s}\t{t}" for s, t in toy_pairs(30)]
    rows[3], rows[7] = "only one", "and another"
    data.write_text("\n".join(rows), encoding="utf-8")
    code, out, err = run(capsys, "check", data)
    assert code == 3
    assert f"{data}:4: one column" in out
    assert f"{data}:8: one column" in out
    assert "2 rows cannot be read" in err
    _, out, _ = run(capsys, "check", data, "--json")
    problem = json.loads(out)["problems"][1]
    assert (problem["line"], problem["text"]) == (8, "and another")


def test_check_names_problems_of_one_kind_once_with_count_and_lines(capsys, tmp_path):
    data = tmp_path / "waves.csv"
    data.write_text("source,target\n" + "one,two,three\n" * 150 + "one\n")
    code, out, err = run(capsys, "check", data)
    assert code == 3 and "151 rows cannot be read" in err
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("150 rows like this: lines 2, 3, 4 and 147 more.")
    assert lines[1].startswith(f"{data}:152: one column, two expected.")
    _, out, _ = run(capsys, "check", data, "--json")
    assert len(json.loads(out)["problems"]) == 151


@pytest.mark.parametrize("name", ["text,label", "source,target"])
def test_check_reports_as_json_what_cannot_be_read_at_all(capsys, tmp_path, name):
    data = tmp_path / "empty.csv"
    data.write_text(f"{name}\n")
    code, out, err = run(capsys, "check", data, "--json")
    assert code == 3 and "no rows below" in err
    problem = json.loads(out)["problems"][0]
    assert problem["line"] is None and "no rows below" in problem["reason"]


def test_check_leaves_no_copy_of_standard_input(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one column\n")))
    assert run(capsys, "check", "-")[0] == 3
    assert not list(tmp_path.iterdir())


def test_an_option_without_a_value_is_not_in_the_next_command(capsys, pairs_file):
    _, out, _ = run(capsys, "check", pairs_file, "--columns=", "--lang", "en-de")
    assert out.endswith(f"Next    regard train {pairs_file} --lang en-de -o FOLDER\n")
