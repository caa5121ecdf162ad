"""The errors that users meet most, word by word: what, where, the text, cause, next command."""

from __future__ import annotations

import re

import pytest
from tests.conftest import TINY, toy_pairs, write_tsv

from regard.__main__ import main
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.hub.hugging_face.published_folder import write_hugging_face
from regard.hub.model_folder import ModelFolder
from regard.layers.attention_config import AttentionConfig
from regard.models import CHECKPOINT_FORMATS, BertConfig, make_model
from regard.setup.config import RunConfig

SETTINGS = [word for setting in TINY for word in ("--set", setting)]
ROWS = [f"{source}\t{target}" for source, target in toy_pairs(120)]
ASCII_ROWS = [row for row in ROWS if row.isascii()]


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Call a verb in a new folder with some files; return exit code and what is told."""
    monkeypatch.chdir(tmp_path)

    def run(words, **files):
        for name, content in files.items():
            tmp_path.joinpath(name.replace("_", ".")).write_bytes(content)
        code = main([str(word) for word in words])
        return code, capsys.readouterr().err.removeprefix("regard: ").rstrip("\n")

    return run


def table(rows):
    return "".join(f"{row}\n" for row in rows).encode()


def test_1_a_row_of_one_column_is_quoted_with_its_line(refused):
    rows = [*ROWS[:41], "Guten Morgen Good morning", *ROWS[42:50], "x", "y", *ROWS[52:]]
    assert refused(["train", "pairs.tsv", "-o", "ende"], pairs_tsv=table(rows)) == (
        3,
        'pairs.tsv:42: one column, two expected.  "Guten Morgen Good morning"  '
        "Separated by spaces? Use a tab.  See all 3: regard check pairs.tsv",
    )


def test_2_another_encoding_is_guessed_at_its_first_byte(refused):
    content = table(ASCII_ROWS[:20]) + b"a dog in the caf\xe9\tHund\n" + table(ASCII_ROWS[20:])
    assert refused(["train", "pairs.tsv", "-o", "ende"], pairs_tsv=content) == (
        3,
        "pairs.tsv:21: not UTF-8 at byte 17 (0xE9).  Looks like Latin-1.  Convert: "
        "iconv -f latin1 -t utf8 pairs.tsv > fixed.tsv, or pass --encoding latin1",
    )


def test_3_data_with_one_label_names_it_and_the_columns(refused):
    rows = ["text\tlabel", *(f"{row.partition(chr(9))[0]}\t1" for row in ROWS)]
    assert refused(["train", "mood.tsv", "-o", "mood"], mood_tsv=table(rows)) == (
        3,
        'mood.tsv: every row has the label "1".  A classifier needs two or more.  '
        "Columns seen: text, label.  Wrong column? --columns text,NAME",
    )


@pytest.mark.parametrize("verb", [("train", "-o", "ende"), ("check",)], ids=["train", "check"])
def test_4_sources_that_are_in_both_test_and_training_are_counted(verb, refused):
    test = [*(f"new {number}\tneu" for number in range(8)), *ROWS[50:53]]
    words = [*verb, "train.tsv", "--test", "test.tsv"]
    assert refused(words, train_tsv=table(ROWS), test_tsv=table(test)) == (
        3,
        "test.tsv: 3 of 11 sources also stand in train.tsv (e.g. line 9 = train 51).  "
        "Scores would be too good.  Drop them: --drop-overlap;  keep: --allow-overlap",
    )


@pytest.mark.parametrize("verb", [("train", "-o", "ende"), ("check",)], ids=["train", "check"])
def test_5_an_unknown_setting_is_answered_with_the_closest_one(verb, refused):
    assert refused([*verb, "nothing.tsv", "--set", "optimizer.lerning_rate=1"]) == (
        2,
        "unknown setting optimizer.lerning_rate.  Did you mean optimizer.learning_rate?  "
        "All: regard train --help-config optimizer",
    )


@pytest.mark.parametrize("verb", [("train", "-o", "ende"), ("check",)], ids=["train", "check"])
def test_6_a_window_of_nothing_is_refused(verb, refused):
    words = [*verb, "pairs.tsv", "--set", "attention.pattern=local:0"]
    assert refused(words, pairs_tsv=table(ROWS)) == (
        2,
        "attention.pattern=local:0: the window must be 1 or more (or a fraction of the length, "
        "e.g. local:0.1).",
    )


@pytest.mark.slow
def test_7_a_resumed_run_keeps_the_size_of_its_vocabulary(refused, tmp_path):
    words = ["train", "pairs.tsv", "-o", "ende", *SETTINGS]
    write_tsv(tmp_path / "pairs.tsv", toy_pairs(120))
    assert main(words) == 0
    saved = ModelFolder(tmp_path / "ende").read_config(RunConfig).tokenizer.vocab_size
    change = ["--set", "tokenizer.vocab_size=16000"]
    assert refused(["train", "-o", "ende", "--resume", *change]) == (
        2,
        f"ende/checkpoints/last: made for vocabulary {saved:,}, this config says 16,000.  "
        "Resume takes the saved config; to start anew use another -o.",
    )


def test_8_a_published_file_that_was_cut_names_what_is_missing(refused, tmp_path):
    config = BertConfig(dim=16, num_heads=2, hidden_dim=24, num_layers=2, max_positions=40)
    tokenizer = Tokenizer.train(["a red cat"] * 3, TokenizerConfig(kind="byte"))
    model = make_model(config, len(tokenizer), AttentionConfig())
    folder = tmp_path / "bert-base"
    write_hugging_face(
        folder, model, config, CHECKPOINT_FORMATS["bert"], len(tokenizer), files={}, labels=()
    )
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    code, text = refused(["info", "bert-base"])
    assert code == 4
    found = re.fullmatch(
        r"bert-base/: tensor (\S+) is missing \((\d+) of (\d+) found\)\.  "
        rf"File cut short\? {len(content) - 1:,} bytes, header says {len(content):,} bytes\.",
        text,
    )
    assert found is not None, text
    assert found[1].encode() in content
    assert int(found[2]) == int(found[3]) - 1


@pytest.mark.slow
def test_9_too_little_memory_is_answered_with_what_fits(refused, tmp_path, monkeypatch):
    free = "regard.setup.memory_advice.available_memory_bytes"
    monkeypatch.setattr(free, lambda *_: 22_000_000_000)
    words = ["train", "pairs.tsv", "-o", "ende", *SETTINGS]
    code, text = refused([*words, "--set", "training.batch_tokens=20000000"], pairs_tsv=table(ROWS))
    assert code == 5
    expected = r"needs about \d+ GB, 22 GB are free \(batch of 20,000,000 tokens\)\.  "
    expected += r"Fits: --set training\.batch_tokens=\d+ \(\d+(\.\d)? GB\)\."
    assert re.fullmatch(expected, text), text
    assert not (tmp_path / "ende" / "model.safetensors").exists()


@pytest.mark.slow
def test_10_a_loss_that_is_not_finite_ends_the_run_with_its_batch(refused, tmp_path):
    write_tsv(tmp_path / "pairs.tsv", toy_pairs(120))
    words = ["train", "pairs.tsv", "-o", "ende", *SETTINGS]
    more = ["--set", "optimizer.learning_rate=1e18", "--set", "optimizer.warmup=0.0"]
    code, text = refused([*words, *more])
    assert code == 4
    assert re.fullmatch(
        r"(loss|gradient norm) is (nan|inf) at step (\d+) \(batch \3, lines \d+, \d+, \d+ and \d+ "
        r"more\)\.  Last good: step \d+, saved as ende/checkpoints/last\.\S+\.  "
        r"(First n|N)ot finite: .+\.  Largest gradient: \S+ \S+ \(step \d+\)\.  "
        r"Try, with another -o: --set optimizer\.learning_rate=3\.3e\+17 "
        r"--set optimizer\.clip=0\.5",
        text,
    ), text
