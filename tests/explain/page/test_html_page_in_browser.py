"""The page of an explanation in a browser."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest
from tests.explain import sample_explanations as samples

from regard.explain.document import Explanation
from regard.explain.page import NotebookFrame, format_text
from regard.explain.page.token_text import number_text
from regard.explain.prediction import Output

pytestmark = pytest.mark.slow

COLORS = """(selector) => {
  const canvas = document.querySelector(selector);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colors = new Set();
  for (let i = 0; i < data.length; i += 4) {
    colors.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  }
  return colors.size;
}"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def markup():
    return samples.translation(samples.MARKUP, samples.MARKUP, num_layers=1, num_heads=2)


def scripts():
    return samples.translation(samples.SCRIPTS, samples.RIGHT_TO_LEFT, num_layers=1, num_heads=2)


def unseen():
    explanation = samples.translation([*samples.UNSEEN], samples.BANK, num_layers=1, num_heads=2)
    return msgspec.structs.replace(explanation, model=samples.model(name="en\x01\uffffde"))


def from_right_to_left():
    return samples.translation(samples.RIGHT_TO_LEFT, samples.BANK, num_layers=1, num_heads=2)


EVERY = [
    samples.translation,
    samples.classification,
    samples.forecast,
    samples.image,
    samples.windowed,
    samples.tiled,
    samples.empty,
    samples.with_training_rows,
    markup,
    scripts,
]


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.__name__)
def test_a_page_opens_without_an_error_asks_for_nothing_and_fits_the_window(open_page, make):
    opened = open_page(make)
    outside = [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert len([url for url in opened.requests if url.startswith("file:")]) == 1
    assert opened.run(OVERFLOW) == 0
    opened.page.set_viewport_size({"width": 400, "height": 800})
    opened.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert opened.run(OVERFLOW) == 0
    assert opened.problems == []


def test_the_maps_have_more_than_16_colors(open_page):
    opened = open_page(samples.translation)
    for selector in ("#alignment canvas.cells", "#one-head canvas.cells", "#heads canvas"):
        assert opened.page.evaluate(COLORS, selector) > 16, selector


def test_a_click_on_an_output_changes_the_panels(open_page):
    opened = open_page(samples.translation)
    before = [
        opened.text("#why h2"),
        opened.text("#why .bars + .scroll"),
        opened.text("#alignment .status"),
    ]
    opened.page.click(".word.output >> nth=1")
    assert opened.text("#why h2") == "1Why “Ufer”"
    assert opened.text("#alignment .status").startswith("“Ufer” ←")
    assert (
        opened.run("document.querySelector('.word.output[aria-pressed=true]').textContent")
        == "Ufer"
    )
    assert opened.text("#one-head .status").startswith(
        "“Das” →"
    )  # the query that “Ufer” is read from
    assert opened.text("#layers th.chosen") == "Ufer"
    assert before[0] == "1Why “Das”"


def test_a_click_on_a_word_of_the_input_follows_it(open_page):
    opened = open_page(samples.translation)
    opened.page.click(".word[data-feature='4']")
    assert opened.text("#alignment .status").startswith("“Das” ← “river”")
    assert opened.text("#why .bars .column.chosen .text") == "river"


def test_every_view_is_reached_by_the_keyboard(open_page):
    opened = open_page(samples.translation)
    keyboard = opened.page.keyboard
    opened.page.focus(".word.output")
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    assert opened.text("#why h2") == "1Why “Ufer”"
    opened.page.focus("#alignment .choice [aria-checked=true]")
    keyboard.press("ArrowRight")
    assert opened.text("#alignment .choice [aria-checked=true]") == "attention mean"
    opened.page.focus("#alignment .plate")
    keyboard.press("ArrowDown")
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    assert opened.text("#why h2") == "1Why “am”"
    opened.page.focus("#heads .head[aria-pressed=true]")
    before = opened.text("#one-head h2")
    keyboard.press("ArrowRight")
    assert opened.text("#one-head h2") != before
    opened.page.focus("#one-head .curve-box")
    keyboard.press("ArrowDown")
    assert opened.text("#one-head .status").startswith("“am” →")


def test_the_focus_stays_where_it_is_when_a_panel_is_drawn_again(open_page):
    opened = open_page(samples.translation)
    for selector in ("#why button.name >> nth=2", "#layers th button >> nth=3"):
        opened.page.focus(selector)
        text = opened.run("document.activeElement.textContent")
        opened.page.keyboard.press("Enter")
        assert opened.run("document.activeElement.textContent") == text


def test_maps_of_tiles_name_the_first_position_of_each(open_page):
    opened = open_page(samples.tiled)
    assert "each row and column has 4 positions" in opened.text("#one-head .note")
    opened.page.click(".word[data-feature='41']")
    assert opened.text("#one-head .status").startswith("“1 <cls>…” → “41 word…”")


def recurrent():
    """Like an LSTM with attention: the decoder reads the encoder, and no other map exists."""
    explanation = samples.translation()
    maps = [attention for attention in explanation.attention if attention.kind == "cross"]
    return msgspec.structs.replace(explanation, attention=maps, lens=[], encoder_lens=[])


def test_a_model_with_attention_over_the_source_alone_has_queries_of_the_target(open_page):
    opened = open_page(recurrent)
    opened.page.click(".word.output >> nth=1")
    assert opened.text("#one-head .status").startswith("“Das” →")
    assert opened.page.locator("#layers").count() == 0


def test_a_contrast_is_part_of_the_question(open_page):
    assert open_page(samples.classification).text("#why h2") == "1Why “positive”, not “negative”"


def test_alternatives_appear_at_an_output(open_page):
    opened = open_page(samples.translation)
    opened.page.focus(".word.output")
    assert "Bank" in opened.text("#alternatives")
    opened.page.keyboard.press("Escape")
    assert opened.page.locator("#alternatives").is_hidden()


def test_the_chosen_output_is_marked_among_the_others_and_added_where_it_is_missing(open_page):
    words = {" The": 0.5, "no answer": 0.25, " It": 0.125, " fox": 0.0625}
    explanation = msgspec.structs.replace(
        samples.classification(), output=[Output("start: It", math.log(0.125), words)]
    )
    rows = (
        "[...document.querySelectorAll('#why .alternative')].map((row) => [row.classList.contains("
        "'chosen'), row.querySelector('.text').textContent, "
        "row.querySelector('.number').textContent])"
    )
    opened = open_page(lambda: explanation)
    assert opened.run(rows) == [
        [False, "The", "50 %"],
        [False, "no answer", "25 %"],
        [True, "It", "13 %"],
    ]
    rare = msgspec.structs.replace(explanation, output=[Output("cow", math.log(0.01), words)])
    opened = open_page(lambda: rare)
    assert opened.run(rows)[2:] == [[False, "It", "13 %"], [True, "cow", "1.0 %"]]


@pytest.mark.parametrize(
    ("probability", "text"), [(0.042, "4.2 %"), (4.2e-4, "0.04 %"), (3e-7, "< 0.001 %")]
)
def test_a_small_probability_is_not_shown_as_0(open_page, probability, text):
    rare = msgspec.structs.replace(
        samples.classification(), output=[Output("cow", math.log(probability), {"cat": 0.9})]
    )
    opened = open_page(lambda: rare)
    assert opened.text("#why .alternative.chosen .number") == text


def test_a_word_of_more_tokens_than_fit_in_a_line_is_broken(open_page):
    long_word = samples.translation([" a", *["a"] * 200], samples.UFER, num_layers=1, num_heads=1)
    opened = open_page(lambda: long_word)
    overflow = "(box => box.scrollWidth - box.clientWidth)(document.querySelector('.words'))"
    assert opened.run(overflow) == 0


def test_the_underline_is_as_thick_as_the_output_is_probable(open_page):
    opened = open_page(samples.translation)
    probabilities = [max(o.alternatives.values()) for o in samples.translation().output]
    widths = opened.run(
        "[...document.querySelectorAll('.word.output')].map((word) =>"
        " parseFloat(word.style.getPropertyValue('--thickness')))"
    )
    assert widths == pytest.approx([0.5 + 4.5 * p for p in probabilities], abs=0.06)


def test_a_dark_page_follows_the_reader_s_setting(open_page):
    opened = open_page(samples.translation, scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert opened.run(background) == "rgb(19, 19, 22)"
    assert opened.page.evaluate(COLORS, "#one-head canvas.cells") > 16
    opened.page.emulate_media(color_scheme="light")
    assert opened.run(background) == "rgb(255, 255, 255)"


def long_output():
    return samples.translation(samples.BANK, samples.BANK * 20, num_layers=1, num_heads=2)


def test_a_printed_page_has_the_whole_output_and_nothing_to_click(open_page):
    opened = open_page(long_output)
    hidden = "document.querySelector('.words:has(.output)')"
    hidden = f"{hidden}.scrollHeight - {hidden}.clientHeight"
    display = "getComputedStyle(document.querySelector('.toolbar')).display"
    assert opened.run(hidden) > 50
    assert opened.run(display) == "flex"
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 720, "height": 1000})
    assert opened.run(hidden) == 0
    assert opened.run(display) == "none"
    assert opened.run("getComputedStyle(document.body).printColorAdjust") == "exact"


def test_a_page_without_scripts_has_its_text(browser, saved):
    page = browser.new_page(java_script_enabled=False)
    page.goto(saved(markup).as_uri())
    text = page.locator("noscript pre").inner_text()
    assert text.strip() == format_text(markup(), 100).strip()
    assert page.evaluate("document.querySelectorAll('noscript img, noscript script').length") == 0
    page.close()


def test_the_code_of_a_diagram_is_broken_into_lines_on_paper(open_page):
    code = "flowchart TB\n    n0" + "[self-attention<br/>4 heads of 32]" * 20
    model = samples.model(diagram=code)
    explanation = msgspec.structs.replace(samples.classification(), model=model)
    opened = open_page(lambda: explanation)
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 720, "height": 1000})
    assert opened.run("document.querySelector('pre.diagram').scrollWidth") <= 720
    assert opened.run(OVERFLOW) == 0


def test_text_that_looks_like_markup_is_shown_and_never_run(open_page):
    opened = open_page(markup)
    assert opened.run("window.hacked") is None
    assert opened.text(".word[data-feature='0']") == "<script>window.hacked=1</script>"
    assert opened.run("document.querySelectorAll('main script, main img').length") == 0


def test_words_of_which_nothing_is_seen_are_named_on_a_page_and_in_its_picture(open_page):
    opened = open_page(unseen)
    words = opened.run(
        "[...document.querySelectorAll('.word[data-feature]')].map((word) => word.textContent)"
    )
    assert words == [*samples.UNSEEN.values(), "</s>"]
    root = ElementTree.fromstring(download(opened, "SVG"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"U+200B", "U+FFFF", "U+202E"} <= set(texts)
    assert "ende" in texts


def test_the_policy_of_a_page_forbids_requests_and_scripts_of_others(open_page):
    opened = open_page(samples.translation)
    blocked = opened.run("fetch('https://example.org/').then(() => 'sent', () => 'blocked')")
    assert blocked == "blocked"
    opened.run(
        "{ const script = document.createElement('script');"
        " script.textContent = 'window.hacked = 4'; document.body.append(script); }"
    )
    assert opened.run("window.hacked") is None


def test_words_from_right_to_left_begin_at_the_right(open_page):
    opened = open_page(from_right_to_left)
    lefts = opened.run(
        "[...document.querySelectorAll('.word[data-feature]')].slice(0, 3)"
        ".map((word) => word.getBoundingClientRect().left)"
    )
    assert lefts == sorted(lefts, reverse=True)


def test_bytes_and_marks_of_a_right_to_left_output_keep_their_order(open_page):
    output = [*samples.RIGHT_TO_LEFT[:2], r"\xd7", r"\x95"]  # and the end
    opened = open_page(
        lambda: samples.translation(samples.RIGHT_TO_LEFT, output, num_layers=1, num_heads=2)
    )
    lefts = opened.run(
        "[...document.querySelectorAll('.word.output')]"
        ".map((word) => word.getBoundingClientRect().left)"
    )
    assert len(lefts) == 5 and lefts == sorted(lefts, reverse=True)


def test_a_table_says_what_a_map_shows(open_page):
    opened = open_page(samples.translation)
    opened.page.click("#alignment summary")
    opened.page.wait_for_selector("#alignment table")
    rows = opened.page.locator("#alignment table tbody tr")
    assert rows.count() == 8
    score = samples.translation().methods["ig"].scores[1][1]
    assert rows.nth(1).locator("td").nth(1).inner_text() == f"{score:.2f}".replace("-", "−")


def test_a_table_of_weights_has_the_thousandths_of_the_explanation(open_page):
    opened = open_page(samples.translation)
    opened.page.click("#one-head summary")
    opened.page.wait_for_selector("#one-head table")
    cells = opened.run(
        "[...document.querySelectorAll('#one-head .twin tbody td:nth-child(3)')]"
        ".map((cell) => cell.textContent)"
    )
    rows = [
        row for layer in samples.translation().attention for head in layer.heads for row in head
    ]
    assert cells in [
        [f"{weight / 1000:.3f}" for weight in [*sorted(filter(None, row.weights))[::-1], row.rest]]
        for row in rows
    ]


def test_numbers_of_a_table_are_written_like_those_of_a_text(open_page):
    values = [-8.34e-7, 1.3e-11, 2.54e5, 0.0708, -12.34, 0.0, 0.00099, 0.124996, -9.99499]
    explanation = samples.classification()
    scores = [[*values, *[0.5] * (len(explanation.input) - len(values))]]
    result = msgspec.structs.replace(explanation.methods["ig"], scores=scores)
    opened = open_page(
        lambda: msgspec.structs.replace(explanation, methods={"ig": result}, control=[])
    )
    opened.page.click("#why summary")
    opened.page.wait_for_selector("#why .twin table")
    cells = opened.run(
        "[...document.querySelectorAll('#why .twin tbody td:nth-child(2)')]"
        ".map((cell) => cell.textContent)"
    )
    assert cells[: len(values)] == [number_text(value) for value in values]


def download(opened, name: str) -> bytes:
    with opened.page.expect_download() as info:
        opened.page.click(f".tool >> text={name}")
    return info.value.path().read_bytes()


def test_4096_tokens_with_a_window_open_in_less_than_a_second(open_page, window):
    metrics = window.page.context.new_cdp_session(window.page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})  # of its processor
    opened = open_page(samples.windowed)
    seconds = {m["name"]: m["value"] for m in metrics.send("Performance.getMetrics")["metrics"]}
    metrics.detach()
    assert seconds["TaskDuration"] < 1
    assert opened.run("document.querySelectorAll('.word').length") < 500
    opened.page.click(".strips canvas", position={"x": 200, "y": 5})
    chosen = opened.run(
        "Number(document.querySelector('.word[aria-pressed=true]').dataset.feature)"
    )
    assert chosen > 480  # the line of words follows


def test_a_picture_of_what_is_shown_can_be_saved(open_page):
    opened = open_page(samples.translation)
    opened.page.click(".word.output >> nth=1")
    root = ElementTree.fromstring(download(opened, "SVG"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Why “\u2068Ufer\u2069”", "geschlossen", "decoder.layers.1"} <= set(texts)
    images = list(root.iter("{http://www.w3.org/2000/svg}image"))
    assert len(images) == 8 + 2 + 2  # heads, maps and scales
    png = download(opened, "PNG")
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 2 * 1200
    assert opened.problems == []


def test_a_notebook_s_frame_draws_the_page_and_saves_files(open_page, window):
    window.page.goto("about:blank")
    window.page.set_content(NotebookFrame(samples.forecast())._repr_html_())
    frame = window.page.frame_locator("iframe")
    assert "+1" in frame.locator("#why h2").inner_text()
    with window.page.expect_download() as info:
        frame.locator(".tool >> text=JSON").click()
    assert json.loads(info.value.path().read_bytes())["text"] == "demand.csv"
    assert window.problems == []


def test_the_saved_data_is_the_explanation_with_what_is_shown(open_page):
    opened = open_page(samples.translation)
    opened.page.click(".word.output >> nth=1")
    content = json.loads(download(opened, "JSON"))
    assert content.pop("shown")["output"] == 1
    original = samples.translation()
    explanation = msgspec.convert(content, Explanation)
    assert explanation.attention[0].computed == original.attention[0].computed
    row, same = explanation.attention[0].heads[0][0], original.attention[0].heads[0][0]
    assert dict(zip(row.keys, row.weights, strict=True)) == {
        key: weight for key, weight in zip(same.keys, same.weights, strict=True) if weight
    }
    scores, same = (each.methods["ig"].scores[0] for each in (explanation, original))
    assert [score is None for score in scores] == [score is None for score in same]
    assert scores[:10] == pytest.approx(same[:10], rel=1e-5)


def test_a_method_that_did_not_converge_is_marked_where_its_row_and_figures_are(open_page):
    opened = open_page(samples.unconverged)
    assert opened.text("#why .figures .warning") == "not converged: error 92 %"
    assert opened.text("#why .name.unconverged").split("\n")[1:] == ["not converged", "error 92 %"]
    assert opened.page.locator("#why .unconverged .bar, #why .bar-cell.unconverged .bar").count()


def test_a_negative_correlation_with_the_control_is_called_the_reverse(open_page):
    text = open_page(samples.unconverged).text("#why .note")
    assert text.endswith(
        "−0.29 with these: without training the picture is rather the reverse of this one."
    )


def test_a_table_whose_columns_are_out_of_sight_says_so(open_page):
    opened = open_page(samples.unconverged, width=400)
    more = "More columns follow: scroll to the side"
    assert opened.text("#layers .scroll.has-more + .hint") == more
    assert opened.run(
        "[...document.querySelectorAll('#layers td.score')].map((td) => td.textContent)"
    ) == 2 * ["−5.11"]
    opened.run("document.querySelector('#layers .scroll').scrollLeft = 1e4")
    opened.page.wait_for_selector("#layers .scroll:not(.has-more)")
    assert opened.text("#layers .scroll + .hint") == ""


def test_english_in_a_hebrew_line_reads_from_left_to_right(open_page):
    opened = open_page(samples.mixed_scripts)
    words = opened.run(
        "[...document.querySelectorAll('.word[data-feature]')].map((word) =>"
        " [word.textContent, word.getBoundingClientRect().left])"
    )
    order = [text for text, _ in sorted(words, key=lambda word: word[1])]
    assert order == ["</s>", "the", "movie", "is", "lovely", "ט", "סרט"]


def test_bytes_of_one_character_are_one_word_whose_score_is_their_sum(open_page):
    opened = open_page(samples.mixed_scripts)
    above = opened.run(
        "[...document.querySelectorAll('#why .column .text')].map((text) => text.textContent)"
    )
    assert above == ["סרט", "ט", "the", "movie", "is", "lovely", "</s>"]
    opened.page.click(".word[data-feature='1']")
    scores = samples.mixed_scripts().methods["ig"].scores[0]
    total = number_text(scores[1] + scores[2])
    assert opened.text("#why .status") == f"“ט” {total} nats · integrated gradients"
    opened.page.click("#why summary")
    opened.page.wait_for_selector("#why .twin table")
    assert opened.page.locator("#why .twin tbody th").nth(2).inner_text() == "ט·2"


def test_a_forecast_shows_its_values_and_short_times(open_page):
    opened = open_page(samples.forecast_of_times)
    assert opened.text(".word.output >> nth=1") == "03-29 01:00 52.2"
    assert opened.text("#why h2") == "1Why “2026-03-29T00:00:00” is 51.2 units of the series"
    assert opened.text("#layers th.chosen") == "03-29 00:00"
    assert opened.text("#layers td.score") == "50.0"
    assert opened.run("document.querySelectorAll('#why svg.values path').length") == 1
    assert "probab" not in opened.run("document.getElementById('main').innerText.toLowerCase()")


def test_a_value_between_missing_ones_is_seen(open_page):
    explanation = samples.forecast_of_times()
    history = [None if number % 2 else value for number, value in enumerate(explanation.history)]
    opened = open_page(lambda: msgspec.structs.replace(explanation, history=history))
    box = opened.run(
        "(({width, height}) => [width > 100, height > 10])"
        "(document.querySelector('#why svg.values path').getBBox())"
    )
    assert box == [True, True]
    lines = "document.querySelector('#why svg.values path').getAttribute('d').split('h1.5').length"
    assert opened.run(lines) == 1 + len(history) // 2


def test_an_image_is_shown_and_lies_under_the_map_of_the_chosen_method(open_page):
    opened = open_page(samples.image_with_pixels)
    sizes = opened.run(
        "[...document.querySelectorAll('#why .patch-maps img')].map((image) =>"
        " [image.naturalWidth, image.getBoundingClientRect().width])"
    )
    assert [natural for natural, _ in sizes] == [7, 7]
    assert sizes[0][1] == sizes[1][1] > 150
    assert opened.run("document.querySelectorAll('#why .over-image').length") == 1


def test_turned_labels_without_room_are_left_out(open_page):
    opened = open_page(samples.image)
    places = opened.run(
        "[...document.querySelectorAll('#alignment .labels text[transform]')].map((text) =>"
        " Number(text.getAttribute('x')))"
    )
    assert 10 < len(places) < 49
    assert min(after - before for before, after in pairwise(places)) >= 16


def test_training_rows_are_in_tables_with_bars_and_what_training_again_gave(open_page):
    opened = open_page(samples.with_training_rows)
    note = opened.text("#influence .note")
    assert note.startswith("pairs.tsv, 20,412 pairs: together +2.71 and −1.93 nats")
    rows = opened.run(
        "[...document.querySelectorAll('#influence tbody tr')].map((row) => "
        "[...row.children].map((cell) => cell.textContent))"
    )
    assert [row[2] for row in rows] == ["line 4,104", "line 12", "line 88", "line 577", "line 31"]
    assert rows[0][0] == "+0.023"
    assert rows[3][0] == "−0.031"
    assert len(rows[3][4]) == 400
    assert rows[3][4].startswith("<b>The bank</b>")
    widths = opened.run(
        "[...document.querySelectorAll('#influence .bar')].map((bar) => bar.style.width)"
    )
    assert widths[3] == "100%"
    colors = opened.run(
        "[...document.querySelectorAll('#influence .bar')].map((bar) => bar.style.background)"
    )
    assert len(set(colors)) == 2
    assert "−2.40 without the 200 of most influence" in opened.text(
        "#influence > .note + * + .note"
    )


TEXT_SIZES = """[...document.querySelectorAll("body *")]
  .filter((element) => element.checkVisibility() && [...element.childNodes].some(
    (node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
  .filter((element) => !["STYLE", "SCRIPT"].includes(element.tagName))
  .filter((element) => getComputedStyle(element).fontSize !== "0px") // hidden on purpose
  .map((element) => {
    const matrix = element.closest("svg") && element.getScreenCTM();
    const scale = matrix ? Math.hypot(matrix.c, matrix.d) : 1;
    return parseFloat(getComputedStyle(element).fontSize) * scale;
  })"""


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("make", [samples.translation, samples.windowed, samples.image])
def test_no_text_of_a_page_is_smaller_than_11_pixels(open_page, make, width):
    sizes = open_page(make, width=width).run(TEXT_SIZES)
    assert len(sizes) > 50
    assert min(sizes) >= 11 - 1e-3


CELL_CONTRASTS = """[...document.querySelectorAll(".lens td[style]")].map((cell) => {
  const style = getComputedStyle(cell);
  const [text, ground] = [style.color, style.backgroundColor].map((color) => {
    const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  });
  return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
})"""


def every_probability():
    explanation = samples.translation()
    rows = [
        msgspec.structs.replace(
            row, probabilities=[(index + 7 * at) % 25 / 24 for index in range(len(row.texts))]
        )
        for at, row in enumerate(explanation.lens)
    ]
    return msgspec.structs.replace(explanation, lens=rows)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_on_colored_cells_have_the_contrast_of_wcag(open_page, scheme):
    contrasts = open_page(every_probability, scheme=scheme).run(CELL_CONTRASTS)
    assert len(contrasts) > 12
    assert min(contrasts) >= 4.5


def of_two_columns():
    wide = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300" viewBox="0 0 900 300">'
        "<text x='9' y='20' font-size='11'>a</text></svg>"
    )
    explanation = samples.translation()
    model = msgspec.structs.replace(explanation.model, picture=wide)
    return msgspec.structs.replace(explanation, model=model)


def test_a_diagram_wider_than_a_column_is_below_both_in_its_own_size(open_page):
    opened = open_page(of_two_columns)
    opened.page.wait_for_selector(".panels ~ #architecture")
    assert opened.run("document.querySelector('img.diagram').clientWidth") == 900
    assert opened.text("#architecture .hint") == ""


def test_a_diagram_wider_than_a_phone_is_scrolled_and_says_so(open_page):
    opened = open_page(of_two_columns, width=400)
    opened.page.wait_for_selector(".panels ~ #architecture")
    assert opened.run("document.querySelector('img.diagram').clientWidth") == 900
    assert "scroll to the side" in opened.text("#architecture .hint")
    assert opened.run(OVERFLOW) == 0
