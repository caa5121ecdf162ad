"""The report of an evaluation: its figures are those of the report, its texts are only texts."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from tests.conftest import toy_pairs, write_tsv
from tests.explain.report.read_html import Page

from regard.__main__ import main
from regard.explain.attribution import METHODS
from regard.explain.report import ReportFacts, report_html
from regard.explain.report.markup import escape, tag
from regard.metrics.classification import reliability
from regard.plots.confusion_matrix import ClassificationPicture
from regard.plots.score_by_length import ScoreByLengthPicture
from regard.runs.scoring import Decoding, evaluate
from regard.setup.evaluation_details import (
    CalibrationChart,
    EvaluationDetails,
    ScoreChart,
    ScoredRow,
)
from regard.tasks.classification.evaluation import ClassificationReport

MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp;'
STRANGE = [
    MARKUP,
    "\N{PILE OF POO} \N{REGIONAL INDICATOR SYMBOL LETTER D}",
    "שלום \u202eעולם",
    "a\x00b",
]


@pytest.fixture(scope="session")
def translated(trained, tmp_path_factory):
    """The report of a translator on a dozen rows, two of them strange; and its page."""
    pairs = [*toy_pairs(10, seed=9), (f"{MARKUP} cat", MARKUP), ("word " * 200, "Wort " * 5)]
    path = write_tsv(tmp_path_factory.mktemp("test") / "new.tsv", pairs)
    report, task, translator = evaluate(
        trained, path, decoding=Decoding(beam=1), num_worst=12, has_details=True, allow_overlap=True
    )
    return report, report_html(report, ReportFacts(task, str(trained)), translator)


def classified(labels=("neg", "pos"), **changes):
    """Make the report of a classifier."""
    count = len(labels)
    counts = [[3 + (row == column) for column in range(count)] for row in range(count)]
    picture = ClassificationPicture(
        labels=list(labels),
        counts=counts,
        bin_counts=[0] * 9 + [10],
        bin_confidence=[0.0] * 9 + [0.97],
        bin_accuracy=[0.0] * 9 + [0.6],
        calibration_error=37.0,
    )
    bins = reliability([0.97] * 10, [True] * 6 + [False] * 4)
    details = EvaluationDetails(
        charts=[
            ScoreChart(
                title="By length",
                note="",
                picture=ScoreByLengthPicture.from_rows(
                    list(range(40)), [[50.0] * 40], unit="words", row="text", names=["accuracy"]
                ),
            )
        ],
        calibrations=[CalibrationChart(title="Calibration", note="", unit="input", bins=bins)],
        confusion=picture,
        worst=[
            ScoredRow(where="a.tsv:7", score="probability 0.97", texts={"text": text})
            for text in STRANGE
        ],
    )
    fields = {
        "model": "mood",
        "path": "a.tsv",
        "num_inputs": 10,
        "unit": "texts",
        "loss": 0.5,
        "accuracy": 60.0,
        "accuracy_low": 31.2,
        "accuracy_high": 83.1,
        "macro_f1": 59.0,
        "majority": 50.0,
        "calibration_error": 37.0,
        "worst": [],
        "details": details,
    }
    return ClassificationReport(**(fields | changes))


def page_of(report, folder="no-such-folder"):
    return report_html(report, ReportFacts("classification", folder, "2026-11-29"))


def test_scores_floors_and_verdict_are_those_of_the_report(translated):
    report, text = translated
    page = Page(text)
    score = report.scores.chrf
    rows = page.table("chrF")
    assert rows[1][0] == "this model"
    assert [float(cell) for cell in rows[1][1:]] == pytest.approx(
        [score.value, score.low, score.high], abs=0.06
    )
    assert [row[0] for row in rows[2:]] == ["copying the source", "nearest training sentence"]
    printed = "\n".join(line for _, line in report.lines())
    assert all(f"{row[0]} {float(row[1]):.1f} chrF" in printed for row in rows[2:])
    assert f"Verdict: {report.verdict}" in page.text
    assert "12 rows" in page.text


def test_charts_have_table_twins_with_all_rows(translated):
    report, text = translated
    page = Page(text)
    for chart in report.details.charts:
        rows = page.table(chart.picture.unit)
        assert sum(int(row[1]) for row in rows[1:]) == report.num_rows
    assert [chart.title for chart in report.details.charts] == [
        *("By length", "By rare words", "By confidence")
    ]
    num_tokens = sum(report.details.calibrations[0].bins.counts)
    assert sum(int(row[1].replace(",", "")) for row in page.table("probability")[1:]) == num_tokens


def test_worst_rows_show_their_texts_and_what_they_looked_at(translated):
    report, text = translated
    page = Page(text)
    cards = [attributes for name, attributes in page.elements if attributes.get("class") == "card"]
    assert len(cards) == len(report.worst) == 12
    kinds = [attributes.get("class", "") or "" for _, attributes in page.elements]
    num_too_long = page.text.count("not explained: the output has more than 2,000 characters.")
    assert sum(kind == "words" for kind in kinds) + num_too_long == 5
    assert any(re.fullmatch(r"w (for|against)8", kind) for kind in kinds)
    assert f"({METHODS['occlusion'].title}, over the whole output" in page.text


def test_a_text_of_the_data_is_shown_and_never_run(translated):
    for text in (translated[1], page_of(classified(labels=(MARKUP, "pos")))):
        page = Page(text)
        assert MARKUP in page.text
        assert not {"script", "img", "iframe", "object", "form", "a"} & page.names()
        assert not any(
            name.startswith("on") or (name in ("style", "src", "href") and value != "data:,")
            for _, attributes in page.elements
            for name, value in attributes.items()
        )


def test_the_page_asks_for_nothing(translated):
    page = Page(translated[1])
    policy = next(a["content"] or "" for _, a in page.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert re.findall(r"https?://|url\(|@import", translated[1]) == []


def test_a_long_row_is_cut_and_the_rest_is_counted(translated):
    report, text = translated
    assert any(entry.source.startswith("word word") for entry in report.worst)
    assert " … 41 more words" in Page(text).text or " … 40 more words" in Page(text).text
    assert len(text) < 300_000


def test_the_stability_of_the_run_is_a_panel(translated):
    page = Page(translated[1])
    assert "No gradient vanished or exploded, the loss did not oscillate." in page.text
    layers = {row[0] for rows in page.tables for row in rows if rows[0][0] == "layer"}
    assert {"encoder.0", "decoder.0"} <= layers


def test_a_classifier_has_calibration_and_confusion():
    page = Page(page_of(classified()))
    assert page.table("true label") == [
        ["true label", "neg", "pos"],
        ["neg", "4", "3"],
        ["pos", "3", "4"],
    ]
    assert page.table("probability")[-1] == ["90–100 %", "10", "97.0 %", "60.0 %"]
    assert "37.0 %" in page.texts
    assert "no-such-folder: no such folder." in page.text


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 40, 61])
def test_any_number_of_labels_fits(count):
    page = Page(page_of(classified(labels=tuple(f"label {n}" for n in range(count)))))
    assert len(page.table("true label")) == 1 + min(count, 60)


def test_right_to_left_text_and_control_characters_stay_within_their_cell():
    text = page_of(classified())
    page = Page(text)
    assert STRANGE[2] in page.texts and STRANGE[1] in page.texts
    assert "a\N{REPLACEMENT CHARACTER}b" in page.texts and "\x00" not in text
    cells = [attributes for name, attributes in page.elements if name == "dd"]
    assert cells and all(attributes["dir"] == "auto" for attributes in cells)


def test_another_model_is_compared_and_all_that_is_printed_is_there(translated):
    report, text = translated
    page = Page(text)
    assert "as printed" in page.texts and "Compared with" not in page.text
    assert next(line for title, line in report.lines() if title == "Latency") in page.text
    page = Page(page_of(classified(compared=50.0, other=MARKUP)))
    assert f"Compared with {MARKUP}" in page.texts
    assert f"mood against {MARKUP}: +10.0 points" in page.texts


def test_what_is_no_report_and_no_facts_is_refused_by_its_type():
    facts = ReportFacts(task="classification", model="m")
    with pytest.raises(TypeError, match=r"^`report`: what `regard.evaluate` returns was expected"):
        report_html("a.html", facts)
    with pytest.raises(TypeError, match=r"^`facts`: a `ReportFacts` was expected, not str\.$"):
        report_html(classified(), "m")


def test_no_wrong_row_and_no_details_say_so():
    report = replace(classified(), details=EvaluationDetails())
    assert "No row is wrong." in Page(page_of(report)).text
    assert "There are no rows." in Page(page_of(replace(report, num_inputs=0))).text
    assert "Verdict" in Page(page_of(replace(report, details=None))).text


@pytest.mark.parametrize("value", ["&<>\"'", MARKUP, "\ud800", "\x07"])
def test_escaped_text_has_no_markup(value):
    assert not set("<>\"'") & set(escape(value))
    assert tag("p", value, title=value).encode()


def test_the_command_writes_the_page_next_to_its_json(trained, tmp_path, capsys):
    pairs = write_tsv(tmp_path / "new.tsv", [("neu 3 red cat", "3 Katze rot")])
    page = tmp_path / "report.html"
    words = ["evaluate", str(trained), str(pairs), "--beam", "1", "--html", str(page), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith('{"task":"translation"') and '"details"' not in out
    assert err.endswith(f"{page}: written\n")
    assert "1 rows" not in (text := Page(page.read_text(encoding="utf-8")).text)
    assert "1 row " in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.svg", "--html x.svg: a page ends in .html."),
        ("no/such/x.html", "no/such/x.html: cannot be written (No such file or directory)."),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_the_model_is_opened(
    trained, capsys, name, message
):
    assert main(["evaluate", str(trained), "no-data.tsv", "--html", name]) == 2
    assert capsys.readouterr() == ("", f"regard: {message}\n")


def test_a_full_disk_is_a_lack_of_resources_after_the_scores(trained, tmp_path, capsys):
    page = tmp_path / "full.html"
    page.symlink_to("/dev/full")
    pairs = write_tsv(tmp_path / "new.tsv", [("neu 3 red cat", "3 Katze rot")])
    assert main(["evaluate", str(trained), str(pairs), "--beam", "1", "--html", str(page)]) == 5
    out, err = capsys.readouterr()
    assert "Verdict" in out
    assert err.endswith(f"{page}: cannot be written (No space left on device).\n")


def test_a_folder_is_refused_as_a_page(trained, tmp_path, capsys):
    folder = tmp_path / "a.html"
    folder.mkdir()
    assert main(["evaluate", str(trained), "no-data.tsv", "--html", str(folder)]) == 2
    assert capsys.readouterr().err == f"regard: {folder}: a folder, not a file.  Name a file.\n"
