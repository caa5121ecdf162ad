"""The page of an explanation: one file that opens in a browser, from disk, without a network.

`document.Explanation` goes in; nothing is computed here. The same document as lines of a terminal,
in a notebook, as a picture, and as a page that asks the service that it comes from.
"""

from regard.explain.page.explanation_picture import explanation_svg
from regard.explain.page.html_page import page_html, page_payload, save_page
from regard.explain.page.notebook_frame import NotebookFrame
from regard.explain.page.served_page import ServedModel, served_page
from regard.explain.page.terminal_view import format_text, terminal_text

__all__ = [
    "NotebookFrame",
    "ServedModel",
    "explanation_svg",
    "format_text",
    "page_html",
    "page_payload",
    "save_page",
    "served_page",
    "terminal_text",
]
