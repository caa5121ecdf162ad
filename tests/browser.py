"""Debian's Chromium, headless, and pages that are open in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class OpenPage:
    """A page in the browser, with all that it asked for and complained about."""

    page: object
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        text = self.page.locator(selector).first.inner_text()
        return text.replace("\u2068", "").replace("\u2069", "")  # around quoted words

    def run(self, script: str):
        return self.page.evaluate(script)

    def open(self, url: str, width: int = 1200, scheme: str = "light") -> None:
        """Go to a page, and wait until it has drawn itself."""
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme, media="screen")
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=20_000)


@pytest.fixture(scope="session")
def browser():
    """The browser, started once."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=executable)
        except driver.Error as error:
            pytest.skip(f"{executable} does not start: {error.message.splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="session")
def window(browser):
    """The one window of all tests: a second costs a second."""
    return OpenPage(browser.new_page(accept_downloads=True))


@pytest.fixture
def watched_window(window):
    """The window, with what this test asked for and what it complained about."""

    def on_console(message):
        if message.type in ("error", "warning"):
            window.problems.append(message.text)

    listeners = {
        "request": lambda request: window.requests.append(request.url),
        "pageerror": lambda error: window.problems.append(str(error)),
        "console": on_console,
    }
    window.requests.clear()
    window.problems.clear()
    for event, listener in listeners.items():
        window.page.on(event, listener)
    yield window
    for event, listener in listeners.items():
        window.page.remove_listener(event, listener)
