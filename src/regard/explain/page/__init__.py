"""The page of an explanation: one file that opens in a browser, from disk, without a network.

`document.Explanation` goes in; nothing is computed here. The same document as lines of a terminal,
in a notebook, and as a picture.
"""

from regard.explain.page.explanation_picture import explanation_svg
from regard.explain.page.html_page import page_html, save_page
from regard.explain.page.notebook_frame import NotebookFrame
from regard.explain.page.terminal_view import format_text, terminal_text

__all__ = [
    "NotebookFrame",
    "explanation_svg",
    "format_text",
    "page_html",
    "save_page",
    "terminal_text",
]
