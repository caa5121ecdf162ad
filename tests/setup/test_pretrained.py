"""Runs that go on from trained weights, and models written for others."""

import json

import pytest
import torch
from tests.conftest import TINY, toy_pairs

import regard
from regard import load
from regard.__main__ import main
from regard.data.tokenizer import Tokenizer
from regard.errors import ConfigError, WeightsError
from regard.hub.model_folder import ModelFolder
from regard.models import Classifier
from regard.runs.export_check import export_model
from regard.runs.run import resume, train
from regard.setup.config import RunConfig
from regard.tasks.language_modeling.predictor import TextGenerator
from regard.tasks.masked_language_modeling.predictor import TextEncoder
from regard.training.events import Evaluated, Planned, Saved, Started, Warned

SHORT = ("data.max_length=32", "training.batch_tokens=256", "training.precision=float32")
TEXT = (
    *SHORT,
    "preset=tiny",
    "model.dim=32",
    "model.hidden_dim=64",
    "model.num_heads=2",
    "model.num_layers=2",
    "tokenizer.vocab_size=400",
)


def write_reviews(path, num=240, flipped=False):
    rows = []
    for number, (text, _) in enumerate(toy_pairs(num)):
        label = "cat" if ("cat" in text) != flipped else "other"
        rows.append(json.dumps({"text": f"{text} {number}", "label": label}))
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Sentences of a tiny language, one a line."""
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text("".join(f"{source}.\n" for source, _ in toy_pairs(300)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Texts that are about a cat, or not."""
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl")


@pytest.fixture(scope="module")
def tales(tmp_path_factory, book):
    """A language model."""
    folder = tmp_path_factory.mktemp("models") / "tales"
    train(book, folder, settings=(*TEXT, "training.epochs=4"))
    return folder


@pytest.fixture(scope="module")
def mood(tmp_path_factory, reviews):
    """A classifier, and the events of its run."""
    folder, events = tmp_path_factory.mktemp("models") / "mood", []
    fast = ("training.epochs=10", "optimizer.name=adamw", "optimizer.learning_rate=0.01")
    train(reviews, folder, settings=(*TEXT, *fast), report=events.append)
    return folder, events


def figures(events):
    (started,) = [event for event in events if isinstance(event, Started)]
    return started.measures, [event for event in events if isinstance(event, Evaluated)]


@pytest.mark.slow
def test_a_classifier_learns(mood):
    _, events = mood
    last = [event for event in events if isinstance(event, Evaluated)][-1]
    assert last.measures["accuracy"] > 95
    found = load(mood[0]).classify(["7 red cat sees the tree 5", "7 old dog likes the tree"])
    assert [entry.label for entry in found] == ["cat", "other"]
    assert sum(found[0].probabilities.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_going_on_begins_where_the_other_run_ended(tales, book, tmp_path):
    events = []
    settings = (*SHORT, "training.epochs=1")
    train(
        book, tmp_path / "more", settings=(f"start_from={tales}", *settings), report=events.append
    )
    before, evaluations = figures(events)
    old = [line for line in ModelFolder(tales).read_metrics() if line["event"] == "evaluated"]
    assert before["loss"] == pytest.approx(old[-1]["measures"]["loss"], rel=1e-4)
    assert evaluations[-1].measures["loss"] < before["loss"]


@pytest.mark.slow
def test_going_on_from_a_translator_shows_the_old_scores_too(trained, pairs_file, tmp_path):
    events = []
    train(
        pairs_file,
        tmp_path / "more",
        settings=(f"start_from={trained}", "training.epochs=1", *TINY[-2:-1]),
        report=events.append,
    )
    before, _ = figures(events)
    assert set(before) == {"loss", "shuffled_loss", "chrf"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "last"])
def test_only_what_is_chosen_changes(tales, book, tmp_path, method):
    settings = (*SHORT, f"start_from={tales}", f"fine_tuning.method={method}", "training.epochs=2")
    generator = train(book, tmp_path / "more", settings=settings)
    before = ModelFolder(tales).read_weights()
    after = ModelFolder(tmp_path / "more").read_weights()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    if method == "last":
        assert all(name.startswith("blocks.1.") for name in changed)
    else:
        assert all(name.endswith(".weight") and "norm" not in name for name in changed)
        change = (
            after["blocks.0.feed_forward.inner.weight"]
            - before["blocks.0.feed_forward.inner.weight"]
        )
        assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= 8
    assert generator.generate("7 red", max_tokens=3)


@pytest.mark.slow
def test_a_resumed_low_rank_run_ends_with_the_same_bits(tales, book, tmp_path):
    settings = (*SHORT, f"start_from={tales}", "fine_tuning.method=lora", "training.epochs=2")
    train(book, tmp_path / "straight", settings=settings)

    class CrashError(Exception):
        pass

    def crash(event):
        if isinstance(event, Saved) and event.step > 2:
            raise CrashError

    with pytest.raises(CrashError):
        train(book, tmp_path / "crashed", settings=settings, report=crash)
    resume(tmp_path / "crashed")
    ours, theirs = (ModelFolder(tmp_path / n).read_weights() for n in ("crashed", "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_other_labels_take_the_encoder_and_the_known_rows(mood, tmp_path):
    data = write_reviews(tmp_path / "more.jsonl")
    data.write_text(data.read_text().replace('"other"', '"none"'))
    events = []
    settings = (*SHORT, f"start_from={mood[0]}", "training.epochs=1")
    found = train(data, tmp_path / "more", settings=settings, report=events.append)
    assert found.labels == ("cat", "none")
    before, _ = figures(events)
    assert before["loss"] != pytest.approx(0.693, abs=1e-3)  # that of a map of zeros
    assert next(event.text for event in events if isinstance(event, Warned)) == (
        "The output layer keeps what it knows of cat.  New: none.  "
        "Left out, since the data lacks them: other."
    )


@pytest.mark.slow
def test_sizes_come_with_the_weights(tales, book, tmp_path):
    with pytest.raises(WeightsError, match=r"Sizes come with the weights: leave model\.\* out"):
        train(book, tmp_path / "more", settings=(f"start_from={tales}", *SHORT, "model.dim=64"))


@pytest.mark.slow
def test_low_rank_training_takes_adamw(tales, book, tmp_path):
    events = []
    settings = (*SHORT, f"start_from={tales}", "fine_tuning.method=lora", "training.epochs=1")
    train(book, tmp_path / "more", settings=settings, report=events.append)
    planned = next(event for event in events if isinstance(event, Planned))
    assert (planned.optimizer, planned.learning_rate) == ("adamw", 1e-3)


@pytest.mark.slow
def test_an_exported_language_model_is_the_same(tales, tmp_path, capsys):
    assert main(["export", str(tales), "-o", str(tmp_path / "hf"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["difference"] == 0
    assert found["model_type"] == "llama"
    if found["peer_difference"] is not None:
        assert found["peer_difference"] < 1e-4 * found["scale"]
    opened = regard.load(tmp_path / "hf")
    assert isinstance(opened, TextGenerator)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(opened.model(ids), load(tales).model(ids))
    assert opened.generate("7 red", max_tokens=3, seed=1).num_tokens <= 3


@pytest.mark.slow
def test_a_published_language_model_is_fine_tuned_and_keeps_its_vocabulary(tales, book, tmp_path):
    export_model(regard.load(tales), tmp_path / "hf")
    events = []
    settings = (*SHORT, f"start_from={tmp_path / 'hf'}", "training.epochs=1")
    generator = train(book, tmp_path / "more", settings=settings, report=events.append)
    before, evaluations = figures(events)
    assert before["loss"] < 5
    assert evaluations[-1].measures["loss"] < before["loss"]
    again = load(tmp_path / "more")
    assert again.tokenizer.encode(["7 red cat"]) == Tokenizer.encode(
        load(tales).tokenizer, ["7 red cat"]
    )
    assert generator.generate("7", max_tokens=4, seed=1) == again.generate(
        "7", max_tokens=4, seed=1
    )


def test_a_published_encoder_becomes_a_classifier(mood, reviews, tmp_path):
    classifier = load(mood[0])
    assert isinstance(classifier.model, Classifier)
    encoder = TextEncoder(
        classifier.model.encoder, classifier.tokenizer, RunConfig(task="masked-language-modeling")
    )
    with pytest.raises(ConfigError, match=r"model\.norm=pre: bert checkpoints have post only"):
        export_model(encoder, tmp_path / "hf")  # published BERTs are post-norm


@pytest.mark.slow
def test_a_pattern_cannot_be_exported(book, tmp_path):
    settings = (*TEXT, "training.epochs=1", "attention.pattern=local:8")
    train(book, tmp_path / "model", settings=settings)
    with pytest.raises(ConfigError) as raised:
        export_model(regard.load(tmp_path / "model"), tmp_path / "hf")
    assert str(raised.value) == (
        "model.family=gpt: no published layout has a place for this model.  attention local:8: "
        "published configurations have no pattern, so others would compute full attention.  A "
        "model that can be written is trained with `attention.pattern=full`."
    )


@pytest.mark.slow
def test_a_pattern_of_an_encoder_cannot_be_exported_either(book, tmp_path):
    settings = (*TEXT, "task=masked-language-modeling", "training.epochs=1")
    pattern = "attention.pattern=local:8"
    encoder = train(book, tmp_path / "encoder", settings=(*settings, pattern, "model.norm=post"))
    with pytest.raises(ConfigError, match=r"attention local:8: published configurations"):
        export_model(encoder, tmp_path / "hf")


def test_the_command_classifies(mood, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("7 red cat sees the tree\n7 old dog likes the tree\n")
    assert main(["classify", str(mood[0]), str(lines)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["cat", "other"]
    assert main(["classify", str(mood[0]), "7 red cat", "--top", "2"]) == 0
    assert len(capsys.readouterr().out.split("\t")) == 4
    assert main(["classify", str(mood[0]), "7 red cat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "cat"


def test_one_label_is_refused_with_the_exact_words(tmp_path):
    data = tmp_path / "mood.jsonl"
    data.write_text('{"text": "a", "label": "1"}\n' * 20)
    with pytest.raises(regard.errors.DataError) as raised:
        train(data, tmp_path / "model")
    assert str(raised.value) == (
        f'{data}: every row has the label "1".  A classifier needs two or more.  '
        "Columns seen: text, label.  Wrong column? `data.columns=text,NAME`"
    )


@pytest.mark.slow
def test_an_encoder_learns_hidden_tokens_and_then_labels(book, reviews, tmp_path):
    events = []
    settings = (*TEXT, "task=masked-language-modeling", "training.epochs=10")
    settings = (*settings, "optimizer.learning_rate=0.01")
    encoder = train(book, tmp_path / "encoder", settings=settings, report=events.append)
    assert isinstance(encoder, TextEncoder)
    found = [event.measures["loss"] for event in events if isinstance(event, Evaluated)]
    assert found[-1] < 0.75 * found[0]
    (candidates,) = encoder.fill("7 red cat <mask> the dog.")
    assert len(candidates) == 5
    assert sum(probability for _, probability in candidates) <= 1
    assert encoder.embed(["7 red cat", "old dog"]).shape == (2, 32)
    settings = (*SHORT, f"start_from={tmp_path / 'encoder'}", "training.epochs=2")
    classifier = train(reviews, tmp_path / "mood", settings=settings)
    assert classifier.labels == ("cat", "other")
    with pytest.raises(ConfigError, match="no mask in it"):
        encoder.fill("7 red cat")
