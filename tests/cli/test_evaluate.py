"""``regard evaluate``: scores, floors, a picture, and what is refused before it evaluates."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image
from tests.cli.commands import run
from tests.conftest import TINY, toy_pairs, write_tsv
from tests.plots.read_svg import Svg

from regard.__main__ import main
from regard.runs import scoring
from regard.runs.run import train
from regard.tasks.translation.task import TranslationTask


@pytest.fixture
def pairs(tmp_path):
    """A file of pairs that are not in the training data."""
    return write_tsv(tmp_path / "new.tsv", [(f"ein {a}", b) for a, b in toy_pairs(3, seed=9)])


def test_a_translator_is_drawn_by_length(trained, pairs, tmp_path, capsys):
    path = tmp_path / "length.svg"
    words = ["evaluate", str(trained), str(pairs), "--plot", str(path), "--beam", "1", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "picture" not in json.loads(out)
    assert err.endswith(f"{path}: drawn\n")
    svg = Svg(path)
    assert "words of the source, and number of sentences" in svg.texts
    assert "mean chrF of a sentence, with its 95 % interval" in svg.texts


def test_the_scores_of_a_translator_are_those_with_an_interval(trained, pairs, capsys):
    assert main(["evaluate", str(trained), str(pairs), "--beam", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == 3
    assert list(report["scores"]) == ["bleu", "chrf"]
    assert all(score["low"] <= score["value"] for score in report["scores"].values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "a.jpg: a picture ends in one of .svg, .png, .pdf."),
        ("no/such/a.svg", "no/such/a.svg: cannot be written (No such file or directory)."),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_the_model_is_opened(
    trained, pairs, monkeypatch, capsys, name, message
):
    monkeypatch.setattr(scoring, "open_model", lambda _: pytest.fail("opened"))
    assert main(["evaluate", str(trained), str(pairs), "--plot", name]) == 2
    assert capsys.readouterr() == ("", f"regard: {message}\n")


def test_without_matplotlib_a_picture_is_refused_before_the_model_is_opened(
    trained, pairs, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(scoring, "open_model", lambda _: pytest.fail("opened"))
    assert main(["evaluate", str(trained), str(pairs), "--plot", "a.svg"]) == 2
    assert "pictures need matplotlib, which cannot be imported" in capsys.readouterr().err


def test_a_task_without_a_picture_is_named_before_it_is_evaluated(
    trained, pairs, monkeypatch, capsys
):
    monkeypatch.setattr(TranslationTask, "has_picture", False)
    monkeypatch.setattr(TranslationTask, "evaluate", lambda *_: pytest.fail("evaluated"))
    assert main(["evaluate", str(trained), str(pairs), "--plot", "a.svg"]) == 2
    assert capsys.readouterr().err == (
        "regard: --plot a.svg: the evaluation of a model for translation has no picture.\n"
    )


@pytest.mark.slow
def test_a_classifier_is_drawn_with_what_it_confuses(tmp_path, capsys):
    rows = [
        (f"{word} {number} day", label)
        for number in range(30)
        for word, label in (("good", "gut"), ("bad", "schlecht"), ("新", "中文"))
    ]
    data, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    for path, part in ((data, rows), (test, [(f"so {text}", label) for text, label in rows[:12]])):
        path.write_text(
            "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in part)
        )
    small = [word for word in TINY if "coder_layers" not in word] + ["model.num_layers=1"]
    train(data, tmp_path / "mood", settings=small)
    words = ["evaluate", str(tmp_path / "mood"), str(test), "--json", "--plot"]
    assert main([*words, str(tmp_path / "mood.svg")]) == 0
    report = json.loads(capsys.readouterr().out)
    texts = Svg(tmp_path / "mood.svg").texts
    assert "Confusion (12 inputs, 3 labels)" in [" ".join(text.split()) for text in texts]
    assert texts.count("中文") == 2
    assert 0 <= report["calibration_error"] <= 100
    assert f"calibration error {report['calibration_error']:.1f} %" in " ".join(texts)
    assert main([*words, str(tmp_path / "mood.png")]) == 0
    image = Image.open(tmp_path / "mood.png").convert("RGB")
    assert min(image.size) > 600 and len(image.getcolors(1 << 20)) > 16


@pytest.mark.slow
def test_evaluate_prints_scores_floors_verdict_and_latency(capsys, trained, tmp_path):
    data = write_tsv(tmp_path / "test.tsv", toy_pairs(440)[400:])
    words = ("evaluate", trained, data, "--beam", 1, "--allow-overlap", "--worst", 2)
    code, out, _ = run(capsys, *words, "--compare", trained)
    assert code == 0
    for word in ("chrF", "BLEU", "Floors", "Verdict", "Latency p50", "Worst", "Compare", "nrefs:1"):
        assert word in out
    titles = [line[:8].strip() for line in out.splitlines() if line[:8].strip()]
    assert titles[:4] == ["Data", "Worst", "Worst", "chrF"]
    code, out, _ = run(capsys, *words, "--json")
    assert json.loads(out)["num_pairs"] == 40


def test_columns_of_numbers_are_refused_as_in_training(trained, tmp_path, capsys):
    path = tmp_path / "xy.csv"
    path.write_text("x,y\n" + "".join(f"{row},{row * row}\n" for row in range(30)))
    for words, advice in (
        (("check", path), "  A series? Name its times and values: --columns "),
        (
            ("train", path, "-o", tmp_path / "m"),
            "  A series? Name its times and values: --columns ",
        ),
        (("evaluate", trained, path), "  Pairs? Call the columns source and target.\n"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 3
        assert f"{path}:1: only numbers, no texts.  Columns seen: x, y.{advice}" in err


def test_no_option_is_advised_that_evaluate_does_not_have(trained, tmp_path, capsys):
    path = tmp_path / "latin.tsv"
    path.write_bytes("Guten Tag\tSch\xf6n\n".encode("latin1"))
    code, _, err = run(capsys, "evaluate", trained, path)
    assert code == 3
    assert "Looks like Latin-1.  Convert: iconv " in err
    assert "--encoding" not in err
