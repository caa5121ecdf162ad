"""Every verb as a user calls it: standard input, --json, exit codes, exact error texts."""

import io
import json
import re
import shutil
import subprocess
import sys

import pytest
from tests.conftest import TINY, toy_pairs, write_tsv

import regard
from regard.__main__ import main

SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def feed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))


def test_importing_the_package_loads_no_torch():
    script = "import regard, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_model_is_opened_without_the_symbols_of_sharded_training():
    script = (
        "import regard.tasks.opening, sys; "
        "loaded = {'sympy', 'torch.distributed.tensor', 'torch.distributed.fsdp'} & {*sys.modules};"
        "sys.exit(' '.join(loaded) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_an_unknown_option_is_a_usage_error_with_a_suggestion(capsys, trained):
    code, _, err = run(capsys, "translate", trained, "x", "--jsom")
    assert code == 2
    assert "--json" in err


def test_translate_takes_text(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog")
    assert code == 0
    assert out.count("\n") == 1


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_translate_takes_a_precision_and_threads(capsys, trained, precision):
    words = ("3 red cat sees the dog", "--precision", precision, "--threads", 1)
    code, out, err = run(capsys, "translate", trained, *words)
    if precision == "int8" and "was not compiled" in err:
        pytest.skip("the decoder was not compiled")
    assert code == 0
    assert out.count("\n") == 1


def test_wrong_threads_and_precisions_are_refused(capsys, trained):
    code, out, err = run(capsys, "translate", trained, "x", "--threads", 0)
    assert (code, out) == (2, "")
    assert "--threads must be 1 to 1,024, not 0" in err
    code, out, err = run(capsys, "translate", trained, "x", "--precision", "int4")
    assert (code, out) == (2, "")
    assert "int4" in err


def test_info_says_what_writes_the_outputs(capsys, trained):
    _, out, _ = run(capsys, "info", trained)
    (line,) = [line for line in out.splitlines() if line.startswith("Writes")]
    assert re.fullmatch(
        r"Writes  by (compiled decoder, (bf16|float32)|PyTorch's operators: .+)", line
    )


def test_translate_takes_standard_input_line_by_line(capsys, monkeypatch, trained):
    feed(monkeypatch, "3 red cat sees the dog\n\n5 old dog likes the tree\n")
    code, out, _ = run(capsys, "translate", trained, "-")
    assert code == 0
    lines = out.split("\n")
    assert len(lines) == 4
    assert lines[1] == ""


def test_translate_takes_a_file_and_writes_one(capsys, trained, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("3 red cat sees the dog\r\n4 old dog likes the tree", encoding="utf-8")
    code, out, _ = run(capsys, "translate", trained, source, "-o", target, "--beam", 1)
    assert (code, out) == (0, "")
    assert len(target.read_text(encoding="utf-8").splitlines()) == 2


def test_the_name_of_a_file_can_be_taken_as_text(capsys, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat").write_text("one\ntwo\n")
    assert run(capsys, "translate", trained, "cat")[1].count("\n") == 2
    assert run(capsys, "translate", trained, "cat", "--text")[1].count("\n") == 1


def test_several_best_come_numbered_with_scores(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--nbest", 2, "--beam", 3)
    assert code == 0
    fields = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in fields] == ["1", "1"]
    assert float(fields[0][1]) >= float(fields[1][1])


def test_an_empty_line_has_one_translation_however_many_are_asked_for(capsys, trained, monkeypatch):
    feed(monkeypatch, "3 red cat\n\n")
    code, out, _ = run(capsys, "translate", trained, "-", "--nbest", 3, "--beam", 3)
    assert code == 0
    numbers = [line.partition("\t")[0] for line in out.splitlines()]
    assert (numbers.count("2"), out.splitlines()[-1]) == (1, "2\t0.0000\t")


def test_the_length_of_a_translation_has_limits(capsys, trained):
    options = ("--max-length", 2, "--json")
    code, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog", *options)
    assert code == 0
    short = json.loads(out)["outputs"][0]
    options = ("--min-length", 6, "--max-length", 6, "--json")
    _, out, _ = run(capsys, "translate", trained, "3 red cat sees the dog", *options)
    long = json.loads(out)["outputs"][0]
    tokenizer = regard.load(trained).tokenizer
    lengths = [len(tokenizer.encode_targets([o["text"]])[0]) for o in (short, long)]
    assert lengths[0] <= 2 < lengths[1] <= 6
    code, _, err = run(capsys, "translate", trained, "x", "--min-length", 3, "--max-length", 2)
    assert (code, "--min-length must be --max-length (2) or less, not 3" in err) == (2, True)


def test_a_device_that_is_no_name_is_quoted(capsys, trained):
    code, _, err = run(capsys, "translate", trained, "x", "--device", "")
    assert code == 2
    assert err == 'regard: device must be auto, cpu, cuda or cuda:N, not "".\n'


def test_alignment_follows_the_translation(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--align")
    assert code == 0
    text, pairs = out.rstrip("\n").split("\t")
    assert len(pairs.split()) == len(text.split())


def test_translate_json_has_scores_and_alignment(capsys, trained):
    code, out, _ = run(capsys, "translate", trained, "3 red cat", "--json", "--align")
    assert code == 0
    found = json.loads(out)
    assert found["line"] == 1
    assert found["source"] == "3 red cat"
    assert {"text", "score", "confidence", "alignment"} <= set(found["outputs"][0])


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
    assert "Warning 400 training pairs have only 1 different target.  Labels?" in out


def test_labelled_text_read_as_pairs_is_advised_its_task(capsys, tmp_path):
    data = tmp_path / "mood.csv"
    data.write_text("Text,Label\n" + "good day,pos\nbad day,neg\n" * 20)
    code, _, err = run(capsys, "train", data, "-o", tmp_path / "m", "--set", "task=translation")
    assert code == 3
    assert err == (
        f"regard: {data}:1: columns seen: Text, Label.  "
        "Texts with labels are for --set task=classification\n"
    )


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
    assert code == 3 and "the file is empty" in err
    problem = json.loads(out)["problems"][0]
    assert problem["line"] is None and "the file is empty" in problem["reason"]


def test_check_leaves_no_copy_of_standard_input(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one column\n")))
    assert run(capsys, "check", "-")[0] == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_evaluate_prints_scores_floors_verdict_and_latency(capsys, trained, tmp_path):
    data = write_tsv(tmp_path / "test.tsv", toy_pairs(440)[400:])
    words = ("evaluate", trained, data, "--beam", 1, "--allow-overlap", "--worst", 2)
    code, out, _ = run(capsys, *words, "--compare", trained)
    assert code == 0
    for word in ("chrF", "BLEU", "Floors", "Verdict", "Latency p50", "Worst", "Compare", "nrefs:1"):
        assert word in out
    code, out, _ = run(capsys, *words, "--json")
    assert json.loads(out)["num_pairs"] == 40


def test_info_tells_the_parts(capsys, trained):
    code, out, _ = run(capsys, "info", trained)
    assert code == 0
    assert "encoder.0 " in out
    assert "self-attention, 2 heads of 8, pattern full" in out
    code, out, _ = run(capsys, "info", trained, "--json")
    assert json.loads(out)["is_finished"] is True


@pytest.mark.slow
def test_train_writes_plain_lines_when_not_on_a_terminal(capsys, tmp_path, pairs_file):
    code, out, _ = run(capsys, "train", pairs_file, "-o", tmp_path / "model", *SETTINGS)
    assert code == 0
    starts = [line.split()[0] for line in out.splitlines() if line.strip()]
    for word in ("Data", "Tokens", "Model", "Plan", "epoch", "Done", "Try"):
        assert word in starts
    assert "\x1b" not in out


@pytest.mark.slow
def test_train_json_is_one_object_an_event(capsys, tmp_path, pairs_file):
    code, out, _ = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *SETTINGS, "--json")
    assert code == 0
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events[0] == "data"
    assert events[-1] == "finished"


@pytest.mark.slow
def test_train_takes_standard_input_and_keeps_it_for_a_resume(capsys, monkeypatch, tmp_path):
    feed(monkeypatch, "".join(f"{s}\t{t}\n" for s, t in toy_pairs(60)))
    code, _, _ = run(capsys, "train", "-", "-o", tmp_path / "model", *SETTINGS)
    assert code == 0
    assert len((tmp_path / "model" / "data.tsv").read_text().splitlines()) == 60


def test_resuming_a_finished_run_says_so(capsys, trained):
    code, out, _ = run(capsys, "train", "-o", trained, "--resume")
    assert code == 0
    expected = f"{trained}: this run is finished; nothing to resume.  Card: {trained}/README.md\n"
    assert out == expected


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("-o", "new/model")], ids=["no folder", "folder"])
def test_a_dry_run_prints_the_plan_only(words, capsys, tmp_path, pairs_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "train", pairs_file, "--dry-run", *words, *SETTINGS)
    assert code == 0
    assert "measured on" in out
    assert "Done" not in out
    assert list(tmp_path.iterdir()) == []


def test_help_config_alone_explains_all_sections(capsys):
    code, out, _ = run(capsys, "train", "--help-config")
    assert code == 0
    for name in ("optimizer.learning_rate", "model.dim", "tokenizer.kind"):
        assert name in out


def test_help_config_explains_a_section(capsys):
    code, out, _ = run(capsys, "train", "--help-config", "optimizer")
    assert code == 0
    assert "learning_rate" in out
    assert "The defaults are those without a preset." in out


ERRORS = {
    "empty file": (
        b"",
        3,
        "regard: {path}: the file is empty.  Expected one pair a line: source<TAB>target.\n",
    ),
    "one column": (
        b"Guten Morgen Good morning\n",
        3,
        'regard: {path}:1: one column, two expected.  "Guten Morgen Good morning"  '
        "Separated by spaces? Use a tab.\n",
    ),
    "NUL": (
        b"ab\0c\tKaffee\n",
        3,
        "regard: {path}:1: a NUL byte at byte 3.  Text files hold none; is this a binary file?\n",
    ),
    "only duplicates": (
        b"cat\tKatze\n" * 500,
        3,
        "regard: {path}: only one distinct pair in 500 rows.  Training needs at least 10.\n",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_data_is_reported_with_file_line_cause_and_what_to_do(capsys, tmp_path, name):
    content, code, text = ERRORS[name]
    path = tmp_path / "pairs.tsv"
    path.write_bytes(content)
    found = run(capsys, "train", path, "-o", tmp_path / "model")
    assert found[0] == code
    assert found[2] == text.format(path=path)
    assert not (tmp_path / "model" / "config.toml").exists()


def test_a_directory_is_no_data(capsys, tmp_path):
    code, _, err = run(capsys, "train", tmp_path, "-o", tmp_path / "model")
    assert code == 3
    assert err.startswith(f"regard: {tmp_path}: a directory, not a file.")


@pytest.mark.parametrize("words", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_an_output_folder_with_a_model_is_not_touched(words, capsys, trained, pairs_file):
    before = (trained / "model.safetensors").read_bytes()
    code, _, err = run(capsys, "train", pairs_file, "-o", trained, *words)
    assert code == 2
    assert err == (
        f"regard: {trained}: already holds a finished model; nothing was changed.  "
        f"Train a new model: another -o.  Resume: regard train -o {trained} --resume\n"
    )
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("words", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_an_output_that_cannot_be_written_is_reported(words, capsys, tmp_path, pairs_file):
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "train", pairs_file, "-o", tmp_path / "file" / "model", *words)
    assert code == 2
    assert err == (
        f"regard: {tmp_path}/file/model: cannot be written (Not a directory).  "
        "Choose another folder with -o.\n"
    )


def test_settings_cannot_change_on_resume(capsys, trained):
    code, _, err = run(capsys, "train", "-o", trained, "--resume", "--set", "model.dim=32")
    assert code == 2
    assert err == (
        f"regard: {trained}/checkpoints/last: made for model.dim 16, this config says 32.  "
        "Resume takes the saved config; to start anew use another -o.\n"
    )


def test_the_data_cannot_change_on_resume(capsys, trained, pairs_file):
    assert run(capsys, "train", pairs_file, "-o", trained, "--resume")[0] == 0
    code, _, err = run(capsys, "train", "other.tsv", "-o", trained, "--resume")
    assert code == 2
    assert f"made for data.path {pairs_file}, this config says other.tsv." in err


def test_a_dry_run_of_a_resumed_run_is_refused(capsys, trained):
    code, _, err = run(capsys, "train", "-o", trained, "--resume", "--dry-run")
    assert code == 2
    assert err == "regard: --dry-run predicts a new run.  Leave it or --resume out.\n"


def test_damaged_weights_are_noticed_by_their_checksum(capsys, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-50] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    code, _, err = run(capsys, "translate", folder, "x")
    assert code == 4
    assert "damaged: the checksum does not agree" in err


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_previous_checkpoint_is_intact(
    capsys, tmp_path, pairs_file, monkeypatch
):
    from regard.hub import storage
    from regard.training.checkpoint import checkpoint_path

    free = [1e12]
    monkeypatch.setattr(storage, "free_bytes", lambda _: free[0])
    folder = tmp_path / "model"

    def fill_after_first(*arguments, **options):
        path = original(*arguments, **options)
        free[0] = 1000.0
        return path

    from regard.runs import session

    original = session.save_checkpoint
    monkeypatch.setattr(session, "save_checkpoint", fill_after_first)
    code, _, err = run(capsys, "train", pairs_file, "-o", folder, *SETTINGS)
    assert code == 5
    assert "the disk is full" in err
    storage.read_tensors(checkpoint_path(folder))
