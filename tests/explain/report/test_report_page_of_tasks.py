"""Every task that has scores has a report, with all rows in its charts and its worst rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explain import predictors
from tests.explain.report.read_html import Page

from regard.data.readers.source import open_source
from regard.explain.attribution import METHODS, Budget
from regard.explain.open_prediction import predict
from regard.explain.report import ReportFacts, report_html
from regard.explain.report.attributed_words import AttributedWords, attribute_words, draw_words
from regard.explain.report.forecast_chart import forecast_chart
from regard.explain.report.whole_output import WholeOutput
from regard.generation.beam_search_config import BeamSearchConfig
from regard.metrics.forecasts import LEVELS
from regard.metrics.rare_words import rare_word_percent
from regard.plots.forecast_panels import ForecastPanel
from regard.setup.config import RunConfig
from regard.setup.evaluation_details import ExplainedInput
from regard.setup.evaluation_report import EvaluationOptions
from regard.tasks import task_of
from regard.tasks.forecasting.forecast_details import chart_by_step, chart_quantiles
from regard.tasks.forecasting.rolling_origins import ForecastWindow
from regard.tasks.summarization.predictor import Summarizer

CONTEXT = "the cat sat on the mat . a dog ran to the door"
TEXTS = [*predictors.TEXTS, "\N{PILE OF POO} <b>mat</b>", "שלום cat", "cat " * 300]


def summarizer():
    model = predictors.translator().model
    search = BeamSearchConfig(beam=1, max_length=6)
    config = RunConfig(task="summarization", model=predictors.TRANSFORMER, search=search)
    return Summarizer(model, predictors.tokenizer(), config)


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts_with_labels(path: Path) -> Path:
    labels = predictors.LABELS * len(TEXTS)
    return lines(path, [{"text": t, "label": x} for t, x in zip(TEXTS, labels, strict=False)])


def documents(path: Path) -> Path:
    return lines(path, [{"document": text, "summary": "a mat"} for text in TEXTS])


def questions(path: Path) -> Path:
    rows = [
        {
            "context": CONTEXT,
            "question": text,
            "answers": {"text": ["the mat"], "answer_start": [15]},
        }
        for text in TEXTS
    ]
    return lines(path, rows)


def running_text(path: Path) -> Path:
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def evaluate(predictor: Any, path: Path, num_worst: int = 20) -> tuple[Any, Page, str]:
    task = task_of(predictor.config)
    options = EvaluationOptions(
        model="<i>tiny</i>", allow_overlap=True, has_details=True, num_worst=num_worst
    )
    report = task.evaluate(predictor, open_source(path), options)
    text = report_html(report, ReportFacts(task.name, "no-such-folder"), predictor)
    return report, Page(text), text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "write", "name", "first_score"),
    [
        (predictors.text_classifier, texts_with_labels, "t.jsonl", "Accuracy"),
        (predictors.question_answerer, questions, "q.jsonl", "F1"),
        (predictors.text_generator, running_text, "t.txt", "Bits per byte"),
        (summarizer, documents, "d.jsonl", "ROUGE-L"),
    ],
    ids=["classification", "questions", "running text", "summaries"],
)
def test_a_task_of_texts_has_scores_charts_and_worst_rows(tmp_path, make, write, name, first_score):
    report, page, text = evaluate(make(), write(tmp_path / name))
    details = report.details
    tiles = [a for tag, a in page.elements if tag == "div" and a.get("class") == "tile"]
    assert len(tiles) == len(report.intervals)
    assert page.table(first_score)[1][0] == "this model"
    assert {"By length", "By rare words"} <= {chart.title for chart in details.charts}
    for chart in details.charts:
        counts = [int(row[1]) for row in page.table(chart.picture.unit)[1:]]
        assert sum(counts) == len(TEXTS)
    (calibration,) = details.calibrations
    assert sum(calibration.bins.counts) >= len(TEXTS)
    cards = [a for tag, a in page.elements if a.get("class") == "card"]
    assert len(cards) == len(report.worst) > 0
    assert "not explained" not in page.text
    assert "<i>tiny</i>" in page.text and not {"i", "b", "script"} & page.names()
    assert len(text) < 400_000


def test_without_training_data_rows_are_ordered_by_tokens_of_their_words(tmp_path):
    report, page, _ = evaluate(
        predictors.text_classifier(), texts_with_labels(tmp_path / "t.jsonl")
    )
    assert page.table("tokens of 100 words")[0] == ["tokens of 100 words", "texts", "accuracy"]
    assert "The training data is not at hand" in page.text
    assert rare_word_percent(["a cat"], ["a cat"] * 4 + ["a dog"]) == [50]
    assert report.details.charts[1].title == "By rare words"


def test_a_forecaster_shows_its_worst_windows_and_whether_quantiles_are_true(tmp_path):
    path = predictors.write_series(tmp_path / "s.csv", days=60)
    report, page, _ = evaluate(predictors.forecaster(), path, num_worst=3)
    assert len(report.details.forecasts) == 3
    assert "Worst forecasts" in page.text and "Calibration of quantiles" in page.text
    assert len(page.table("level")) == 1 + 11
    assert len(page.table("time")) == 1 + 4
    assert {"MASE", "WQL"} <= {row[0] for row in (rows[0] for rows in page.tables)}


def test_values_between_missing_ones_are_dots_in_the_chart_of_a_forecast():
    nan = float("nan")
    panel = ForecastPanel(
        title="gaps",
        times=[],
        history=np.array([1.0, 2.0, nan, 4.0, nan]),
        actual=np.array([nan, 5.0, nan, 6.0]),
        quantiles=np.tile(np.arange(11.0), (4, 1)),
        levels=LEVELS,
    )
    svg = str(forecast_chart(panel).svg)
    assert re.findall(r'<polyline[^>]*class="([\w ]+)"', svg) == ["history", "curve first"]
    assert re.findall(r'<circle[^>]*class="(\w+)"', svg) == ["history", "came", "came"]


@pytest.mark.parametrize(
    ("num_ahead", "labels"),
    [
        (24, ["02-07 00:00", "02-09 23:00", "02-09 00:00"]),
        (2, ["02-07 00:00", "02-08 01:00"]),
    ],
)
def test_times_below_a_forecast_do_not_cover_each_other(num_ahead, labels):
    num_history = max(24, 2 * num_ahead)
    hours = range(num_history + num_ahead)
    panel = ForecastPanel(
        title="hours",
        times=[f"2024-02-{7 + hour // 24:02} {hour % 24:02}:00:00" for hour in hours],
        history=np.ones(num_history),
        actual=None,
        quantiles=np.tile(np.arange(11.0), (num_ahead, 1)),
        levels=LEVELS,
    )
    svg = str(forecast_chart(panel).svg)
    assert re.findall(r"<text[^>]*>([\d :-]*:[\d :-]*)</text>", svg) == labels


def test_quantiles_and_errors_by_step_are_those_of_the_formula():
    levels = 11
    windows = [ForecastWindow(series=0, origin=4, actual=np.array([1.0, np.nan, 3.0]))]
    quantiles = [np.tile(np.linspace(0.0, 2.0, levels), (3, 1))]
    chart = chart_quantiles(windows, quantiles)
    assert chart.bins.counts == [2] * levels
    assert chart.bins.accuracy == [0.0] * 5 + [0.5] * 6
    by_step = chart_by_step(windows, quantiles, [2.0])
    assert by_step is not None
    (group,) = by_step.picture.bins
    assert (group.shortest, group.longest, group.num_rows, group.means) == (1, 3, 2, [0.5])
    assert chart_by_step(windows, quantiles, [0.0]) is None


def test_one_row_and_no_worst_rows_are_a_page_as_well(tmp_path):
    path = lines(tmp_path / "t.jsonl", [{"text": "the cat", "label": "sad"}])
    report, page, _ = evaluate(predictors.text_classifier(), path, num_worst=0)
    assert report.num_rows == 1
    assert "1 row ·" in page.text and page.table("words of the text")[1][1] == "1"


def test_what_was_cut_is_said_and_a_very_long_output_is_not_explained():
    cut = attribute_words(predictors.text_classifier(), ExplainedInput(text="cat " * 300))
    assert isinstance(cut, AttributedWords)
    assert cut.notes == ["no more than 64 tokens of the text are read."]
    assert "Note: no more than 64 tokens" in Page(draw_words(cut)).text
    long = ExplainedInput(text="the cat", output="mat " * 600)
    reason = attribute_words(predictors.translator(), long)
    assert reason == "not explained: the output has more than 2,000 characters."


def test_pieces_of_a_word_are_one_and_their_scores_are_added_up():
    row = ExplainedInput(text="the cat sat", output="a dog")
    attributed = attribute_words(predictors.translator(), row)
    assert isinstance(attributed, AttributedWords)
    assert [word.text.strip() for word in attributed.words] == ["the", "cat", "sat"]
    assert attributed.method == METHODS["occlusion"].title
    assert (attributed.unit, attributed.notes) == ("nats", [])


def test_scores_of_the_whole_output_are_the_sums_of_those_of_its_parts():
    prediction = predict(predictors.translator(), "the cat sat", output="a dog")
    whole = METHODS["occlusion"].compute(WholeOutput(prediction), Budget()).scores
    parts = METHODS["occlusion"].compute(prediction, Budget()).scores
    assert whole.shape == (1, len(prediction.features))
    assert torch.allclose(whole[0], torch.nan_to_num(parts).sum(0), atol=1e-5)


def test_images_of_a_folder_show_the_colors_of_their_patches(tmp_path):
    for label in predictors.LABELS:
        (tmp_path / label).mkdir()
        for number in range(2):
            values = np.full((4, 6), 40 * number + len(label), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / label / f"{number} <b>.png")
    report, page, _ = evaluate(predictors.image_classifier(), tmp_path)
    assert 0 < len(report.worst) < 6
    grids = [a for tag, a in page.elements if tag == "table" and a.get("class") == "cells"]
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert len(grids) == len(pictures) == min(5, len(report.worst))
    cells = [a for tag, a in page.elements if tag == "td" and "title" in a]
    assert len(cells) == 6 * len(grids)
    assert all((a["src"] or "").startswith("data:image/png;base64,") for a in pictures)
    assert "b" not in page.names()
