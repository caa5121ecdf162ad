"""The page of a service in a browser: a text is typed, its output shown, and then explained."""

from __future__ import annotations

import json
import threading
from xml.etree import ElementTree

import pytest
from tests.explain import sample_explanations as samples
from tests.explain.page.stand_in_service import Reply, StandInService, problem, said
from tests.explain.page.test_html_page_in_browser import COLORS, OVERFLOW
from tests.explain.page.test_served_page import served_model

from regard.explain.page import page_payload, served_page

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"
SHOWN = "#explanation[aria-busy=false] .panels"
FAILED = ".problem:not([hidden])"


@pytest.fixture(scope="module")
def stand_in():
    """A service for all tests of this module."""
    service = StandInService()
    yield service
    service.close()


@pytest.fixture(scope="module")
def payloads():
    """Explanations as the service sends them, each packed once."""
    return {
        make.__name__: page_payload(make())
        for make in (samples.translation, samples.classification)
    }


@pytest.fixture
def service(stand_in, payloads):
    """The service, which translates and explains each text as if it were the same."""
    stand_in.asked.clear()
    stand_in.replies = {
        "v1": lambda _: said({"text": "Das Ufer am Fluss war geschlossen."}),
        "explain": lambda _: Reply(payloads["translation"]),
    }
    return stand_in


@pytest.fixture
def held(service, payloads):
    """Holds back explanations until it is set."""
    may_go = threading.Event()
    service.replies["explain"] = lambda _: (may_go.wait(10), Reply(payloads["translation"]))[1]
    yield may_go
    may_go.set()


@pytest.fixture
def live(watched_window, service):
    """Opens the page of the service for a model."""

    def open_in_window(path: str = "", *, width: int = 1200, **fields):
        service.page = served_page(served_model(**fields))
        watched_window.open(service.url + path, width)
        return watched_window

    return open_in_window


def ask(opened, text: str = "The bank by the river was closed.") -> None:
    opened.page.fill("#text", text)
    opened.page.keyboard.press("Enter")


def test_the_output_is_shown_while_its_explanation_is_computed(live, service, held):
    opened = live()
    ask(opened)
    opened.page.wait_for_selector(".said .line")
    assert opened.text(".said .text") == "Das Ufer am Fluss war geschlossen."
    assert opened.text(".said .facts") == "41 ms"
    opened.page.wait_for_selector(".progress:has-text('Explaining… 1 s')")
    assert opened.page.locator(".panels").count() == 0
    assert opened.run("document.getElementById('explanation').ariaBusy") == "true"
    held.set()
    opened.page.wait_for_selector(SHOWN)
    assert opened.text(".progress").startswith("Explained in ")
    assert opened.text("#why h2") == "1Why “Das”"
    opened.page.wait_for_selector("#alignment canvas.cells")
    assert opened.page.evaluate(COLORS, "#alignment canvas.cells") > 16
    assert opened.run("document.getElementById('text').value").startswith("The bank")
    text = {"text": "The bank by the river was closed."}
    assert service.asked == [("/v1/translate", text), ("/explain", text)]
    assert {url for url in opened.requests if not url.startswith(("data:", "blob:"))} == {
        service.url + path for path in ("", "v1/translate", "explain")
    }
    assert opened.problems == []


def test_a_text_is_neither_in_the_address_nor_stored(live):
    opened = live()
    ask(opened, "a secret")
    opened.page.wait_for_selector(SHOWN)
    kept = "JSON.stringify([location.href, document.title, {...localStorage}, {...sessionStorage}])"
    assert "secret" not in opened.run(kept) + opened.run("document.cookie")


def test_a_second_question_takes_the_place_of_the_first(live, service, payloads, tmp_path):
    opened = live()
    service.replies["explain"] = lambda _: Reply(payloads["classification"])
    ask(opened, "What a lovely day")
    opened.page.wait_for_selector(SHOWN)
    opened.page.click(".word[data-feature='2']")
    may_go = threading.Event()
    reply = Reply(payloads["translation"])
    service.replies["explain"] = lambda _: (may_go.wait(10), reply)[1]
    ask(opened)
    opened.page.wait_for_selector(".progress:has-text('Explaining')")
    assert opened.text("#why h2") == "1Why “positive”, not “negative”"
    assert opened.run("getComputedStyle(document.getElementById('explanation')).opacity") < "1"
    may_go.set()
    opened.page.wait_for_selector("#why h2:has-text('Das')")
    assert opened.page.locator("#why").count() == 1
    opened.page.click(".word.output >> nth=4")  # the first had one output
    assert opened.text("#why h2") == "1Why “war”"
    assert opened.text("#alignment .status").startswith("“war” ←")
    with opened.page.expect_download() as download:
        opened.page.click("text=JSON")
    download.value.save_as(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert len(document["output"]) == len(samples.translation().output)
    assert document["shown"]["output"] == 4 and document["shown"]["feature"] is None
    assert opened.problems == []


def test_a_question_that_replaces_another_cancels_it(live, service, held):
    opened = live()
    ask(opened, "first")
    opened.page.wait_for_selector(".progress:has-text('Explaining')")
    may_go = threading.Event()
    service.replies["v1"] = lambda _: (may_go.wait(10), problem(422, "not the second"))[1]
    ask(opened, "second")
    held.set()
    opened.page.wait_for_timeout(100)
    assert opened.text(".progress").startswith("Translating…")
    assert opened.page.locator("text=Cancel").is_visible()
    assert opened.page.locator(".panels").count() == 0
    may_go.set()
    opened.page.wait_for_selector(FAILED)
    assert [body["text"] for _, body in service.asked] == ["first", "first", "second"]


def test_an_empty_text_leaves_what_is_being_asked_alone(live, service, held):
    opened = live()
    ask(opened)
    ask(opened)  # the same once more
    opened.page.wait_for_selector(".said .line")
    ask(opened, "")
    assert opened.text(FAILED) == "Text to translate: nothing is typed yet."
    held.set()
    opened.page.wait_for_selector(SHOWN)
    assert opened.page.locator(FAILED).count() == 0
    assert [path for path, _ in service.asked] == ["/v1/translate", "/explain"]


def test_a_problem_is_said_in_words_and_the_text_stays(live, service):
    opened = live()
    ask(opened)
    opened.page.wait_for_selector(SHOWN)
    service.replies["v1"] = lambda _: problem(422, "The text has <b>no</b> words.", "Type some.")
    ask(opened, "???")
    opened.page.wait_for_selector(FAILED)
    assert opened.text(FAILED) == "The text has <b>no</b> words.\n\nType some."
    assert opened.page.locator(FAILED).get_attribute("role") == "alert"
    assert opened.page.input_value("#text") == "???"
    assert opened.text(".progress") == "Below is still what was explained before."
    assert opened.page.locator(SHOWN).count() == 1
    assert opened.page.locator(".said .line").count() == 0


def test_a_busy_service_says_when_to_ask_again_and_is_asked_again(live, service):
    service.replies["v1"] = lambda _: problem(429, "16 requests are waiting.", Retry_After="3")
    opened = live()
    ask(opened)
    opened.page.wait_for_selector(FAILED)
    assert opened.text(FAILED).startswith("16 requests are waiting.\n\nAsk again in 3 seconds.")
    service.replies["v1"] = lambda _: said({"text": "Ja"})
    opened.page.click("text=Ask again >> nth=-1")
    opened.page.wait_for_selector(SHOWN)
    assert opened.page.locator(FAILED).count() == 0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=None), "The service does not answer.\n\nIs it still running?"),
        (Reply(b"<h1>Bad</h1>", 502, "text/html"), "status 502 Bad Gateway."),
        (Reply(b"{", 200), "broke off, or is not JSON"),
        (Reply(b"{}", 200), "The page could not show the answer"),
    ],
    ids=["closed", "proxy", "cut", "other"],
)
def test_an_answer_that_is_none_is_said_in_words(live, service, reply, words):
    service.replies["v1"] = lambda _: reply
    opened = live()
    ask(opened)
    opened.page.wait_for_selector(FAILED)
    assert words in opened.text(FAILED)
    assert opened.page.input_value("#text").startswith("The bank")


def test_a_question_can_be_cancelled(live, held):
    opened = live()
    ask(opened)
    opened.page.wait_for_selector(".said .line")
    opened.page.click("text=Cancel")
    assert opened.text(".progress") == "Cancelled."
    assert opened.run("document.activeElement.textContent") == "Explain"
    held.set()
    ask(opened)
    opened.page.wait_for_selector(SHOWN)
    assert opened.problems == []


def test_a_text_that_is_empty_or_too_long_is_not_sent(live, service):
    opened = live(max_characters=8)
    ask(opened, "  ")
    assert opened.text(FAILED) == "Text to translate: nothing is typed yet."
    ask(opened, "😀" * 9)
    assert opened.text(FAILED).startswith(
        "Text to translate: 9 characters; 8 are explained at most."
    )
    assert opened.text(".length") == "9 of 8 characters · "
    assert service.asked == []
    ask(opened, "😀" * 8)
    opened.page.wait_for_selector(SHOWN)


def test_an_answer_has_a_question_a_context_and_another_answer(live, service):
    service.replies["v1"] = lambda _: said({"answer": "press it", "probability": 0.25}, ms=1234)
    opened = live(task="question_answering", verb="answer")
    opened.page.fill("#question", "How?")
    opened.page.fill("#context", "Press")
    opened.page.press("#context", "Enter")
    opened.page.type("#context", "it.")
    opened.page.click(".more summary")
    opened.page.fill(".more input >> nth=0", "hold it")
    opened.page.press("#context", "Control+Enter")
    opened.page.wait_for_selector(SHOWN)
    assert opened.text(".said .text") == "press it  25 %"
    assert opened.text(".said .facts") == "1.2 s"
    assert opened.text(".more summary") == "More: “hold it”"
    assert service.asked == [
        ("/v1/answer", {"question": "How?", "context": "Press\nit."}),
        ("/explain", {"text": "How?", "context": "Press\nit.", "contrast": "hold it"}),
    ]


@pytest.mark.parametrize("path", ["models/ende/", "models/ende", "models/ende/?a=b/#c/"])
def test_a_service_may_be_below_a_path_of_another(live, service, path):
    opened = live(path, examples=["The bank"])
    opened.page.click(".examples button")
    opened.page.wait_for_selector(SHOWN)
    assert [path for path, _ in service.asked] == [
        "/models/ende/v1/translate",
        "/models/ende/explain",
    ]


def test_a_model_that_reads_no_text_says_how_it_is_asked(live, service):
    opened = live(verb="classify", takes_text=False, curl="--data-binary @scan.png")
    assert opened.page.locator("textarea").count() == 0
    command = f"curl {service.url}v1/classify --data-binary @scan.png"
    assert opened.text(".command") == command
    live(verb="embed", takes_text=False, examples=["It's"])
    body = """-H 'Content-Type: application/json' -d '{"text":"It'\\''s"}'"""
    assert opened.text(".command") == f"curl {service.url}v1/embed {body}"


def test_a_served_page_fits_a_phone_and_its_picture_has_no_box(live, tmp_path):
    opened = live(width=390)
    ask(opened)
    opened.page.wait_for_selector(SHOWN)
    assert opened.run(OVERFLOW) == 0
    with opened.page.expect_download() as download:
        opened.page.click("text=SVG")
    download.value.save_as(tmp_path / "a.svg")
    picture = (tmp_path / "a.svg").read_text(encoding="utf-8")
    drawn = [*ElementTree.fromstring(picture).iter(f"{SVG}text")]
    texts = {element.text: float(element.get("y")) for element in reversed(drawn)}  # the first
    assert "Alignment" in texts and "Text to translate" not in texts
    word, form, below = opened.run(
        "['.sentence .part', 'form', '#explanation'].map((selector) =>"
        " document.querySelector(selector).getBoundingClientRect())"
    )
    on_page = (word["top"] + word["bottom"]) / 2
    assert texts["source"] == pytest.approx(on_page - (below["top"] - form["top"]), abs=1)
    assert opened.problems == []
