"""Language models from a file of text to generated text."""

import json

import pytest
import torch
from msgspec.structs import replace
from tests.conftest import toy_pairs

from regard import load
from regard.__main__ import main
from regard.data.readers.running_text import read_text
from regard.data.readers.source import open_source
from regard.errors import ConfigError, DataError
from regard.hub.model_folder import ModelFolder
from regard.runs.run import resume, train
from regard.setup.evaluation_report import EvaluationOptions
from regard.tasks import guess_task
from regard.tasks.language_modeling.evaluation import evaluate_text
from regard.training.events import DataSummary, Evaluated, Saved

SMALL = (
    "preset=tiny",
    "model.dim=32",
    "model.hidden_dim=64",
    "model.num_heads=2",
    "model.num_layers=2",
    "tokenizer.vocab_size=400",
    "data.max_length=32",
    "training.batch_tokens=512",
    "training.epochs=16",
    "training.precision=float32",
)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Four hundred sentences of a tiny language, one a line."""
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(400)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, book):
    """A finished run and its events."""
    events = []
    folder = tmp_path_factory.mktemp("models") / "tales"
    train(book, folder, settings=SMALL, report=events.append)
    return folder, events


def test_a_text_file_is_taken_for_a_language_model(book, tmp_path, pairs_file):
    assert guess_task(book) == "language-modeling"
    assert guess_task(pairs_file) == "translation"
    tabbed, rows = tmp_path / "pairs.txt", tmp_path / "rows.jsonl"
    tabbed.write_text("one\teins\n")
    rows.write_text('{"text": "one"}\n')
    assert guess_task(tabbed) == "translation"
    assert guess_task(book, has_targets=True) == "translation"
    assert guess_task(rows) == "language-modeling"
    column = tmp_path / "column.csv"
    column.write_text("text\n" + "the red cat sat\n" * 12)
    assert guess_task(column) == "language-modeling"


@pytest.mark.slow
def test_it_learns(run):
    _, events = run
    found = [event.measures["perplexity"] for event in events if isinstance(event, Evaluated)]
    assert found[-1] < 0.25 * found[0]
    assert found[-1] < 20


def test_characters_are_counted(run, book):
    _, events = run
    data = next(event for event in events if isinstance(event, DataSummary))
    assert data.unit == "characters"
    assert data.num_train + data.num_valid + data.num_test == len(book.read_text())


def test_the_lower_loss_is_the_better(run):
    _, events = run
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    best = min(evaluations, key=lambda event: event.measures["loss"])
    assert best.is_best
    assert best.score == -best.measures["loss"]


def test_it_writes_the_language_it_was_trained_on(run):
    generator = load(run[0])
    found = generator.generate("7 red", temperature=0.0, max_tokens=40, stop="\n")
    assert found.is_complete
    assert found.text.endswith(".")
    assert len(found.text.split()) == 4


def test_the_same_seed_writes_the_same_and_streams_the_same(run):
    generator = load(run[0])
    config = {"temperature": 1.5, "top_k": 50, "top_p": 0.9, "max_tokens": 30}
    found = generator.generate("7 red", seed=5, **config)
    assert generator.generate("7 red", seed=5, **config) == found
    pieces = list(generator.stream("7 red", seed=5, **config))
    assert "".join(pieces) == found.text
    assert len(pieces) > 3


def test_a_stream_shows_nothing_of_the_text_it_stops_at(run):
    generator = load(run[0])
    config = {"temperature": 0.0, "max_tokens": 40}
    whole = generator.generate("7 red", **config)
    stop = whole.text[8:12]
    pieces = list(generator.stream("7 red", stop=stop, seed=1, **config))
    assert "".join(pieces) == whole.text.partition(stop)[0]
    found = generator.generate("7 red", stop=stop, **config)
    assert found.text == whole.text.partition(stop)[0]
    assert found.is_complete


def test_several_continuations_are_drawn_independently(run):
    found = load(run[0]).generate("7", num=4, max_tokens=12, seed=1, temperature=2.0)
    assert len({generation.text for generation in found}) > 1


def test_a_continuation_has_the_mean_log_probability_of_its_tokens(run):
    generator = load(run[0])
    found = generator.generate("7 red", temperature=0.0, max_tokens=6)
    ids, total = list(generator.tokenizer.encode_prompt("7 red")), 0.0
    with torch.inference_mode():
        for _ in range(found.num_tokens):
            values = generator.model(torch.tensor([ids]))[0, -1].log_softmax(-1)
            total += float(values.max())
            ids.append(int(values.argmax()))
    assert found.num_tokens > 1
    assert found.score == pytest.approx(total / found.num_tokens, abs=1e-5)


def test_the_loss_is_that_of_the_tokens(run, book, tmp_path):
    generator = load(run[0])
    path = tmp_path / "new.txt"
    path.write_text("7 red cat sees the dog.\n")
    ids = [generator.tokenizer.newline_id, *generator.tokenizer.encode_text(path.read_text()[:-1])]
    ids += [
        generator.tokenizer.newline_id,
        generator.tokenizer.eos_id,
        generator.tokenizer.newline_id,
    ]
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = generator.model(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
    found = evaluate_text(generator, open_source(path), EvaluationOptions(model="tales"))
    assert found.loss == pytest.approx(float(loss), rel=1e-5)
    num_bytes = len(path.read_bytes())
    assert found.bits_per_byte == pytest.approx(
        float(loss) * (len(ids) - 1) / num_bytes / torch.log(torch.tensor(2.0)).item(), rel=1e-5
    )


@pytest.mark.slow
def test_the_worst_lines_are_those_with_the_most_bits_per_byte(run, tmp_path, capsys):
    generator, path = load(run[0]), tmp_path / "new.txt"
    easy = [f"{number} red cat sees the dog." for number in range(60, 75)]
    path.write_text(
        "\n".join([*easy[:9], "", "zz", "qQx!? \u00e9\u00e8 WVj; XZ# kk", *easy[9:], ""])
    )
    lines = read_text(path)
    losses, num_tokens, _ = generator.predict_lines(lines)
    assert losses.sum() == pytest.approx(
        generator.measure(lines)["loss"] * (num_tokens.sum() - 1), rel=1e-5
    )
    alone = tmp_path / "alone.txt"
    alone.write_text("\n".join(lines.texts[:3]) + "\n")  # what follows changes no loss of a line
    first = generator.predict_lines(read_text(alone)).losses
    assert first[:2] == pytest.approx(losses[:2], rel=1e-4)
    report = evaluate_text(generator, open_source(path), EvaluationOptions(model="m", num_worst=3))
    worst = report.worst
    assert (worst[0].line, worst[0].text) == (12, lines.texts[11])
    assert worst[0].loss == pytest.approx(losses[11] / num_tokens[11])
    bits = [entry.bits_per_byte for entry in worst]
    assert len(worst) == 3
    assert bits == sorted(bits, reverse=True)
    assert {entry.text for entry in worst}.isdisjoint({"", "zz"})
    assert main(["evaluate", str(run[0]), str(path), "--json", "--worst", "1"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["worst"]
    assert entry.keys() == {"line", "text", "loss", "bits_per_byte"}
    assert main(["evaluate", str(run[0]), str(path), "--worst", "1"]) == 0
    assert f"\nWorst   line 12   {bits[0]:.3f} bits/byte   " in capsys.readouterr().out
    assert main(["evaluate", str(run[0]), str(path), "--worst", "0"]) == 0
    assert "Worst" not in capsys.readouterr().out


def test_short_lines_are_the_worst_where_there_are_no_others(run, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("7 red\n\nQ!?\n")
    report = evaluate_text(load(run[0]), open_source(path), EvaluationOptions(model="m"))
    assert [entry.line for entry in report.worst] == [3, 1]


def test_a_report_says_whether_the_loss_rose(run, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("7 red cat\n")
    report = evaluate_text(
        load(run[0]), open_source(path), EvaluationOptions(model="m", loss_rose=True)
    )
    assert report.json_fields()["loss_rose"]


def test_the_verdict_says_whether_the_model_is_better_than_xz(run, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("7 red\n\nQ!?\n")
    report = evaluate_text(load(run[0]), open_source(path), EvaluationOptions(model="m"))
    better, worse = (replace(report, compressed=report.bits_per_byte + d) for d in (0.1, -0.1))
    assert (better.verdict, worse.verdict) == ("better than xz", "not better than xz")


def test_long_lines_of_the_training_text_are_not_tested_on(run, tmp_path):
    generator = load(run[0])
    train_text = tmp_path / "train.txt"
    long = "A line of more than forty characters that stands in both of the files."
    train_text.write_text(f"{long}\n" + "".join(f"line {place}\n" for place in range(30)))
    config = generator.config
    generator.config = replace(
        config, data=replace(config.data, path=str(train_text), valid=str(train_text))
    )
    test = tmp_path / "test.txt"
    test.write_text(f"new\n{long}\n")
    with pytest.raises(DataError, match="1 of 2 lines are also in"):
        evaluate_text(generator, open_source(test), EvaluationOptions(model="m"))
    dropping = EvaluationOptions(model="m", drop_overlap=True)
    assert evaluate_text(generator, open_source(test), dropping).num_rows == 1
    keeping = EvaluationOptions(model="m", allow_overlap=True)
    assert evaluate_text(generator, open_source(test), keeping).num_rows == 2


class CrashError(Exception):
    pass


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, book, run):
    def crash(event):
        if isinstance(event, Saved) and event.step > 20:
            raise CrashError

    folder = tmp_path / "model"
    with pytest.raises(CrashError):
        train(book, folder, settings=SMALL, report=crash)
    resume(folder)
    ours, theirs = ModelFolder(folder).read_weights(), ModelFolder(run[0]).read_weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["cg", "adamw"])
def test_other_optimizers_train_it_too(tmp_path, book, optimizer):
    events = []
    settings = (*SMALL, f"optimizer.name={optimizer}", "training.epochs=3", "preset=tiny")
    train(book, tmp_path / "model", settings=settings, report=events.append)
    losses = [event.train_loss for event in events if isinstance(event, Evaluated)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_windowed_attention_trains_and_generates_with_a_bounded_cache(tmp_path, book):
    settings = (*SMALL, "attention.pattern=local:8", "training.epochs=1")
    generator = train(book, tmp_path / "model", settings=settings)
    state = generator.model.init_state()
    generator.model.decode_step(torch.arange(5, 35)[None], state)
    assert all(cache.keys.shape[2] <= 9 for cache in state.caches)
    assert generator.generate("7 red", max_tokens=5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.family=bert",
            "model.family=bert: does not continue a text.  Take one of gpt",
        ),
        (
            "data.languages=en-de",
            "data.languages=en-de: running text has no pairs.  Leave it out, or set "
            "`task=translation`.",
        ),
        ("task=parsing", "task=parsing: one of translation, "),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, book, setting, message):
    with pytest.raises(ConfigError) as raised:
        train(book, tmp_path / "model", settings=(setting,))
    assert str(raised.value).startswith(message)


def test_the_commands_generate_and_evaluate(run, tmp_path, capsys):
    folder = str(run[0])
    assert main(["generate", folder, "7 red", "--seed", "1", "--max-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("7 red")
    assert main(["generate", folder, "7", "--num", "2", "--json", "--max-tokens", "3"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["line"], len(row["outputs"])) == (1, 2)
    path = tmp_path / "new.txt"
    path.write_text("41 green cat sees the dog.\n" * 5)
    assert main(["evaluate", folder, str(path), "--compare", folder]) == 0
    out = capsys.readouterr().out
    assert "perplexity" in out
    assert "+0.000 bits/byte" in out
    assert main(["generate", folder, "7", "--top-p", "2"]) == 2
    assert "--top-p must be above 0 and at most 1, not 2.0" in capsys.readouterr().err


def test_a_blank_prompt_writes_nothing_and_says_so(run, capsys):
    with pytest.warns(UserWarning, match="the prompt is blank, so nothing is written"):
        assert main(["generate", str(run[0]), " ", "--seed", "1"]) == 0
    assert capsys.readouterr().out == "\n"


def test_a_translator_does_not_generate(trained, capsys):
    assert main(["generate", str(trained), "x"]) == 4
    assert "does not generate text" in capsys.readouterr().err


def test_the_command_checks_running_text(book, capsys):
    assert main(["check", str(book)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Data    {book}   read as running text   ")
    assert "\nTask    language-modeling\n" in out
    assert "characters" in out
    assert main(["check", str(book), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "language-modeling"
