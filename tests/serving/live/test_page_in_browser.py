"""The page of a run in a browser: it draws what the run says, while it says it and after."""

from __future__ import annotations

import pytest
from tests.explain.page.test_html_page_in_browser import OVERFLOW
from tests.serving.live.run_events import (
    DATA,
    ENDED,
    FINISHED,
    PLANNED,
    RUN,
    evaluated,
    progress,
)

from regard.serving.live.server import serve_run

pytestmark = pytest.mark.slow

TRAINED = "#loss path.line >> nth=0"
ROWS = """() => [...document.querySelectorAll("#loss tbody tr")].map((row) =>
  [...row.children].map((cell) => cell.textContent))"""


@pytest.fixture
def live(watched_window):
    """Opens the page of a run that has had some events; yields window and page."""
    pages = []

    def open_page(*events, width=1200, scheme="light", earlier=()):
        serving = serve_run(RUN, 0, earlier)
        page = serving.__enter__()
        pages.append(serving)
        for fields in events:
            page.add(fields)
        watched_window.open(page.url, width, scheme)
        return watched_window, page

    yield open_page
    watched_window.page.goto("about:blank")
    for serving in pages:
        serving.__exit__(None, None, None)


def training(last: int = 100):
    steps = [progress(step) for step in range(5, last + 1, 5)]
    return [DATA, PLANNED, *steps[:10], evaluated(50), *steps[10:]]


def num_colors(opened) -> int:
    """Return the number of colors of the page as it is drawn."""
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(opened.page.screenshot())).convert("RGB")
    return len(picture.getcolors(1_000_000))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_that_opens_late_has_everything_and_asks_nobody_else(live, scheme):
    opened, page = live(*training(), scheme=scheme)
    assert opened.text("h1") == "regard\nende"
    assert opened.text(".phase") == "Training"
    assert opened.text(".where").startswith("Step 100 of 200")
    assert "read as sentence pairs" in opened.text("#facts")
    assert num_colors(opened) > 16
    assert opened.page.title() == "50 % · ende · regard"
    assert {url for url in opened.requests if not url.startswith("data:")} == {
        f"{page.url}/",
        f"{page.url}/events",
    }
    assert opened.run(OVERFLOW) == 0
    opened.page.set_viewport_size({"width": 400, "height": 800})
    opened.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert opened.run(OVERFLOW) == 0
    assert opened.problems == []


def test_the_points_of_the_curves_are_those_of_the_events(live):
    opened, page = live(*training())
    assert opened.page.locator(TRAINED).get_attribute("d").count("L") == 19
    opened.page.click("#loss summary")
    page.add(evaluated(100))
    opened.page.wait_for_function("() => document.querySelectorAll('#loss tbody tr').length === 2")
    table = opened.run(ROWS)
    expected = [
        [str(step), f"{step // 2}s", f"{8 / (1 + step):.3f}", f"{7 / (1 + step):.3f}"]
        for step in (50, 100)
    ]
    assert table == expected
    page.add(progress(105))
    opened.page.wait_for_selector(".where:has-text('Step 105')")
    assert opened.page.locator(TRAINED).get_attribute("d").count("L") == 20


def test_charts_stay_in_their_order_whichever_has_a_point_first(live):
    opened, page = live(DATA, progress(5))
    page.add(evaluated(10))
    opened.page.wait_for_selector("#score-chrf")
    ids = opened.run("[...document.querySelectorAll('.curve')].map((chart) => chart.id)")
    assert ids == ["loss", "score-chrf", "learning-rate", "gradient-norm", "speed", "memory"]


def test_values_are_read_with_mouse_and_keyboard(live):
    opened, _ = live(*training())
    plot = opened.page.locator("#loss .curve-plot")
    plot.focus()
    opened.page.keyboard.press("Home")
    assert opened.text("#loss .curve-legend").split() == ["training", "1.333", "validation", "–"]
    assert opened.text("#loss .unseen").startswith("Step 5: training 1.333")
    assert opened.page.locator("#speed .curve-cursor line").count() == 1
    box = plot.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 40)
    assert opened.page.locator("#loss .curve-cursor text").text_content() == "step 100 · 50s"
    opened.page.click("text=time")
    assert opened.page.locator("#speed .tick").first.text_content() == "0s"
    assert opened.problems == []


def test_a_run_that_ends_leaves_its_scores_and_its_commands(live):
    opened, page = live(*training(200), evaluated(200), width=400)
    page.add(FINISHED)
    page.add(ENDED)
    opened.page.wait_for_selector(".banner:has-text('has finished')")
    assert opened.text(".phase") == "Finished"
    assert "50.1 to 53.2" in opened.text("#result")
    assert "copying the source" in opened.text("#result")
    assert opened.text("#result code") == 'regard translate ende "Good morning"'
    assert opened.page.title() == "finished · ende · regard"
    assert opened.run(OVERFLOW) == 0
    assert opened.problems == []


def test_texts_of_the_data_are_shown_as_text(live):
    opened, page = live(*training())
    page.add({"event": "warned", "text": "<img src=x onerror=alert(1)>"})
    opened.page.wait_for_selector(".notes li")
    assert opened.text(".notes li") == "<img src=x onerror=alert(1)>"
    assert opened.text("#outputs .output") == "<b>Ufer</b>"


def test_a_lost_connection_is_said_with_the_command_that_continues(watched_window):
    with serve_run(RUN, 0) as page:
        for fields in training():
            page.add(fields)
        watched_window.open(page.url)
    # The end was not said: as where the process was killed.
    watched_window.page.wait_for_selector(".banner:has-text('connection to the run is lost')")
    said = watched_window.text(".banner")
    assert "last word " in said
    assert "regard train -o ende --resume --live" in said
    assert watched_window.page.locator(TRAINED).count() == 1
    assert watched_window.page.title().startswith("connection lost")
    watched_window.page.goto("about:blank")


def test_a_loss_that_is_not_finite_is_a_gap(live):
    opened, page = live(*training())
    page.add(progress(105, loss=float("nan")))
    page.add(progress(110))
    page.add(progress(115))
    opened.page.wait_for_selector(".where:has-text('Step 115')")
    assert opened.page.locator(TRAINED).get_attribute("d").count("M") == 2
    assert opened.problems == []


def test_a_resumed_run_has_the_curve_of_its_earlier_session(live):
    earlier = [evaluated(20, learning_rate=None), evaluated(40)]
    opened, _ = live(progress(45), progress(50), earlier=earlier)
    assert opened.page.locator(TRAINED).get_attribute("d").count("L") == 3
    assert opened.problems == []


def test_the_page_says_how_far_the_data_is_read(live):
    working = {"event": "working", "stage": "reading a.tsv", "done": 1, "total": 4, "unit": "MB"}
    window, page = live(working)
    where = window.page.locator("#progress .where")
    assert "reading a.tsv: 1 of 4 MB" in where.text_content()
    assert window.page.locator("#progress .fill").evaluate("bar => bar.style.width") == "25%"
    page.add(DATA)
    window.page.wait_for_function("() => !document.body.textContent.includes('reading a.tsv')")
