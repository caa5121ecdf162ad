"""Summaries as a user meets them: check, train, summarize, evaluate, resume, info."""

import io
import json
import shutil
import sys

import pytest
from tests.tasks.summarization.conftest import SETTINGS, draw_documents, write_jsonl

import regard
from regard.__main__ import main
from regard.errors import ConfigError
from regard.hub.model_folder import ModelFolder
from regard.runs.run import resume, train
from regard.runs.scoring import evaluate
from regard.training.events import Saved

WORDS = [word for setting in SETTINGS for word in ("--set", setting)]
DOCUMENT = "It rains. They sell 7 maps in Oslo. All is well."


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def feed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8"))


@pytest.fixture
def limited_folder(summarizer_folder, tmp_path):
    """The same model, which reads 8 tokens of a document."""
    folder = tmp_path / "limited"
    shutil.copytree(summarizer_folder, folder)
    path = folder / "config.toml"
    text = path.read_text()
    assert "max_source_length = 512" in text
    path.write_text(text.replace("max_source_length = 512", "max_source_length = 8"))
    assert main(["info", str(folder), "--accept"]) == 0
    return folder


def test_check_says_that_the_file_was_read_as_documents_with_summaries(capsys, documents_file):
    code, out, _ = run(capsys, "check", documents_file)
    assert code == 0
    assert "read as documents with summaries, columns document, summary" in out
    assert "300 documents   en" in out
    assert "Task    summarization" in out
    assert "Length  document: mean" in out
    report = json.loads(run(capsys, "check", documents_file, "--json")[1])
    assert (report["task"], report["rows"]) == ("summarization", 300)
    assert report["lengths"]["summary"]["longest"] < report["lengths"]["document"]["longest"]


@pytest.mark.parametrize(
    ("name", "columns", "options"),
    [
        ("a.csv", "article,highlights", ()),
        ("a.tsv", "text\tsummary", ()),
        ("a.csv", "what,short", ("--columns", "what,short", "--set", "task=summarization")),
    ],
)
def test_every_table_with_a_header_is_taken(capsys, tmp_path, name, columns, options):
    separator = "\t" if name.endswith("tsv") else ","
    rows = [f"{r['document']}{separator}{r['summary']}" for r in draw_documents(40)]
    (tmp_path / name).write_text("\n".join([columns, *rows]) + "\n")
    code, out, _ = run(capsys, "check", tmp_path / name, *options)
    assert code == 0
    assert "Task    summarization" in out
    assert "40 documents" in out


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ("document,summary", "summarization"),
        ("document,label", "classification"),
        ("text,summary", "summarization"),
        ("text,label", "classification"),
    ],
)
def test_the_named_columns_decide_the_task(capsys, tmp_path, columns, task):
    text = columns.partition(",")[0]
    rows = [
        {text: row["document"], "summary": row["summary"], "label": "ab"[number % 2]}
        for number, row in enumerate(draw_documents(40))
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    code, out, _ = run(capsys, "check", path, "--columns", columns)
    assert code == 0
    assert f"Task    {task}\n" in out


def test_empty_sides_repeated_rows_and_overlaps_are_reported(capsys, tmp_path):
    rows = draw_documents(60)
    train = [*rows[:50], rows[0], {"document": " ", "summary": "x"}]
    path = write_jsonl(tmp_path / "train.jsonl", train)
    code, out, _ = run(capsys, "check", path)
    assert code == 0
    assert "dropped 2: 1 repeated pair, 1 empty side" in out
    test = write_jsonl(tmp_path / "test.jsonl", [*rows[50:], *rows[:20]])
    code, _, err = run(capsys, "check", path, "--test", test)
    assert code == 3
    assert "of 30 sources also stand in" in err
    assert run(capsys, "check", path, "--test", test, "--drop-overlap")[0] == 0


def test_columns_in_the_wrong_order_are_noticed(capsys, tmp_path):
    rows = draw_documents(40)
    swapped = [{"document": row["summary"], "summary": row["document"]} for row in rows]
    same = [{"document": row["document"], "summary": row["document"]} for row in rows]
    half = rows[:30] + swapped[30:]
    warning = "training documents are not longer than their summaries.  Are the columns in"
    for documents, is_noticed in ((rows, False), (swapped, True), (same, True), (half, False)):
        data = write_jsonl(tmp_path / "data.jsonl", documents)
        code, out, err = run(capsys, "check", data)
        assert code == 0, err
        assert (warning in out) == is_noticed


def test_a_truncated_file_is_refused_with_its_line(capsys, tmp_path):
    path = write_jsonl(tmp_path / "cut.jsonl", draw_documents(20))
    path.write_bytes(path.read_bytes()[:-30])
    code, _, err = run(capsys, "train", path, "-o", tmp_path / "m")
    assert code == 3
    assert "cut.jsonl:20: not JSON" in err


def test_a_text_of_the_command_line_is_one_document(capsys, summarizer_folder):
    code, out, err = run(capsys, "summarize", summarizer_folder, DOCUMENT + "\n\n" + DOCUMENT)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1


def test_a_file_of_text_is_one_document(capsys, summarizer_folder, tmp_path):
    (tmp_path / "news.txt").write_text("It rains.\n\nThey sell 7 maps in Oslo.\n")
    code, out, _ = run(capsys, "summarize", summarizer_folder, tmp_path / "news.txt", "--json")
    assert code == 0
    entry = json.loads(out)
    assert entry["text"] == "It rains.\n\nThey sell 7 maps in Oslo."
    assert (entry["line"], entry["truncated"], len(entry["outputs"])) == (1, 0, 1)
    assert {"text", "score"} <= entry["outputs"][0].keys()


def test_a_table_has_a_document_a_row(capsys, summarizer_folder, tmp_path):
    path = write_jsonl(tmp_path / "d.jsonl", [{"id": 1, "article": "It\nrains."}, {"article": ""}])
    code, out, err = run(capsys, "summarize", summarizer_folder, path, "--json")
    assert code == 0
    assert "read as a table, column article" in err
    entries = [json.loads(line) for line in out.splitlines()]
    assert [entry["text"] for entry in entries] == ["It\nrains.", ""]
    assert entries[1]["outputs"][0]["text"] == ""


def test_standard_input_has_a_document_a_line(capsys, monkeypatch, summarizer_folder, tmp_path):
    feed(monkeypatch, f"{DOCUMENT}\n\n{DOCUMENT}\n")
    output = tmp_path / "out.txt"
    code, out, _ = run(capsys, "summarize", summarizer_folder, "-", "-o", output)
    assert (code, out) == (0, "")
    lines = output.read_text().split("\n")
    assert len(lines) == 4
    assert lines[0] == lines[2]
    assert lines[1] == lines[3] == ""


def test_an_empty_file_is_refused(capsys, summarizer_folder, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    code, _, err = run(capsys, "summarize", summarizer_folder, tmp_path / "empty.txt")
    assert code == 3
    assert "the file is empty" in err


def test_the_length_of_summaries_has_bounds(capsys, summarizer_folder):
    summarizer = regard.load(summarizer_folder)
    tokenizer = summarizer.tokenizer
    for words, low, high in ((("--max-length", 3), 0, 3), (("--min-length", 40), 20, 200)):
        _, out, _ = run(capsys, "summarize", summarizer_folder, DOCUMENT, *words)
        assert low <= len(tokenizer.encode([out.strip()])[0]) <= high
    for words, reason in (
        (("--max-length", 0), "--max-length must be 1 or more"),
        (("--min-length", -1), "--min-length must be 0 or more, not -1"),
        (("--max-length", 4, "--min-length", 5), "--min-length must be --max-length (4) or less"),
        (("--min-length", 258), "--min-length must be 257 or less, the longest output that"),
        (("--nbest", 9, "--beam", 4), "--nbest must be 1 to --beam (4), not 9."),
    ):
        code, _, err = run(capsys, "summarize", summarizer_folder, DOCUMENT, *words)
        assert code == 2
        assert reason in err


def test_several_best_come_numbered_with_scores(capsys, summarizer_folder):
    _, out, _ = run(capsys, "summarize", summarizer_folder, DOCUMENT, "--nbest", 2, "--beam", 3)
    fields = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in fields] == ["1", "1"]
    assert float(fields[0][1]) >= float(fields[1][1])


@pytest.mark.slow
def test_what_is_cut_off_is_said_by_every_verb(capsys, limited_folder, documents_file):
    capsys.readouterr()
    code, out, err = run(capsys, "summarize", limited_folder, DOCUMENT, "--json")
    assert code == 0
    assert "the document is longer than 8 tokens: the rest was cut off" in err
    summarizer = regard.load(limited_folder)
    num_tokens = len(summarizer.tokenizer.encode([DOCUMENT])[0])
    assert json.loads(out)["truncated"] == num_tokens - 8
    with pytest.warns(UserWarning, match="1 of 2 documents is longer than 8 tokens"):
        assert len(summarizer.summarize([DOCUMENT, "It rains."])) == 2
    code, out, _ = run(capsys, "evaluate", limited_folder, documents_file, "--allow-overlap")
    assert "Cut     300 documents after 8 tokens" in out


def test_only_the_beginning_of_a_long_document_counts(limited_folder):
    summarizer = regard.load(limited_folder)
    long = "They sell 7 maps in Oslo. " * 3
    (row,) = summarizer.tokenizer.encode([long])
    (kept,) = summarizer.tokenizer.decode([row[:8]])
    with pytest.warns(UserWarning, match="longer than 8 tokens"):
        assert summarizer.summarize(long) == summarizer.summarize(kept)


@pytest.mark.slow
def test_a_run_prints_what_it_cuts(capsys, documents_file, tmp_path):
    folder = tmp_path / "cut"
    words = [*WORDS, "--set", "data.max_source_length=12", "--set", "training.epochs=1"]
    code, out, err = run(capsys, "train", documents_file, "-o", folder, *words)
    assert code == 0
    printed = out + err
    assert "of 240 training documents are longer than 12 tokens: the rest is cut off" in printed
    assert "cut to 12 tokens" in (folder / "data_report.txt").read_text()


@pytest.mark.slow
def test_evaluate_prints_intervals_floors_and_a_verdict(capsys, summarizer_folder, tmp_path):
    path = write_jsonl(tmp_path / "test.jsonl", draw_documents(30, seed=9))
    words = ("evaluate", summarizer_folder, path, "--worst", 2, "--drop-overlap")
    code, out, _ = run(capsys, *words)
    assert code == 0
    for title in ("ROUGE-1 ", "ROUGE-2 ", "ROUGE-L ", "R-Lsum "):
        assert f"\n{title}" in out
    assert "|tok:unicode|stem:no|" in out
    assert "Floors  first " in out
    assert "Verdict " in out
    assert "Copied  " in out
    assert out.count("Worst   line") == 2
    report = json.loads(run(capsys, *words, "--json")[1])
    assert list(report["scores"]) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    score = report["scores"]["rougeL"]
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 100
    assert report["floors"].keys() == {"first_words", "first_sentence"}
    assert report["task"] == "summarization"
    assert len(report["worst"]) == 2
    assert report["worst"][0]["rougeL"] <= report["worst"][1]["rougeL"]


@pytest.mark.slow
def test_a_model_that_over_fits_is_not_told_to_train_longer(summarizer_folder, tmp_path):
    rows = [
        {"document": f"Good day {n}. The rest is not.", "summary": f"Good day {n}."}
        for n in range(12)
    ]
    path = write_jsonl(tmp_path / "test.jsonl", rows)
    folder = shutil.copytree(summarizer_folder, tmp_path / "model")
    before, *_ = evaluate(folder, path)
    assert before.verdict.endswith("train longer, or on more data.")
    for loss in (0.5, 9.0):
        line = {"event": "evaluated", "step": 1, "measures": {"loss": loss}}
        ModelFolder(folder).append_metrics(line)
    after, *_ = evaluate(folder, path)
    remedy = "train on more data, not longer: the validation loss rose in its run."
    assert after.verdict == before.verdict.replace("train longer, or on more data.", remedy)


@pytest.mark.slow
def test_two_summarizers_are_compared_on_the_same_rows(capsys, summarizer_folder, tmp_path):
    path = write_jsonl(tmp_path / "test.jsonl", draw_documents(20, seed=8))
    words = ("evaluate", summarizer_folder, path, "--allow-overlap", "--beam", 1)
    code, out, _ = run(capsys, *words, "--compare", summarizer_folder, "--worst", 0)
    assert code == 0
    assert "paired bootstrap" in out
    assert "ROUGE-L +0.0 [+0.0, +0.0]   p = 1.000" in out


def test_other_verbs_name_the_verb_for_summaries(capsys, summarizer_folder, trained):
    for verb in ("translate", "generate", "classify"):
        code, _, err = run(capsys, verb, summarizer_folder, "text")
        assert code == 4
        assert "it is a model for summarization.  Use: regard summarize" in err
    code, _, err = run(capsys, "summarize", trained, "text")
    assert code == 4
    assert "does not summarize: it is a model for translation.  Use: regard translate" in err


@pytest.mark.slow
def test_a_crashed_run_resumes_to_the_same_weights(summarizer_folder, documents_file, tmp_path):
    def crash(event):
        if isinstance(event, Saved) and event.step >= 3:
            raise RuntimeError("power cut")

    settings = (*SETTINGS, "training.checkpoint_seconds=0.0")
    folder = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="power cut"):
        train(documents_file, folder, settings=settings, report=crash)
    resume(folder)
    left, right = (
        ModelFolder(path).weights_path.read_bytes() for path in (folder, summarizer_folder)
    )
    assert left == right


@pytest.mark.slow
def test_an_exported_summarizer_gives_the_same_summaries(capsys, documents_file, tmp_path):
    layout = ("model.norm=post", "model.positions=sinusoidal_halves", "model.has_copy=false")
    train(documents_file, tmp_path / "m", settings=(*SETTINGS, *layout, "training.epochs=1"))
    assert run(capsys, "export", tmp_path / "m", "-o", tmp_path / "hf")[0] == 0
    outputs = [
        run(capsys, "summarize", folder, DOCUMENT) for folder in (tmp_path / "m", tmp_path / "hf")
    ]
    assert outputs[0] == outputs[1]
    words = [
        word for name in ("epochs=1", "batch_tokens=4096") for word in ("--set", f"training.{name}")
    ]
    code, out, _ = run(
        capsys, "train", documents_file, "-o", tmp_path / "n", "--from", tmp_path / "hf", *words
    )
    assert code == 0
    assert "test ROUGE-L" in out


@pytest.mark.slow
def test_a_fine_tuned_summarizer_keeps_the_limit_of_its_documents(
    capsys, limited_folder, documents_file, tmp_path
):
    folder = tmp_path / "tuned"
    train(
        documents_file,
        folder,
        settings=(f"start_from={limited_folder}", "training.epochs=1"),
    )
    assert regard.load(folder).max_source_length == 8


def test_info_and_the_card_say_what_the_model_is_for(capsys, summarizer_folder):
    code, out, _ = run(capsys, "info", summarizer_folder)
    assert code == 0
    assert "summarization   en" in out
    card = (summarizer_folder / "README.md").read_text()
    assert "A summarization model (en)" in card
    assert "regard summarize" in card
    assert "first_words_rougeL" in card


def test_a_key_within_another_is_no_column_of_documents(capsys, summarizer_folder, tmp_path):
    rows = [{"meta": {"document": "No."}, "text": "They sell 5 maps in Rome."}]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    code, out, err = run(capsys, "summarize", summarizer_folder, data, "--json")
    assert code == 0, err
    assert json.loads(out)["text"] == rows[0]["text"]
    questions = [{"context": "Long.", "question": "Who?", "answers": {"text": ["Bob"]}}]
    write_jsonl(data, questions)
    code, _, err = run(capsys, "summarize", summarizer_folder, data)
    assert code == 3
    assert 'rows.jsonl:1: no key "document".  Keys seen: context, question, answers.' in err


def test_documents_that_are_not_texts_are_refused(summarizer_folder):
    summarizer = regard.load(summarizer_folder)
    for documents, message in (
        (None, "documents: a text or a list of texts was expected, not NoneType"),
        (["a", 5], r"documents\[1\]: a text was expected, not int"),
        ("a\ud800", r"documents\[0\]: half of a character"),
    ):
        with pytest.raises(ConfigError, match=message):
            summarizer.summarize(documents)
