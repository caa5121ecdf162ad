"""Classifiers that give a text any number of labels: trained, used, scored, sent out."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import toy_pairs
from tests.explain import predictors

import regard
from regard.__main__ import main
from regard.cli.classify import set_threshold
from regard.data.readers.source import open_source
from regard.errors import ConfigError, DataError
from regard.explain.open_prediction import predict
from regard.runs.export_check import export_model
from regard.runs.run import train
from regard.serving.verbs.labels import ClassifyBody, classify_service
from regard.setup.config import DataConfig, RunConfig
from regard.setup.evaluation_report import EvaluationOptions
from regard.tasks.multi_label_classification.data import read_held_out_texts
from regard.tasks.multi_label_classification.evaluation import evaluate_multi_label
from regard.tasks.multi_label_classification.predictor import MultiLabelClassifier

WORDS = ("cat", "red", "tree")
COLUMNS = ",".join(("text", *WORDS))
SETTINGS = (
    f"data.columns={COLUMNS}",
    "training.epochs=1",
    "training.precision=float32",
    "data.max_length=32",
    "model.num_layers=1",
    "model.dim=16",
    "model.num_heads=2",
)

LABELS = ("cat", "red")


def write_rows(path, num=200):
    lines = ["\t".join(("text", *WORDS))]
    for number, (text, _) in enumerate(toy_pairs(num)):
        flags = [str(int(word in text.split())) for word in WORDS]
        lines.append("\t".join((f"{text} {number}", *flags)))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels")
    train(write_rows(path / "rows.tsv"), path / "model", settings=SETTINGS)
    return path / "model"


def untrained():
    """Return a classifier of three labels with drawn weights."""
    one = predictors.text_classifier()
    data = DataConfig(labels=predictors.LABELS, multi_label=True)
    config = RunConfig(task="classification", model=predictors.BERT, data=data)
    return MultiLabelClassifier(one.model, one.tokenizer, config)


@pytest.mark.slow
def test_a_run_keeps_the_labels_the_threshold_and_its_scores(folder):
    opened = regard.load(folder)
    assert isinstance(opened, MultiLabelClassifier)
    assert opened.labels == WORDS
    assert opened.config.data.multi_label
    calibration = json.loads((folder / "calibration.json").read_text())
    assert calibration == {"label_threshold": opened.threshold}
    events = list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))
    (evaluated, *_) = (event["measures"] for event in events if event["event"] == "evaluated")
    assert evaluated.keys() == {"loss", "micro_f1", "macro_f1"}
    card = (folder / "README.md").read_text()
    assert "A classifier that gives a text any of 3 labels" in card
    assert f"above {opened.threshold:.3f}" in card


@pytest.mark.slow
def test_an_evaluation_has_the_scores_of_each_label_and_two_floors(folder, tmp_path):
    data = open_source(write_rows(tmp_path / "test.tsv"))
    opened = regard.load(folder)
    with pytest.raises(DataError, match="inputs are also in"):
        evaluate_multi_label(opened, data, EvaluationOptions(model="m"))
    options = EvaluationOptions(model="m", other="n", allow_overlap=True, has_details=True)
    report = evaluate_multi_label(opened, data, options, opened)
    rows = opened.read_test(data)
    given = [result.labels for result in opened.classify(rows.texts)]
    exact = sum(set(ours) == set(true) for ours, true in zip(given, rows.label_sets, strict=True))
    assert report.exact_match == pytest.approx(100 * exact / len(rows))
    assert report.no_labels == 100 * rows.labels.count("no label") / len(rows)
    assert report.labels["red"].count == sum("red" in labels for labels in rows.label_sets)
    assert report.compared == report.micro_f1
    assert report.micro_f1_low <= report.micro_f1 <= report.micro_f1_high
    fields = report.json_fields()
    assert fields["scores"]["micro_f1"]["value"] == report.micro_f1
    titles = [title for title, _ in report.lines()]
    assert titles[-4:] == ["F1", "Floors", "Verdict", "Compare"]


@pytest.mark.slow
def test_a_classifier_of_one_label_is_not_compared_with_one_of_several(folder, tmp_path):
    rows = tmp_path / "one.jsonl"
    lines = [json.dumps({"text": text, "label": str("cat" in text)}) for text, _ in toy_pairs(60)]
    rows.write_text("\n".join(lines) + "\n")
    train(rows, tmp_path / "one", settings=SETTINGS[1:])
    with pytest.raises(ConfigError, match="one gives a text one label, the other any number"):
        regard.evaluate(folder, rows, compare=tmp_path / "one")


@pytest.mark.slow
def test_the_threshold_of_a_command_counts(folder, capsys):
    assert main(["classify", str(folder), "red cat", "--threshold", "0"]) == 0
    assert sorted(capsys.readouterr().out.split("\t")[::2]) == sorted(WORDS)
    assert main(["classify", str(folder), "red cat", "--threshold", "1"]) == 0
    assert capsys.readouterr().out == "\n"
    assert main(["classify", str(folder), "red cat", "--threshold", "2"]) == 2
    assert "--threshold: a number from 0 to 1 was expected, not 2" in capsys.readouterr().err


def test_a_model_of_one_label_takes_no_threshold():
    with pytest.raises(ConfigError, match="--threshold: this model gives each input one label"):
        set_threshold(predictors.text_classifier(), 0.5)


def test_a_text_has_every_label_above_the_threshold():
    opened = untrained()
    result = opened.classify("calm sea")
    (ids,) = opened.tokenizer.encode_truncated(["calm sea"], max_length=64)
    with torch.no_grad():
        values = opened.model(torch.tensor([ids]))[0].sigmoid().tolist()
    expected = dict(zip(predictors.LABELS, values, strict=True))
    assert result.probabilities == pytest.approx(expected)
    opened.threshold = 0.0
    assert set(opened.classify("calm sea").labels) == set(predictors.LABELS)
    opened.threshold = 1.0
    assert opened.classify("calm sea").labels == ()
    assert json.loads(msgspec.json.encode(opened.classify("calm sea")))["labels"] == []


def test_a_threshold_out_of_its_range_is_refused():
    opened = untrained()
    with pytest.raises(ConfigError, match="from 0 to 1 was expected, not 2"):
        opened.threshold = 2
    assert opened.threshold == 0.5


def test_a_service_answers_with_all_labels():
    opened = untrained()
    opened.threshold = 0.0
    service = classify_service(opened)
    try:
        (output, blank) = service.outputs(ClassifyBody(text=["calm sea", " "]), lambda: None)
    finally:
        service.worker.close()
    assert output == opened.classify("calm sea")
    assert blank.label == ""


def test_each_label_is_explained_by_its_own_probability():
    opened = untrained()
    probabilities = opened.classify("calm sea").probabilities
    for label in predictors.LABELS:
        prediction = predict(opened, "calm sea", output=label)
        with torch.no_grad():
            score = prediction.scores(prediction.full_weights())[0, 0]
        assert float(score.exp()) == pytest.approx(probabilities[label], abs=1e-6)


@pytest.mark.slow
def test_classifiers_of_transformers_with_several_labels_go_in_and_out(transformers, tmp_path):
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        intermediate_size=8,
        id2label=dict(enumerate(WORDS)),
        label2id={word: number for number, word in enumerate(WORDS)},
        problem_type="multi_label_classification",
    )
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "hf")
    opened = regard.load(tmp_path / "hf")
    assert isinstance(opened, MultiLabelClassifier)
    assert (opened.labels, opened.threshold) == (WORDS, 0.5)
    opened.threshold = 0.25
    export_model(opened, tmp_path / "out")
    fields = json.loads((tmp_path / "out" / "config.json").read_text())
    assert fields["problem_type"] == "multi_label_classification"
    assert regard.load(tmp_path / "out").threshold == 0.25
    ids, labels = torch.tensor([[1, 2, 3]]), torch.tensor([[1.0, 0.0, 1.0]])
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        theirs = again.eval()(input_ids=ids, labels=labels)
        logits = opened.model(ids)
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    assert float(theirs.loss) == pytest.approx(float(loss), rel=1e-5)


def test_a_published_threshold_that_is_no_probability_is_refused(transformers, tmp_path):
    from tests.tasks.classification.test_predictor_published import change, published

    published(transformers, "bert", tmp_path, seed=0)
    change(tmp_path, problem_type="multi_label_classification", label_threshold="high")
    with pytest.raises(ConfigError, match="label_threshold=high: a number from 0 to 1"):
        regard.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("data.columns=text,cat,red",), "no usable"),
        (("data.multi_label=true", "task=classification"), 'no column "label".  Columns seen'),
        (("data.columns=a,b,c,d", "task=translation"), "four names; the data is for translation"),
    ],
)
def test_columns_that_do_not_fit_are_refused(settings, message, tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("text\tcat\tred\na b c\t-1\t-1\n")
    with pytest.raises((ConfigError, DataError), match=message):
        train(path, tmp_path / "model", settings=settings)


@pytest.mark.parametrize("columns", [("text", "label"), ("comment", "labels"), ("review", "tags")])
def test_a_file_of_lists_is_read_where_training_had_a_column_for_each_label(columns, tmp_path):
    rows = [("a red cat", ["red", "cat"]), ("a cat", ["cat"]), ("a dog", [])]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    )
    settings = DataConfig(columns=("comment", *LABELS), multi_label=True)
    read = read_held_out_texts(str(path), settings)
    assert read.texts == ["a red cat", "a cat", "a dog"]
    assert read.label_sets == [("red", "cat"), ("cat",), ()]


@pytest.mark.parametrize("separator", ["|", "; ", ","])
@pytest.mark.parametrize("settings", [{"columns": ("comment", *LABELS)}, {"labels": LABELS}])
def test_known_labels_between_separators_are_read_without_an_option(separator, settings, tmp_path):
    path = tmp_path / "rows.jsonl"
    cells = [separator.join(("red", "cat")), "cat"]
    path.write_text("".join(json.dumps({"text": "a", "labels": cell}) + "\n" for cell in cells))
    read = read_held_out_texts(str(path), DataConfig(multi_label=True, **settings))
    assert read.label_sets == [("red", "cat"), ("cat",)]


def test_a_file_without_lists_names_the_column_that_it_lacks(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("comment,cat,rde\na cat,1,0\n")
    with pytest.raises(DataError, match=r'no column "red"\.  Did you mean rde\?'):
        read_held_out_texts(str(path), DataConfig(columns=("comment", *LABELS)))


@pytest.mark.slow
def test_lists_of_labels_are_trained_on_and_scored(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [(f"{text} {n}", text.split()) for n, (text, _) in enumerate(toy_pairs(120))]
    lines = [{"text": text, "labels": [w for w in WORDS if w in words]} for text, words in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    train(path, tmp_path / "model", settings=SETTINGS[1:])
    opened = regard.load(tmp_path / "model")
    assert opened.labels == tuple(sorted(WORDS))
    report = regard.evaluate(tmp_path / "model", path, allow_overlap=True)
    assert report.num_inputs == 120
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a cat", "labels": ["blue"]}\n')
    with pytest.raises(DataError, match=r'other\.jsonl:1: the label "blue" is not in '):
        regard.evaluate(tmp_path / "model", other)
