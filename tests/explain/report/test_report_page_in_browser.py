"""The report of an evaluation in Chromium: drawn, readable at any width, silent, light and dark."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from tests.explain.report.test_report_page import classified, page_of

from regard.explain.report import save_report

pytestmark = pytest.mark.slow

LABELS = ("<script>alert(1)</script>", "שלום", "中文", "a label of many words that is long", "e")


@pytest.fixture(scope="module")
def report_file(tmp_path_factory):
    """The report of a classifier with strange labels."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    save_report(page_of(classified(labels=LABELS)), path)
    return path


@pytest.fixture
def open_report(window, report_file):
    """Opens the report, and records what it asks for and complains about."""
    page = window.page
    requests, problems = [], []

    def on_request(request):
        requests.append(request.url)

    def on_problem(problem):
        problems.append(str(getattr(problem, "text", problem)))

    page.on("request", on_request)
    page.on("console", on_problem)
    page.on("pageerror", on_problem)

    def open_in_window(width: int = 1200, scheme: str = "light"):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.goto(report_file.as_uri())
        return page

    yield open_in_window
    page.remove_listener("request", on_request)
    page.remove_listener("console", on_problem)
    page.remove_listener("pageerror", on_problem)
    assert problems == []
    assert requests and all(url.startswith(("file:", "data:")) for url in requests)


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_in_many_colors_in_light_and_dark(open_report, scheme):
    page = open_report(scheme=scheme)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    assert len(image.getcolors(1 << 24) or ()) > 64
    assert background(page) == {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 19, 22)"}[scheme]
    assert page.locator("svg.chart").count() == 4
    boxes = [chart.bounding_box() for chart in page.locator("svg.chart").all()]
    assert all(box["width"] > 200 and box["height"] > 40 for box in boxes)


@pytest.mark.parametrize("width", [400, 1200])
def test_it_fits_a_phone_and_a_wide_screen(open_report, width):
    page = open_report(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = {panel.bounding_box()["x"] for panel in page.locator(".panel").all()}
    assert len(lefts) == (1 if width == 400 else 2)


def test_a_table_twin_opens_by_keyboard(open_report):
    page = open_report()
    summary = page.locator("summary").first
    assert not page.locator("table").first.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("table").first.is_visible()


def test_words_of_a_label_are_text_and_those_of_a_right_to_left_row_are_in_order(open_report):
    page = open_report()
    assert page.locator("script").count() == 0
    assert LABELS[0][:10] in page.locator("svg.chart").last.text_content()
    direction = "e => getComputedStyle(e).unicodeBidi"
    assert page.locator("dd").first.evaluate(direction) == "plaintext"


CHART_SIZES = """[...document.querySelectorAll("svg.chart text")].map((text) => {
  const matrix = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(matrix.c, matrix.d);
})"""


@pytest.mark.parametrize("num_labels", [5, 40])
@pytest.mark.parametrize("width", [400, 1200])
def test_no_text_of_a_chart_is_smaller_than_11_pixels(window, tmp_path, width, num_labels):
    path = tmp_path / "report.html"
    labels = tuple(f"label number {index}" for index in range(num_labels))
    save_report(page_of(classified(labels=labels)), path)
    window.page.set_viewport_size({"width": width, "height": 800})
    window.page.goto(path.as_uri())
    sizes = window.page.evaluate(CHART_SIZES)
    assert len(sizes) > 2 * num_labels
    assert min(sizes) >= 11 - 1e-3
    assert window.page.evaluate("document.documentElement.scrollWidth") <= width
