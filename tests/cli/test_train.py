"""``regard train``: what it prints, what it refuses before it writes, and resuming."""

from __future__ import annotations

import json
import re

import pytest
from tests.cli.commands import SETTINGS, feed, run
from tests.conftest import TINY, toy_pairs

from regard.runs import start_checks


def test_labelled_text_read_as_pairs_is_advised_its_task(capsys, tmp_path):
    data = tmp_path / "mood.csv"
    data.write_text("Text,Label\n" + "good day,pos\nbad day,neg\n" * 20)
    code, _, err = run(capsys, "train", data, "-o", tmp_path / "m", "--set", "task=translation")
    assert code == 3
    assert err == (
        f"regard: {data}:1: columns seen: Text, Label.  "
        "Texts with labels are for --set task=classification\n"
    )


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


def test_help_config_has_the_defaults_of_a_translator(capsys):
    code, out, _ = run(capsys, "train", "--help-config", "search")
    assert code == 0
    values = {line.split()[0]: line.split()[1] for line in out.splitlines() if "search." in line}
    assert (values["search.ranking"], values["search.stopping"]) == ("transformers", "likely")
    assert (values["search.beam"], values["search.length_penalty"]) == ("4", "1.0")


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


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors", "notes.txt"])
def test_files_that_no_run_wrote_are_not_replaced(name, capsys, tmp_path, pairs_file):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_text("mine")
    for options in ((), ("--dry-run",)):
        code, _, err = run(capsys, "train", pairs_file, "-o", folder, *options)
        assert (code, err) == (
            2,
            f"regard: {folder}: holds {name}, which no run wrote here; nothing was changed.  "
            "Choose a new folder with -o.\n",
        )
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "mine"


@pytest.mark.slow
def test_what_a_run_left_that_was_killed_as_it_began_is_taken_over(capsys, tmp_path, pairs_file):
    folder = tmp_path / "model"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("manifest.json", ".lock"):
        (folder / name).write_text("{}")
    assert run(capsys, "train", pairs_file, "-o", folder, "--dry-run")[0] == 0
    (folder / "checkpoints" / "epoch_3.pt").write_text("mine")
    code, _, err = run(capsys, "train", pairs_file, "-o", folder, "--dry-run")
    assert (code, "holds checkpoints, manifest.json, which" in err) == (2, True)


def test_a_folder_of_texts_is_told_to_be_one_file(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("Once upon a time.\n")
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 3
    assert err == (
        f"regard: {tmp_path}: a directory, not a file.  Name one file: TSV, CSV, JSONL, "
        "Parquet, text (.txt), or two text files (--targets); or a folder with one folder of "
        "images or WAV files a label.  Texts are read from one file: running text joined into "
        'one .txt, labelled texts as {"text": ..., "label": ...} a line of a .jsonl, or as one '
        "folder of .txt a label.\n"
    )


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "-1"), "--seed must be 0 or more, not -1"),
        (("--seed", "1" + 40 * "0"), f"--seed must be {-(10**12):,} to {10**12:,}, not 1000"),
        (("--set", "model.dim=1000000000"), "dim must be 16,777,216 or less"),
        (("--set", "model.num_encoder_layers=1000000"), "num_encoder_layers must be 1,000 or less"),
        (("--set", "tokenizer.vocab_size=1000000000"), "vocab_size must be 1,000,000 or less"),
        (("--minutes", "1e400"), "minutes must be finite, not inf"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_number_out_of_range_is_refused_before_anything_is_written(
    capsys, tmp_path, pairs_file, words, message
):
    code, _, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--dry-run",)])
def test_a_disk_without_room_for_the_run_is_refused_before_it_begins(
    capsys, tmp_path, pairs_file, monkeypatch, option
):
    monkeypatch.setattr(start_checks, "free_bytes", lambda _: 1_500_000)
    sizes = [word for setting in (*TINY, "model.dim=256") for word in ("--set", setting)]
    code, out, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *sizes, *option)
    assert code == 5
    (needed,) = re.findall(r"([\d.]+) MB disk", out)
    assert err == (
        f"regard: {tmp_path / 'm'}: the disk has 1 MB free, and the run needs about "
        f"{needed} MB.  Make room there, or choose another -o.\n"
    )
    assert not (tmp_path / "m" / "config.toml").exists()


def test_a_model_that_exceeds_the_memory_is_not_built(capsys, tmp_path, pairs_file):
    sizes = ("--set", "model.dim=16000000", "--set", "model.hidden_dim=16000000")
    code, _, err = run(capsys, "train", pairs_file, "-o", tmp_path / "m", *sizes)
    assert code == 5
    assert "for the weights and their gradients" in err


@pytest.mark.parametrize("option", ["-o", "--config", "--from", "--valid"])
def test_an_empty_name_is_refused(capsys, pairs_file, option):
    code, _, err = run(capsys, "train", pairs_file, option, "")
    assert code == 2
    assert "An empty name." in err
